"""Concept drift: ADWIN finds the documented changes, and its report is the same after a restart."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from app.monitoring.performance.concept_drift import MAX_STREAM_ROWS, STREAM_ROWS, Adwin, concept_drift
from app.monitoring.performance.degradation import Baseline
from app.store.queries.labelled import ErrorStream
from app.types import SECOND, Micros, to_rfc3339
from tests.support.monitoring.labelled_windows import REGRESSION, binary


def stream(errors: list[bool] | np.ndarray) -> list[ErrorStream]:
    """One judged answer a second, wrong where told."""
    return [ErrorStream(Micros(row * SECOND), int(wrong), 0) for row, wrong in enumerate(errors)]


def found(answers: list[ErrorStream], before: Any | None = None) -> Any:
    """What the report says of a stream of 0/1 answers."""
    return concept_drift(binary(), answers, Baseline(None), before)


def test_the_documented_detection() -> None:
    """On the stream of river's documentation, the change at 1,000 is found at 1,023, and nothing before it."""
    rng = random.Random(12345)
    values = rng.choices([0, 1], k=1000) + rng.choices(range(4, 8), k=1000)
    window = Adwin()

    assert [place for place, value in enumerate(values) if window.add(value)] == [1023]


def test_a_steady_stream_has_no_change() -> None:
    """In 20,000 errors of one rate nothing is found, and the window has all of them."""
    window = Adwin()
    values = np.random.default_rng(1).random(20_000) < 0.2

    assert [place for place, value in enumerate(values) if window.add(float(value))] == []
    assert window.width == 20_000
    assert window.mean == pytest.approx(values.mean())


def test_a_cut_that_leaves_equal_errors_is_no_failure() -> None:
    """Where each answer was wrong and now each is right, rounding leaves no variance below zero."""
    for lengths in ((20, 100, 20, 20, 100), (20, 100, 150, 20, 100), (100, 100, 200)):
        window = Adwin()
        wrong = [float(place % 2) for place, length in enumerate(lengths) for _ in range(length)]

        assert sum(window.add(error) for error in wrong) > 0


@pytest.mark.parametrize(("later", "direction"), [(0.4, "worse"), (0.05, "better")])
def test_the_change_is_dated(later: float, direction: str) -> None:
    """A changed rate of errors is found with its direction, both rates, and nearly the time at which it began."""
    rng = np.random.default_rng(2)
    errors = np.concatenate([rng.random(2000) < 0.2, rng.random(2000) < later])
    report = found(stream(errors))

    assert report["direction"] == direction
    assert to_rfc3339(Micros(1700 * SECOND)) < report["change_at"] < to_rfc3339(Micros(2300 * SECOND))
    assert report["error_before"] == pytest.approx(0.2, abs=0.05)
    assert report["error_now"] == pytest.approx(later, abs=0.05)


def test_a_look_begins_where_the_look_before_began() -> None:
    """So a change keeps its date from look to look, until the stream would be too long."""
    rng = np.random.default_rng(3)
    answers = stream(rng.random(MAX_STREAM_ROWS + 10) < 0.2)
    first = found(answers[: STREAM_ROWS + 500])
    second = found(answers[:MAX_STREAM_ROWS], {"concept_drift": first})
    third = found(answers[10:], {"concept_drift": {"from": to_rfc3339(Micros(0))}})

    assert first["from"] == second["from"] == to_rfc3339(Micros(500 * SECOND))
    assert (first["rows"], second["rows"], third["rows"]) == (STREAM_ROWS, MAX_STREAM_ROWS - 500, STREAM_ROWS)


def test_errors_of_numbers_are_scaled() -> None:
    """In regression a doubled absolute error is a change, whatever the unit, and one absurd outcome is none."""
    rng = np.random.default_rng(4)
    for unit in (1e-6, 1e6):
        sizes = np.concatenate([np.ones(2000), np.full(2000, 2.0)]) * unit
        answers = [
            ErrorStream(Micros(row * SECOND), float(error), 0.0) for row, error in enumerate(rng.normal(0, sizes))
        ]
        absurd = [*answers[:1000], ErrorStream(answers[1000].recorded_at, 1e30, 0.0), *answers[1001:1999]]

        assert concept_drift(REGRESSION, answers, Baseline(None), None)["direction"] == "worse"
        assert concept_drift(REGRESSION, absurd, Baseline(None), None)["change_at"] is None


def test_without_outcomes_there_is_nothing_to_say() -> None:
    """An empty stream, and text where a number is due, have no change and no rate."""
    strange = [ErrorStream(Micros(row), "maybe", 0.0) for row in range(100)]

    for report in (found([]), concept_drift(REGRESSION, strange, Baseline(None), None)):
        assert (report["method"], report["change_at"], report["rows"], report["error_now"]) == ("adwin", None, 0, None)


def test_a_class_that_the_model_lacks_is_an_error() -> None:
    """Where a new class begins to come, the errors change for the worse."""
    stream = [ErrorStream(Micros(row), 0 if row < 600 else "new", 0) for row in range(1200)]
    report = found(stream)

    assert (report["rows"], report["direction"]) == (1200, "worse")
