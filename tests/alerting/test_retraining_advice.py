"""The advice and what it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.alerting.retraining import Advice, recommend
from app.store.queries.alerts import Alert, Finding
from app.types import Micros, Report, Severity, Task
from tests.support.alerting.reports import drift_body, performance_body

AT = Micros(1_000_000)


def report(kind: str, status: str, body: Any) -> Report:
    """A stored report whose id is its kind."""
    return Report(kind, kind, "m", "1", AT, status, body)


def alert(rule: str, severity: Severity) -> Alert:
    """A firing alert."""
    finding = Finding(severity, 0.8, 0.9, f"{rule} says so")
    return Alert("a", rule, "m", "1", "firing", finding, AT, AT, 1, "performance")


def advised(*reports: Report, firing: Sequence[Alert] = ()) -> list[Advice]:
    """The advice on a binary model."""
    return recommend(Task.BINARY, {found.kind: found for found in reports}, firing, retrain_share=0.3)


def test_advice_to_retrain_gives_every_reason() -> None:
    """Degraded performance and a drift share at its limit each advise retraining; broken input is mended first."""
    broken = {"feature": "a", "kind": "out_of_range", "value": 0.5, "limit": 0.1, "message": "outside"}
    drift = drift_body({"a": 0.1, "b": 0.2, "c": 0.3}, data_quality={"status": "warning", "findings": [broken]})

    mend, retrain = advised(
        report("drift", "drift", drift),
        report("performance", "degraded", performance_body(accuracy="degraded", f1="degraded")),
    )

    assert (mend.action, mend.because, mend.pressing) == ("fix_input", "the input is broken: out of range", False)
    assert (retrain.action, retrain.pressing) == ("retrain", True)
    assert retrain.because == (
        "the model's accuracy and 1 more of its metrics fell behind the baseline and "
        "30% of the features drifted (limit 30%), c, b, a most of all"
    )


def test_advice_names_its_evidence() -> None:
    """Each reason comes with its figure, the limit that it crossed, and the report that says so."""
    drift = report("drift", "drift", drift_body({"a": 0.1, "b": 0.2, "c": 0.3}))

    [retrain] = advised(drift, report("performance", "degraded", performance_body(accuracy="degraded")))

    at = "1970-01-01T00:00:01.000000Z"
    assert retrain.evidence == (
        {
            "figure": "performance.realised.accuracy",
            "value": 0.84,
            "limit": 0.9,
            "report_id": "performance",
            "checked_at": at,
        },
        {"figure": "drift.share", "value": 0.3, "limit": 0.3, "report_id": "drift", "checked_at": at},
    )


@pytest.mark.parametrize(
    ("firing", "pressing"),
    [
        ([alert("estimated_drop", "high")], True),
        ([alert("estimated_drop", "medium")], False),
        ([alert("segment_drop", "high")], False),
    ],
)
def test_what_fires_over_several_reports_advises_too(firing: list[Alert], *, pressing: bool) -> None:
    """A critical estimate presses; one that the outcomes contradict, or a failing segment, only advises."""
    [retrain] = advised(firing=firing)

    assert (retrain.pressing, retrain.because) == (pressing, f"{firing[0].rule} says so")
    assert retrain.evidence[0]["figure"] == firing[0].rule


def test_a_metric_beside_the_main_one_does_not_press() -> None:
    """Recall that fell alone advises retraining, for a person to decide."""
    [retrain] = advised(report("performance", "degraded", performance_body(accuracy="ok", recall="degraded")))

    assert not retrain.pressing


def test_no_advice_without_reason() -> None:
    """A sound model, one that was never checked, or one that fails in a segment alone without an alert, gets none."""
    segment = report("performance", "degraded", performance_body(accuracy="ok"))

    assert (
        advised(report("drift", "drift", drift_body({"a": 0.1})), segment, firing=[alert("drift_many", "high")]) == []
    )
    assert advised() == []
