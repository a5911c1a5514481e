"""What the months told, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scipy import stats

from app.monitoring.check_request import KINDS
from app.types import Json
from benchmarks.months.month import DAYS, Month
from benchmarks.results.table import Cells, Line, promises, table


def results(months: Sequence[Month]) -> str:
    """The promise, what was simulated at each rate, and every alert that was told."""
    rates = sorted({month.rows_per_hour for month in months})
    simulated = table(
        ("rows an hour", "streams", "days", *(f"{kind} checks" for kind in KINDS), "alerts"),
        (_simulated(rate, [month for month in months if month.rows_per_hour == rate]) for rate in rates),
        left=0,
    )
    told = [_told(month, alert) for month in months for alert in month.alerts]
    head = ("rows an hour", "stream", "day", "hours until resolved", "rule", "severity")
    return "\n".join([promises([_promise(months)]), simulated, *([table(head, told, left=0)] if told else [])])


def most(months: float) -> int:
    """The largest number of alerts that one a month explains: the 95 % quantile of Poisson's law.

    >>> most(20)
    28
    """
    return int(stats.poisson.ppf(0.95, months))


def _promise(months: Sequence[Month]) -> Line:
    simulated, alerts = sum(month.days for month in months) / DAYS, sum(len(month.alerts) for month in months)
    bound = most(simulated)
    target = f"at most {bound} (one a month, 95 % of Poisson's law)"
    return Line(f"alerts told in {simulated:.1f} stable months", str(alerts), target, alerts <= bound)


def _simulated(rate: float, months: Sequence[Month]) -> Cells:
    checks = sum((month.checks for month in months), Counter())
    days, alerts = sum(month.days for month in months), sum(len(month.alerts) for month in months)
    return (f"{rate:g}", len(months), days, *(f"{checks[kind]:,}" for kind in KINDS), alerts)


def _told(month: Month, alert: Json) -> Cells:
    """When an alert was told, how long it lasted (nothing where it outlasted the month), and what it was."""
    ends = [
        each["hours"] - alert["hours"]
        for each in month.told
        if each["event"] == "resolved" and each["rule"] == alert["rule"] and each["hours"] > alert["hours"]
    ]
    lasted = f"{min(ends):.1f}" if ends else ""
    when = f"{alert['hours'] / 24:.1f}"
    return (f"{month.rows_per_hour:g}", month.seed, when, lasted, alert["rule"], alert["severity"])
