"""The promises that the quick scenarios keep or break; a ratio is the median over the rounds, taken within each."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from benchmarks.load.closed_loop import Figures
from benchmarks.load.rounds import BULK_CONNECTIONS, BULK_ROWS, MANY, Measured
from benchmarks.results.table import Line, table


def judge(measured: Measured) -> list[Line]:
    """Every promise with its figure."""
    rate = {key: [figures.rate for figures in runs] for key, runs in measured.loads.items()}
    single, floor = rate["plumbline", MANY], rate["floor", MANY]
    whole, whole_floor = rate["whole request", MANY], rate["floor, whole request", MANY]
    return [
        _share("`/predict` with key, own id, trace and names, 64 connections, of the floor", whole, whole_floor, 0.5),
        _share("a plain row, 64 connections, SQLite, of the floor", single, floor, 0.5),
        _share("the same, of the plain endpoint", single, rate["plain", MANY], 2.0),
        _share("100-tree forest, of the logistic regression", rate["forest", MANY], single, 0.85),
        _share("histogram gradient boosting, of the logistic regression", rate["boosting", MANY], single, 0.75),
        *_latencies(measured),
        _share("PostgreSQL on the load's core, of SQLite", rate["postgresql", MANY], single, 0.5),
        *(_bulk(rate["bulk", number], number, measured.executemany) for number in (1, BULK_CONNECTIONS)),
        _share("`/outcome`, 64 connections, of `/predict`", rate["outcome", MANY], single, 1.0),
        _start(measured.start_s),
        _failed([run.failed for runs in measured.loads.values() for run in runs]),
    ]


def servers(measured: Measured) -> str:
    """The table of servers: medians over the rounds."""
    return table(
        ("server", "connections", "requests/s", "share of the floor", "p50 ms", "p99 ms", "failed"),
        [
            (
                name,
                connections,
                f"{median(run.rate for run in runs):,.0f}",
                "" if name == "bulk" else _of_floor(measured, name, runs, connections),
                f"{median(run.p50_ms for run in runs):.2f}",
                f"{median(run.p99_ms for run in runs):.2f}",
                sum(run.failed for run in runs),
            )
            for (name, connections), runs in measured.loads.items()
        ],
    )


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of a ratio within each.

    >>> ratio([1, 30, 2], [2, 10, 1])
    2.0
    """
    return median(one / other for one, other in zip(above, below, strict=True))


def _share(what: str, above: Sequence[float], below: Sequence[float], least: float) -> Line:
    measured = ratio(above, below)
    figures = f"{measured:.2f} ({median(above):,.0f} of {median(below):,.0f} a second)"
    return Line(what, figures, f"at least {least:g}", measured >= least)


def _latencies(measured: Measured) -> list[Line]:
    """The tail of 64 callers and the middle of one, against limits from the floor and the disk in the same round."""
    tails = [run.p99_ms for run in measured.loads["plumbline", MANY]]
    middles = [run.p50_ms for run in measured.loads["plumbline", 1]]
    floor = measured.loads
    tail_limits = [
        4 * run.p99_ms + 2 * sync for run, sync in zip(floor["floor", MANY], measured.fsync_p99_ms, strict=True)
    ]
    middle_limits = [
        run.p50_ms + 1.0 + sync for run, sync in zip(floor["floor", 1], measured.fsync_p50_ms, strict=True)
    ]
    return [
        _limit("p99, 64 connections", tails, tail_limits, "4 x the floor's p99 + 2 fsync p99"),
        _limit("p50, 1 connection", middles, middle_limits, "the floor's p50 + 1 ms + an fsync"),
    ]


def _limit(what: str, times: Sequence[float], limits: Sequence[float], rule: str) -> Line:
    met = ratio(times, limits) <= 1
    return Line(what, f"{median(times):.2f} ms", f"at most {median(limits):.2f} ms ({rule})", met)


def _bulk(requests: Sequence[float], connections: int, bare: Sequence[float]) -> Line:
    rows, alone = median(requests) * BULK_ROWS, median(bare)
    least = min(60_000, 0.4 * alone)
    share = ratio([rate * BULK_ROWS for rate in requests], bare)
    target = f"at least {least:,.0f} rows/s (60,000, or 0.4 of the bare executemany's {alone:,.0f})"
    what = f"1,000 rows in a body, {connections} connection{'s' if connections > 1 else ''}"
    return Line(what, f"{rows:,.0f} rows/s stored, {share:.2f} of executemany", target, rows >= least)


def _start(seconds: Sequence[float]) -> Line:
    return Line("start to ready, with ONNX", f"{median(seconds):.2f} s", "less than 2 s", median(seconds) < 2)


def _failed(failed: Sequence[int]) -> Line:
    return Line("requests without a good answer, in all runs", str(sum(failed)), "0", not any(failed))


def _of_floor(measured: Measured, name: str, runs: Sequence[Figures], connections: int) -> str:
    """Of the floor that answered the same request."""
    floor = measured.loads["floor, whole request" if name == "whole request" else "floor", connections]
    return f"{ratio([run.rate for run in runs], [run.rate for run in floor]):.2f}"
