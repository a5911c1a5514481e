"""The rule over segments."""

from __future__ import annotations

from typing import Any

import pytest

from app.alerting.rules.performance import judge_performance, judge_segments
from app.types import Task
from tests.support.alerting.reports import drift_body, performance_body


def body(whole: str = "ok", **segments: Any) -> Any:
    """A performance report with these metrics in each value of the segment ``channel``."""
    values = {value: segment(metrics) for value, metrics in segments.items()}
    return performance_body(accuracy=whole) | {"segments": {"channel": values}}


def segment(statuses: Any) -> Any:
    """One value's entry, with these metrics in these states."""
    found = performance_body(**statuses)["realised"]
    worst = next((status for status in ("degraded", "ok") if status in statuses.values()), "insufficient_data")
    return {"rows": 100, "labelled": 80, "status": worst, "metrics": found["metrics"]}


def test_a_failing_segment_is_named() -> None:
    """The alert says which segment, by how much, over how many rows, and which others; the main metric leads."""
    found = judge_segments(
        Task.BINARY,
        body(app={"accuracy": "ok", "f1": "degraded"}, web={"accuracy": "degraded"}, shop={"accuracy": "ok"}),
        drift_body({"a": 0.2}),
    )["segment_drop"]

    assert found is not None
    assert (found.severity, found.value, found.limit, found.causes) == ("high", 0.84, 0.9, ("a",))
    assert found.message == (
        "where channel = web, accuracy 0.84 [0.81, 0.87] is below its limit 0.9, baseline 0.95, "
        "over 80 labelled rows; degraded too: channel = app"
    )


@pytest.mark.parametrize(
    "report",
    [body(web={"accuracy": "ok"}), body("degraded", web={"accuracy": "degraded"})],
    ids=["sound", "the whole fails"],
)
def test_a_sound_segment_or_a_failing_whole_resolves(report: Any) -> None:
    """Where no segment fails, or the rule over all rows speaks for them, the rule does not hold."""
    assert judge_segments(Task.BINARY, report, None) == {"segment_drop": None}


@pytest.mark.parametrize("report", [performance_body(accuracy="ok"), body(web={"accuracy": "insufficient_data"}), {}])
def test_without_segments_there_is_no_verdict(report: Any) -> None:
    """A report without segments, or with too few outcomes in each, says nothing."""
    assert judge_segments(Task.BINARY, report, None) == {}


def test_outcomes_of_an_unknown_class_are_an_alert_of_their_own() -> None:
    """The alert has the share and the classes; it ends with a report without them."""
    quiet = performance_body(accuracy="ok")
    told = performance_body(accuracy="ok")
    told["realised"]["unknown_classes"] = {"rows": 100, "share": 0.12, "classes": {"x": 100}, "message": "12 % … : x"}
    empty = {"realised": {"labelled": 0, "metrics": {}}}
    found = judge_performance(Task.BINARY, told, None)["unknown_class"]

    assert found is not None
    assert (found.severity, found.value, found.message) == ("high", 0.12, "12 % … : x")
    assert judge_performance(Task.MULTICLASS, quiet, None)["unknown_class"] is None
    assert "unknown_class" not in judge_performance(Task.BINARY, empty, None)  # type: ignore[arg-type]  # cut down
    assert "unknown_class" not in judge_performance(Task.REGRESSION, quiet, None)
