"""Measure the scenarios that take long, each into a section of its own in README.md."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.load.closed_loop import Loader
from benchmarks.results.table import environment, publish
from benchmarks.scenarios import checks, ingredients, memory, retention, shadow
from benchmarks.scenarios.settings import Setting
from benchmarks.servers.processes import LOAD_CORE, pin

SCENARIOS: dict[str, Callable[[Setting], tuple[str, str]]] = {
    "checks": checks.measure,
    "ingredients": ingredients.measure,
    "memory": memory.measure,
    "retention": retention.measure,
    "shadow": shadow.measure,
}
"""Each gives how it was measured, and its tables."""


def main() -> None:
    """Run the chosen scenarios and publish each as soon as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="what to measure; by default all")
    parser.add_argument("--pairs", type=int, default=5, help="paired runs, one with and one without")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of one run")
    parser.add_argument("--predictions", type=int, default=1_000_000, help="predictions of the scenario memory")
    parser.add_argument("--print", action="store_true", help="print the results and leave README.md as it is")
    chosen = parser.parse_args()
    pin(LOAD_CORE)
    for name in chosen.only or SCENARIOS:
        with tempfile.TemporaryDirectory(prefix="plumbline-bench-") as folder:
            setting = Setting(
                Path(folder), Loader(shutil.which("wrk")), chosen.seconds, chosen.pairs, chosen.predictions
            )
            method, text = SCENARIOS[name](setting)
        publish(name, environment(f"python -m benchmarks.long --only {name}", method) + text, write=not chosen.print)


if __name__ == "__main__":
    main()
