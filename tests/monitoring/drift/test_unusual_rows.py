"""Unusual rows: what is planted is named with its causes, and a window like the reference names few."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.check_request import Limits
from app.monitoring.drift.unusual_rows import MAX_ROWS, find_unusual
from app.monitoring.reference.columns import MISSING, UNSEEN, ReferenceColumn, Subject

Columns = list[NDArray[Any]]
LIMITS = Limits(alpha=1e-4)
COLOURS = ("red", "green", "blue")
SUBJECTS = [*(Subject(name, "numeric") for name in ("a", "b", "tail", "count", "gaps")), Subject("c", "boolean")]
SUBJECTS += [Subject("colour", "categorical", COLOURS), Subject("shade", "categorical", COLOURS)]


def draw(seed: int, rows: int) -> Columns:
    """Numbers that follow each other, with heavy tails, ties and gaps; a rare flag; two equal categories."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=rows)
    numbers = [a, a + 0.2 * rng.normal(size=rows), rng.standard_cauchy(size=rows), rng.poisson(2, rows).astype(float)]
    gaps = np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows))
    colour = rng.integers(0, 3, rows).astype(np.int32)
    return [*numbers, gaps, (rng.random(rows) < 0.02).astype(float), colour, colour.copy()]


def found(window: Columns, *, reference_rows: int = 2000) -> Any:
    """The unusual rows of a window against rows of the same law."""
    pairs = zip(SUBJECTS, draw(1, reference_rows), strict=True)
    return find_unusual([ReferenceColumn(*pair) for pair in pairs], window, names(window), LIMITS)


def names(window: Columns) -> list[str]:
    """The ids of the rows of a window."""
    return [f"row-{place}" for place in range(len(window[0]))]


@pytest.mark.parametrize(
    ("values", "causes"),
    [
        ({0: 9.0, 1: 9.0}, {"a", "b"}),
        ({0: 1.5, 1: -1.5}, {"a", "b"}),
        ({6: 0, 7: 1}, {"colour", "shade"}),
        ({6: UNSEEN}, {"colour"}),
        ({7: MISSING}, {"shade"}),
        ({3: 1e308}, {"count"}),
        ({4: -1e30}, {"gaps"}),
        ({0: np.nan}, {"a"}),
    ],
    ids=["far", "correlation", "combination", "unseen", "missing", "huge", "least", "gap"],
)
def test_a_planted_row_is_named_first_with_its_cause(values: dict[int, float], causes: set[str]) -> None:
    """One strange row among 300 is the first of the unusual ones, and a feature that makes it so is its first cause."""
    window = draw(2, 300)
    for column, value in values.items():
        window[column][42] = value

    first = found(window)["rows"][0]

    assert first["prediction_id"] == "row-42"
    assert first["features"][0]["feature"] in causes


def test_windows_like_the_reference_stay_below_the_stated_rate() -> None:
    """Over 20 windows, with every kind of column, no more rows are called unusual than the stated rate allows."""
    reports = [found(draw(seed, 500)) for seed in range(10, 30)]
    expected = sum(report["expected_rows"] for report in reports)

    assert sum(report["count"] for report in reports) <= expected + 3 * expected**0.5


def test_a_window_of_copies_of_the_reference_has_no_unusual_rows() -> None:
    """Constant and equal rows on both sides tie, and a tie is not unusual."""
    same = [np.full_like(column[:100], column[0]) for column in draw(1, 100)]
    same[4] = np.full(100, np.nan)
    watched = [ReferenceColumn(*pair) for pair in zip(SUBJECTS, same, strict=True)]

    assert find_unusual(watched, same, names(same), LIMITS)["count"] == 0


def test_the_list_is_bounded_and_the_count_is_not() -> None:
    """Where all rows are strange the report names 20 of them and counts all."""
    window = draw(3, 200)
    window[0] = window[0] + 50

    report = found(window)

    assert (report["count"], len(report["rows"])) == (200, MAX_ROWS)


def test_a_small_reference_states_its_own_rate() -> None:
    """The smallest p-value of 100 rows is 1/101, which is then the rate."""
    assert found(draw(2, 300), reference_rows=100)["rate"] == pytest.approx(1 / 101, rel=1e-3)


def test_it_says_why_no_row_was_judged() -> None:
    """A reference of a few rows, none of the season, and one feature too many have a reason each."""
    few = found(draw(2, 300), reference_rows=20)
    season = find_unusual([], draw(2, 300), names(draw(2, 300)), LIMITS)
    many = [ReferenceColumn(Subject(f"x{place}", "numeric"), np.zeros(40)) for place in range(501)]
    wide = find_unusual(many, [np.zeros(5)] * 501, ["id"] * 5, LIMITS)

    assert {report["status"] for report in (few, season, wide)} == {"not_judged"}
    assert few["reason"] == "the reference has 20 rows, 30 are needed"
    assert season["reason"] == "the reference has too few rows at the window's weekday and hour"
    assert wide["reason"] == "the features make 1002 columns, rows are judged up to 1000"


def test_a_later_look_at_the_same_reference_says_the_same() -> None:
    """What was fitted for one window is used for the next, and depends on the reference alone."""
    rng = np.random.default_rng(5)
    watched = [ReferenceColumn(Subject(f"x{place}", "numeric"), rng.normal(size=400)) for place in range(3)]
    first, other = (list(rng.normal(size=(3, 100))) for _ in range(2))
    first[0][7] = other[1][9] = 50.0
    looks = [find_unusual(watched, window, names(window), LIMITS) for window in (first, other, first)]
    anew = [ReferenceColumn(each.subject, each.values) for each in watched]

    assert looks[0] == looks[2] == find_unusual(anew, first, names(first), LIMITS)
    assert [look["rows"][0]["features"][0]["feature"] for look in looks] == ["x0", "x1", "x0"]
