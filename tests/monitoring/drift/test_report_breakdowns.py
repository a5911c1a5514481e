"""Second readings: what changed since the window before, and where; none of them an alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import ModelSchema, Row

Draw = Callable[..., list[Row]]
MakeReference = Callable[..., Reference]
MakeWindow = Callable[..., Window]


@pytest.fixture
def report(
    schema: ModelSchema, draw: Draw, make_reference: MakeReference, make_window: MakeWindow
) -> Callable[..., Any]:
    """Report on rows, against five thousand of a quiet world."""
    reference = make_reference(draw(5000, seed=1))

    def made(rows: list[Row], **others: Any) -> Any:
        return drift_report(schema, reference, make_window(rows, start=1000), Limits(alpha=1e-4), None, **others)

    return made


def test_a_change_of_late_is_seen_in_the_previous_window(
    report: Callable[..., Any], draw: Draw, make_window: MakeWindow
) -> None:
    """A window that is like the reference and unlike the one before is stable, and the second reading says drift."""
    found = report(draw(1000, seed=2), earlier=make_window(draw(1000, seed=3, shift=1.0)))

    assert (found["status"], found["previous_window"]["status"]) == ("stable", "drift")
    assert found["previous_window"]["drifted_features"] == ["income"]
    assert found["previous_window"]["window"]["rows"] == 1000
    assert found["previous_window"]["features"]["visits"]["status"] == "stable"


def test_a_lasting_drift_is_none_against_the_previous_window(
    report: Callable[..., Any], draw: Draw, make_window: MakeWindow
) -> None:
    """What moved away from the reference long ago has not changed since the window before."""
    found = report(draw(1000, seed=2, shift=1.0), earlier=make_window(draw(1000, seed=3, shift=1.0)))

    assert (found["status"], found["previous_window"]["status"]) == ("drift", "stable")


def test_too_few_rows_before(report: Callable[..., Any], draw: Draw, make_window: MakeWindow) -> None:
    """Without enough rows before, the second reading says so, and without any window before there is none."""
    found = report(draw(1000, seed=2), earlier=make_window(draw(10, seed=3)))

    assert found["previous_window"]["status"] == "insufficient_data"
    assert report(draw(1000, seed=2))["previous_window"] is None


def test_a_drift_in_one_segment(report: Callable[..., Any], draw: Draw) -> None:
    """A feature that moved for one value of a segment is named there, and nowhere else."""
    shifted = draw(2000, seed=4, shift=1.5)
    rows = [there if row[3] == "phone" else row for row, there in zip(draw(2000, seed=4), shifted, strict=True)]
    values = report(rows, segments=["channel"])["segments"]["channel"]["values"]

    assert {name: entry["status"] for name, entry in values.items()} == {
        "web": "stable",
        "shop": "stable",
        "phone": "drift",
    }
    assert values["phone"]["drifted_features"] == ["income"]
    assert values["phone"]["features"]["income"]["p_value"] < 1e-6
    assert sum(entry["rows"] for entry in values.values()) == pytest.approx(2000, abs=5)


def test_segments_without_rows_or_sense(report: Callable[..., Any], draw: Draw) -> None:
    """A value with too few rows has no verdict, and a number is no segment."""
    segments = report(draw(300, seed=4), segments=["channel", "income"])["segments"]

    assert segments["channel"]["values"]["phone"]["status"] == "insufficient_data"
    assert segments["income"]["values"] == {}
    assert "not a categorical feature" in segments["income"]["reason"]
