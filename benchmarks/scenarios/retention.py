"""What the deletion of old rows does to the tail of `/predict`: pairs of runs at half capacity, on both databases.

With a retention as short as the pause between two clean-ups, each of them deletes all that came since the one before:
the steady state of a service that has run for longer than its retention.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from benchmarks.load.bodies import example_body
from benchmarks.load.closed_loop import Figures
from benchmarks.load.pairs import COLUMNS, alternate
from benchmarks.results.table import Cells, Line, promises, table
from benchmarks.scenarios.disk import stored
from benchmarks.scenarios.settings import Setting, keep_rate
from benchmarks.servers.processes import FIRST_ROWS, plumbline
from tests.support.processes import Postgres

PAUSE_S = 10
"""The pause between clean-ups where checks are a day apart."""
MAX_PAIRS = 3
QUIET = {"DRIFT__EVERY": "1d", "PERFORMANCE__EVERY": "1d"}


def measure(setting: Setting) -> tuple[str, str]:
    """How it was measured, and the tables."""
    number = min(setting.pairs, MAX_PAIRS)
    postgres = Postgres()
    try:
        found = [
            _measure(setting, number, "SQLite", lambda _: ""),
            _measure(setting, number, "PostgreSQL", postgres.create_database),
        ]
    finally:
        postgres.stop()
    method = f"{number} pairs of {setting.seconds:g} s at half capacity, a clean-up every {PAUSE_S} s"
    lines = promises(line for line, _ in found)
    return method, lines + "\n" + table(COLUMNS, [row for _, rows in found for row in rows])


def _measure(setting: Setting, number: int, name: str, store: Callable[[str], str]) -> tuple[Line, list[Cells]]:
    body = example_body()
    stores = (store(f"run{run}") for run in itertools.count())
    with plumbline(setting.folder, store=next(stores), settings=QUIET) as (service, _):
        rate = setting.half_capacity(service.port, body)
    deleted: list[int] = []

    def run(beside: bool) -> Figures:
        settings = QUIET | {"STORE__RETENTION": f"{PAUSE_S}s" if beside else "90d"}
        with plumbline(setting.folder, store=next(stores), settings=settings) as (service, url):
            first = keep_rate(service.port, body, rate, PAUSE_S)
            figures = keep_rate(service.port, body, rate, setting.seconds)
            sent = FIRST_ROWS + round(rate * PAUSE_S) + round(rate * setting.seconds) - first.failed - figures.failed
            if beside:
                deleted.append(sent - stored(url)[0])
        return figures

    pairs = alternate(number, run)
    what = f"{name}: p99 while old rows go, of the p99 without"
    measured = f"{pairs.p99_ratio:.2f}, {sum(deleted):,} rows deleted"
    return Line(what, measured, "measured", None), pairs.rows(f"{name}, rows go", f"{name}, rows stay")
