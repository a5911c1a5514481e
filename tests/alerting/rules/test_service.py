"""The rules over the figures of the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.alerting.rules.service import Share, judge_service, wilson_low
from app.store.queries.alerts import Finding
from app.store.queries.replicas import Step
from tests.support.alerting.reports import service_body, step

OVERDUE = {"overdue_s": 200.0, "limit_s": 180.0}
LIMITS = {"value": 0.5, "limit": 0.01}
RULES = {"error_rate", "latency", "no_check", "rolled_back", "store_unreachable"}


def judged(steps: Sequence[Step], rule: str, **more: object) -> Finding | str | None:
    """The finding of one rule, or that it was left open."""
    return judge_service(service_body(steps, **more)).get(rule, "open")


def found(steps: Sequence[Step], rule: str, **more: object) -> Finding:
    """The finding of a rule that holds."""
    finding = judged(steps, rule, **more)
    assert isinstance(finding, Finding)
    return finding


def test_rows_that_fail_are_critical() -> None:
    """One row in twenty failed, moment after moment: the share, the limit and the numbers are in the message."""
    finding = found([step(at, ok=95, failed=5) for at in range(10)], "error_rate")

    assert (finding.severity, finding.value, finding.limit) == ("critical", 0.05, 0.01)
    assert finding.message == "5.0% of 1,000 rows failed in the last five minutes, limit 1%"


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ([], None),
        ([step(ok=1000)] * 5, None),
        ([step(ok=990, failed=10)] * 5, None),
        ([step(ok=20, failed=2)] * 2, "open"),
        ([step(ok=500), step(failed=200), step(ok=500)], "open"),
        ([step(ok=980, failed=12)] * 2, "open"),
        ([step(ok=100, refused=100)] * 5, None),
        ([step(ok=100), *[step(failed=100, away=True)] * 5], None),
    ],
    ids=["nothing", "well", "at the limit", "few rows", "one moment", "chance", "refused", "store away"],
)
def test_what_is_no_error_rate(steps: Sequence[Step], verdict: str | None) -> None:
    """At or below the limit the rule does not hold; above it by chance, in few rows or one moment, it is left open."""
    assert judged(steps, "error_rate") == verdict


@pytest.mark.parametrize(
    ("slow", "severity", "limit"), [(0.7, "medium", 0.5), (2.0, "critical", 1.0), (60.0, "critical", 1.0)]
)
def test_slow_answers_by_how_slow(slow: float, severity: str, limit: float) -> None:
    """Beyond 0.5 s at the 99th percentile it is medium, beyond 1 s critical."""
    finding = found([step(ok=95, slow=0.001), step(ok=5, slow=slow)] * 5, "latency")

    assert (finding.severity, finding.limit) == (severity, limit)
    assert finding.value is not None
    assert finding.value > limit
    assert "5.0% of 500 requests in the last five minutes took longer" in finding.message


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ([], None),
        ([step(ok=100, slow=0.5)] * 5, None),
        ([step(ok=1000, slow=0.01), step(ok=5, slow=9.0)], None),
        ([step(ok=5, slow=0.7)] * 10, "open"),
        ([step(ok=1000, slow=0.01), step(ok=50, slow=9.0)], "open"),
    ],
    ids=["nothing", "at the limit", "few are slow", "few requests", "one moment"],
)
def test_what_is_no_latency(steps: Sequence[Step], verdict: str | None) -> None:
    """As for errors: at the limit it does not hold, and chance and one moment leave it open."""
    assert judged(steps, "latency") == verdict


@pytest.mark.parametrize(
    ("more", "rule", "severity", "message"),
    [
        (
            {"checks": {"drift": OVERDUE | {"overdue_s": 10.0}, "performance": OVERDUE}},
            "no_check", "critical", "the performance check has been due for 200 s, and none has ended",
        ),
        (
            {"rolled_back": {"version": "2", "to": "1", "reason": "50.0% of 100 rows failed"} | LIMITS},
            "rolled_back", "high", "version 2 was rolled back to 1: 50.0% of 100 rows failed",
        ),
        (
            {"outage": {"seconds": 12.0, "limit_s": 10.0, "reason": "connection refused"}},
            "store_unreachable", "critical", "the store could not be reached: connection refused",
        ),
    ],
)  # fmt: skip
def test_the_other_rules(more: Any, rule: str, severity: str, message: str) -> None:
    """What the report says besides figures is judged as it stands."""
    finding = found([], rule, **more)

    assert (finding.severity, finding.message) == (severity, message)
    assert [name for name, holds in judge_service(service_body([], **more)).items() if holds] == [rule]


def test_a_quiet_service_judges_every_rule() -> None:
    """Without traffic nothing fails, and every rule is found not to hold; what a report leaves out is not judged."""
    assert judge_service(service_body([])) == dict.fromkeys(RULES)
    assert judge_service({"errors": []}) == {}


@pytest.mark.parametrize(("bad", "of"), [(0, 50), (3, 50), (20, 1000), (500, 1000), (1000, 1000)])
def test_the_lower_bound_lies_below_the_share(bad: int, of: int) -> None:
    """The bound is that at which the share lies three standard errors above it."""
    low = wilson_low(bad, of)

    assert 0 <= low <= bad / of
    assert low == 0 or bad / of - low == pytest.approx(3 * (low * (1 - low) / of) ** 0.5)


def test_a_share_of_nothing_is_none() -> None:
    """No rows are no failing rows."""
    assert (Share(0, 0, 0).value, Share(0, 0, 0).exceeds(0.01, least=1)) == (0.0, False)
