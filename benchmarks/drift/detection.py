"""What is found: with and without times, beside columns without a verdict, and in a column that dies.

``python -m benchmarks.drift.detection --windows 200 --streams 12`` prints two Markdown tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from app.monitoring.check_request import DRIFT_SHARE, Limits, alpha_per_look
from app.monitoring.drift.column_tests import compare_all
from app.monitoring.drift.report import drift_report
from app.monitoring.drift.verdict import Look, judge
from app.store.queries.windows import Window
from app.types import SECOND, Micros
from benchmarks.drift.dependence import Table, reference_of, schema

REFERENCE_ROWS, WINDOW, PER_REFERENCE = 10_000, 1_000, 10
BUDGET = Limits(1 / 2_000)
"""One false alarm in 2,000 looks."""
DEFAULT = Limits(alpha_per_look(60, 30 * 86_400) * DRIFT_SHARE)
SHIFTS = ((1, 1_000), (8, 1_000), (8, 10_000))
SIGMAS = (0.1, 0.15, 0.2, 0.3)
Times: TypeAlias = NDArray[np.int64]


def clock(rows: int) -> Times:
    """One row a minute."""
    return np.arange(rows, dtype=np.int64) * 60 * SECOND


def power(features: int, rows: int, sigma: float, windows: int, *, timed: bool) -> float:
    """Share of windows in which a shift of the first feature is found; the seed is ``[features, rows, 100 sigma]``."""
    rng = np.random.default_rng([features, rows, round(100 * sigma)])
    found = 0
    for _ in range(windows // PER_REFERENCE):
        table = rng.normal(size=(features, REFERENCE_ROWS))
        reference = reference_of(table, clock(REFERENCE_ROWS) if timed else None)
        wider = reference.inflations(rows)[:features]
        for _ in range(PER_REFERENCE):
            window = rng.normal(size=(features, rows))
            window[0] += sigma
            compared = compare_all(list(reference.features), list(window), [], wider)
            found += judge(Look(BUDGET, "a", "b"), compared, [None] * features)[0]["status"] == "drift"
    return found / (windows // PER_REFERENCE * PER_REFERENCE)


def slow_column(rng: np.random.Generator) -> Table:
    """Eight features, of which the first is an autoregression of 0.98 that moves by three standard deviations."""
    table: Table = rng.normal(size=(8, REFERENCE_ROWS + 2 * WINDOW))
    table[0, 0] /= np.sqrt(1 - 0.98**2)
    table[0] = np.asarray(lfilter([np.sqrt(1 - 0.98**2)], [1.0, -0.98], table[0]))
    table[0, REFERENCE_ROWS:] += 3
    return table


def flip(rng: np.random.Generator) -> Table:
    """A correlation of 0.7 that turns into -0.7, beside a slow trend."""
    table = rng.normal(size=(8, REFERENCE_ROWS + 2 * WINDOW))
    sign = np.where(np.arange(table.shape[1]) < REFERENCE_ROWS, 0.7, -0.7)
    table[1] = sign * table[0] + np.sqrt(1 - 0.7**2) * table[1]
    table[7] = 0.1 * table[7] + np.linspace(0, 3, table.shape[1])
    return table


def dead_column(rng: np.random.Generator) -> Table:
    """Twenty features, of which the first has a value in 1 % of the rows, and then in none."""
    table = rng.normal(size=(20, REFERENCE_ROWS + 2 * WINDOW))
    known: NDArray[np.bool_] = np.asarray(rng.random(table.shape[1]) < 0.01)
    known[REFERENCE_ROWS:] = False
    table[0, ~known] = np.nan
    return table


DETECTIONS: Mapping[str, tuple[Callable[[np.random.Generator], Table], Callable[[Any], bool]]] = {
    "AR(1) 0.98, moved by 3 sigma": (slow_column, lambda report: "x0" in report["drifted_features"]),
    "correlation 0.7 to -0.7 beside a trend": (flip, lambda report: report["multivariate"]["status"] == "drift"),
    "99 % null column dies": (dead_column, lambda report: "x0" in report["drifted_features"]),
}


def windows_until_found(name: str, stream: int, limits: Limits, *, timed: bool) -> int | None:
    """Windows of 1,000 rows until a change is found, two at most; the seed is ``[stream, timed, 17]``."""
    draw, is_found = DETECTIONS[name]
    table = draw(np.random.default_rng([stream, timed, 17]))
    reference = reference_of(table[:, :REFERENCE_ROWS], clock(REFERENCE_ROWS) if timed else None)
    earlier: Window | None = None
    previous: Any = None
    for number in (1, 2):
        start = REFERENCE_ROWS + (number - 1) * WINDOW
        window = window_of(table[:, start : start + WINDOW], start)
        previous = drift_report(schema(len(table)), reference, window, limits, previous, earlier=earlier)
        if is_found(previous):
            return number
        earlier = window
    return None


def window_of(table: Table, start: int) -> Window:
    """Make stored rows of a table's columns."""
    rows: list[Any] = [tuple(None if np.isnan(each) else each for each in row) for row in table.T.tolist()]
    nothing: list[Any] = [None] * len(rows)
    times = [Micros(int(at)) for at in clock(start + len(rows))[start:]]
    return Window([str(at) for at in times], rows, [0.0] * len(rows), nothing, times, len(rows), 0.0, *[nothing] * 3)


def tables(windows: int, streams: int) -> Iterator[str]:
    """Write what is found as Markdown."""
    yield "| features | rows | shift, sigma | found without times, % | with times, % |"
    yield "| ---: | ---: | ---: | ---: | ---: |"
    for features, rows in SHIFTS:
        for sigma in SIGMAS:
            shares = [100 * power(features, rows, sigma, windows, timed=timed) for timed in (False, True)]
            yield f"| {features} | {rows:,} | {sigma:g} | {shares[0]:.1f} | {shares[1]:.1f} |"
    yield ""
    yield "| change | times | streams | within two windows, one false alarm in 2,000 looks | default configuration |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for name in DETECTIONS:
        for timed in (False, True):
            found = [
                sum(windows_until_found(name, stream, limits, timed=timed) is not None for stream in range(streams))
                for limits in (BUDGET, DEFAULT)
            ]
            yield f"| {name} | {'yes' if timed else 'no'} | {streams} | {found[0]} | {found[1]} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=200, help="windows of each shift")
    parser.add_argument("--streams", type=int, default=12, help="streams of each change")
    chosen = parser.parse_args()
    for line in tables(chosen.windows, chosen.streams):
        print(line, flush=True)


if __name__ == "__main__":
    main()
