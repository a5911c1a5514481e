"""Measure the drift verdict and write the tables into README.md: ``python -m benchmarks.drift [--share 0.1]``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from benchmarks.drift import calibration, cost, power, small_references, streams

README = Path(__file__).with_name("README.md")
START, END = "<!-- results -->", "<!-- end of results -->"
BUDGET = 1e-3


def measured(pool: ProcessPoolExecutor, share: float) -> Iterator[str]:
    """Run every simulation on all processes, then the cost alone, and yield Markdown."""
    looks = max(round(4000 * share), 100)
    yield "### False alarms over time\n"
    found = []
    for scenario in streams.scenarios(share):
        counts = pool.map(streams.onsets, repeat(scenario), range(scenario.streams), repeat(BUDGET))
        found.append((scenario, list(counts)))
    yield from streams.table(found, BUDGET)
    yield "\n### Level of each deciding test\n"
    laws, rows = zip(*calibration.cells(), strict=True)
    yield from calibration.table(list(pool.map(calibration.rejections, laws, rows, repeat(looks))), looks)
    yield "\n### Level of small references\n"
    laws, references, windows = zip(*small_references.cells(), strict=True)
    half = max(looks // 2, 100)
    levels = pool.map(small_references.rejections, laws, references, windows, repeat(half))
    yield from small_references.table(list(levels), half)
    yield "\n### Power\n"
    yield from power.table(list(pool.map(power.power, power.drifts(), repeat(looks // 2))), looks // 2)
    yield "\n### Cost\n"
    yield from cost.table()


def main() -> None:
    """Measure, and put the tables between the marks of README.md; a share of the work is printed only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="part of the simulations to run")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.processes) as pool:
        text = "\n".join(measured(pool, chosen.share))
    print(text)
    if chosen.share >= 1:
        before, rest = README.read_text(encoding="utf-8").split(START)
        README.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
