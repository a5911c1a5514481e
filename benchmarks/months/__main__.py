"""Simulate months and count alerts: ``python -m benchmarks.months --months 20 --seed 1``; again, to go on."""

from __future__ import annotations

import argparse
import asyncio
import logging
from pathlib import Path
from tempfile import gettempdir
from time import monotonic

import structlog

from benchmarks.months.month import DAYS, Month, known
from benchmarks.months.results import results
from benchmarks.results.table import environment, publish

FOLDER = Path(gettempdir()) / "plumbline-months"


def main() -> None:
    """Go on with the months that are not at their end, for some seconds; or publish what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=20, help="how many, each with a stream of its own")
    parser.add_argument("--seed", type=int, default=1, help="of the first month; the others follow")
    parser.add_argument("--rows-per-hour", type=float, default=30.0, help="mean rate of the stream")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after the day that passes these")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of results and unfinished months")
    parser.add_argument("--publish", action="store_true", help="simulate nothing, and write the table into README.md")
    chosen = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if not chosen.publish:
        asyncio.run(_simulate(chosen, until=monotonic() + chosen.seconds))
    method = f"months of {DAYS} days at default settings, each with a model, a reference and a store of its own"
    text = environment("python -m benchmarks.months", method) + results(known(chosen.folder))
    publish("months", text, write=chosen.publish)


async def _simulate(chosen: argparse.Namespace, *, until: float) -> None:
    begun = {(month.seed, month.rows_per_hour): month for month in known(chosen.folder)}
    for seed in range(chosen.seed, chosen.seed + chosen.months):
        key = (seed, chosen.rows_per_hour)
        month = begun.get(key) or Month(*key)
        if month.days < DAYS and monotonic() < until:
            await month.run(chosen.folder, until=until)


if __name__ == "__main__":
    main()
