"""Work out docs/scaling.md from its table of figures again: ``python -m benchmarks.results.scaling``."""

from __future__ import annotations

import math
import re
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median

from benchmarks.load.rounds import BULK_CONNECTIONS, BULK_ROWS, MANY, Measured
from benchmarks.results import table
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "scaling.md"
DAY_S = 86_400
PEAK = 4
"""A peak, in means."""
CONNECTIONS = 6
"""Connections of one replica to PostgreSQL at the most: one that writes, and those that read."""
DAYS = (10**6, 10**8, 10**9)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica and one row take; the order is that of the table of figures."""

    sqlite: float
    postgresql: float
    bulk: float
    sqlite_bytes: float
    postgresql_bytes: float


NAMES = (
    ("single rows a second, SQLite", "*plumbline*, 64 connections"),
    ("**R**: single rows a second, PostgreSQL", "*postgresql*, 64 connections"),
    ("rows a second in bodies of 1,000, SQLite", f"*bulk*, {BULK_CONNECTIONS} connections, x 1,000"),
    ("bytes a row in SQLite, indexes included", "30 features; file / rows of the same run"),
    ("bytes a row in PostgreSQL, indexes included", "30 features; table and indexes / rows of the same run"),
)


def of(measured: Measured) -> Capacity:
    """The figures of a run of the quick scenarios, in whole numbers: the page works on with what it shows."""
    rate = {key: median(figures.rate for figures in runs) for key, runs in measured.loads.items()}
    return Capacity(
        sqlite=round(rate["plumbline", MANY]),
        postgresql=round(rate["postgresql", MANY]),
        bulk=round(rate["bulk", BULK_CONNECTIONS] * BULK_ROWS),
        sqlite_bytes=round(median(measured.row_bytes["sqlite"])),
        postgresql_bytes=round(median(measured.row_bytes["postgresql"])),
    )


def read(page: Path = PAGE) -> Capacity:
    """The figures that stand in the page."""
    text = page.read_text(encoding="utf-8").split("<!-- figures -->")[1].split("<!-- end of figures -->")[0]
    return Capacity(*(float(value.replace(",", "")) for value in re.findall(r"\| ([\d,]+) \|", text)))


def figures(capacity: Capacity) -> str:
    """The table of figures."""
    rows = [(what, f"{value:,.0f}", source) for (what, source), value in zip(NAMES, astuple(capacity), strict=True)]
    return table.table(("figure", "value", "row of the results"), rows, left=3)


def replicas(capacity: Capacity) -> str:
    """How many replicas and how much storage some numbers of predictions a day take."""
    return table.table(
        ("predictions a day", "mean a second", "peak a second", "replicas", "connections", "storage a day", "90 days"),
        [_day(number, capacity) for number in DAYS],
        left=0,
    )


def publish(capacity: Capacity, *, write: bool, page: Path = PAGE) -> None:
    """Put the figures and what follows from them into the page."""
    table.publish("figures", figures(capacity), write=write, page=page)
    table.publish("replicas", replicas(capacity), write=write, page=page)


def _day(number: int, capacity: Capacity) -> tuple[str, ...]:
    mean = number / DAY_S
    peak = PEAK * mean
    needed = max(2, math.ceil(peak / (capacity.postgresql / 2)))
    alone = " (1 on SQLite)" if peak <= capacity.sqlite / 2 else ""
    stored = number * capacity.postgresql_bytes
    return (
        f"{number:.0e}".replace("e+0", "e"),
        f"{mean:,.0f}",
        f"{peak:,.0f}",
        f"{needed}{alone}",
        f"{needed * CONNECTIONS:,}",
        _size(stored),
        _size(90 * stored),
    )


def _size(size: float) -> str:
    """Bytes in the unit that fits.

    >>> _size(6e8), _size(5.4e12)
    ('0.6 GB', '5.4 TB')
    """
    number, unit = (size / 1e12, "TB") if size >= 1e12 else (size / 1e9, "GB")
    return f"{number:.1f} {unit}" if number < 100 else f"{number:,.0f} {unit}"


if __name__ == "__main__":
    publish(read(), write=True)
