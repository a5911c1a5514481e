"""Measure the quick scenarios and write the tables into README.md and the figures into docs/scaling.md."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.load.bodies import example_body
from benchmarks.load.closed_loop import Loader
from benchmarks.load.rounds import Measured, Rounds
from benchmarks.results import scaling, targets
from benchmarks.results.table import environment, promises, publish, table
from benchmarks.servers.bundles import make_bundles
from benchmarks.servers.processes import LOAD_CORE, pin
from tests.support.processes import Postgres

__all__ = ["example_body", "main"]
STARTS = 5


def main() -> None:
    """Run every scenario in rounds and publish what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="rounds, in each of which every server has its turn")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one measurement")
    parser.add_argument("--driver", action="store_true", help="load with driver.py even where wrk is installed")
    parser.add_argument("--print", action="store_true", help="print the results and change no file")
    chosen = parser.parse_args()
    loader = Loader(None if chosen.driver else shutil.which("wrk"))
    pin(LOAD_CORE)
    measured = measure(loader, chosen.runs, chosen.seconds)
    method = f"medians over {chosen.runs} alternating rounds of {chosen.seconds:g} s, load from {loader.name}"
    disk = table(
        ("fsync of 4 kB, p50 ms", "p99 ms"),
        [(f"{p50:.2f}", f"{p99:.2f}") for p50, p99 in zip(measured.fsync_p50_ms, measured.fsync_p99_ms, strict=True)],
        left=0,
    )
    lines = targets.judge(measured)
    if loader.wrk is None:
        method += ", which is slower than the floor: without wrk there are no verdicts"
        lines = [replace(line, met=None) for line in lines]
    parts = (promises(lines), targets.servers(measured), disk)
    publish("results", environment("make bench", method) + "\n".join(parts), write=not chosen.print)
    scaling.publish(scaling.of(measured), write=not chosen.print)


def measure(loader: Loader, runs: int, seconds: float) -> Measured:
    """All scenarios, in rounds."""
    postgres = Postgres()
    try:
        with tempfile.TemporaryDirectory(prefix="plumbline-bench-") as folder:
            models = Path(folder) / "models"
            make_bundles(models, "forest", "boosting")
            rounds = Rounds(Path(folder), models, loader, seconds, postgres)
            for number in range(runs):
                rounds.run(number)
            for _ in range(STARTS):
                rounds.start()
            return rounds.measured
    finally:
        postgres.stop()


if __name__ == "__main__":
    main()
