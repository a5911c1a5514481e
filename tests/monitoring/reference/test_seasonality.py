"""Seasons: a column that follows the hour or the weekday is compared with the reference's rows of the same slots."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.reference.columns import ReferenceColumn, Subject
from app.monitoring.reference.seasonality import DAY, HOUR, WEEK, choose, find_cycles, without_cycle

MONDAY = 2_800 * WEEK + 4 * DAY


def moments(days: float, rows: int, start: int = MONDAY) -> NDArray[np.int64]:
    """Even times over some days from a Monday on."""
    return start + (np.arange(rows) * (days * DAY / rows)).astype(np.int64)


def column(values: NDArray[np.float64], name: str = "x") -> ReferenceColumn:
    """A numeric column in order of time."""
    return ReferenceColumn(Subject(name, "numeric"), values, ordered=True)


def by_hour(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """A wave over the day."""
    return np.sin(times % DAY / DAY * 2 * np.pi)


def by_weekday(times: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lower on Saturday and Sunday."""
    return np.where((times - MONDAY) // DAY % 7 >= 5, -1.0, 0.0)


def test_cycles_are_found_where_they_are() -> None:
    """The hour, the weekday, or both; a level that changes from day to day, or chance alone, is no cycle."""
    rng = np.random.default_rng(1)
    times = moments(28, 8000)
    noise = rng.normal(size=(4, 8000))
    levels = rng.normal(size=28)[(times - MONDAY) // DAY]
    columns = [
        column(noise[0]),
        column(noise[1] + by_hour(times)),
        column(noise[2] + by_weekday(times) + by_hour(times)),
        column(noise[3] + levels),
    ]

    assert find_cycles(columns, times) == [(False, False), (False, True), (True, True), (False, False)]


def test_chance_is_no_cycle() -> None:
    """Nearly no reference without a cycle is thought to have one, whatever its tails, ties and gaps."""
    rng = np.random.default_rng(2)
    times = np.sort(rng.integers(MONDAY, MONDAY + 28 * DAY, 4000))
    found = [
        find_cycles([column(rng.standard_t(2, 4000)), column(rng.poisson(1.0, 4000).astype(np.float64))], times)
        for _ in range(60)
    ]

    assert sum(any(map(any, cycles)) for cycles in found) <= 3


@pytest.mark.parametrize(
    ("days", "reason"), [(3.5, "spans 3.5 days, 4 are needed"), (5.0, "follows the weekday or the hour")]
)
def test_no_season(days: float, reason: str) -> None:
    """Too short a reference, or one without cycles, is compared as a whole, and the report says why."""
    times = moments(days, 3000)
    columns = [column(np.random.default_rng(3).normal(size=3000))]

    chosen, together, seasonal = choose(columns, find_cycles(columns, times), times, moments(0.1, 200))

    assert chosen == together == columns
    assert seasonal["status"] == "none"
    assert reason in seasonal["reason"]


def test_without_times() -> None:
    """A reference without times has no season, which is said."""
    columns = [column(np.zeros(10))]

    chosen, together, seasonal = choose(columns, find_cycles(columns, None), None, moments(0.1, 200))

    assert chosen == together == columns
    assert seasonal == {"status": "none", "reason": "no seasonal reference: the reference has no times"}


def test_the_windows_slots_are_chosen_in_its_proportions() -> None:
    """A window of two hours, three quarters of it in the first, gets reference rows of these hours, three to one."""
    rng = np.random.default_rng(4)
    times = moments(14, 9000)
    columns = [column(rng.normal(size=9000) + 2 * by_hour(times), "busy"), column(rng.normal(size=9000), "still")]
    start = MONDAY + 30 * DAY + 14 * HOUR
    window = np.concatenate([moments(1 / 24, 300, start), moments(1 / 24, 100, start + HOUR)])

    (busy, still), together, seasonal = choose(columns, find_cycles(columns, times), times, window)

    rows = len(busy.values)
    assert seasonal["columns"] == [{"feature": "busy", "weekday": False, "hour": True, "rows": rows}]
    assert still is columns[1]
    assert [len(each.values) for each in together] == [rows, rows]
    assert 450 <= rows <= 520
    expected = 2 * by_hour(window).mean()
    assert busy.values.mean() == pytest.approx(expected, abs=0.15)
    assert abs(columns[0].values.mean() - expected) > 1


def test_the_chosen_rows_are_in_order() -> None:
    """The chosen rows' present values are what sorting them gives, ties and gaps included."""
    rng = np.random.default_rng(7)
    times = moments(14, 9000)
    values = np.round(rng.normal(size=9000) + 2 * by_hour(times), 1)
    values[rng.random(9000) < 0.1] = np.nan
    columns = [column(values)]

    [chosen], _, _ = choose(columns, find_cycles(columns, times), times, moments(0.2, 300, MONDAY + 30 * DAY))

    assert len(chosen.values) < 3000
    assert chosen.present.tolist() == np.sort(chosen.values[~np.isnan(chosen.values)]).tolist()


def test_a_cycle_can_be_taken_out() -> None:
    """What is left of a score has the same mean in every slot."""
    times = moments(7, 7 * 24 * 60)

    left = without_cycle(by_weekday(times) + by_hour(times - times % HOUR), times, (True, True))

    assert np.abs(left).max() < 1e-12


def test_slots_that_the_reference_does_not_know() -> None:
    """A window of the night, against a reference of working hours, has no seasonal reference."""
    times = np.concatenate([moments(0.4, 500, MONDAY + day * DAY + 8 * HOUR) for day in range(10)])
    columns = [column(np.random.default_rng(5).normal(size=5000) + 3 * by_hour(times))]

    night = moments(0.1, 300, MONDAY + 2 * HOUR)
    chosen, together, seasonal = choose(columns, find_cycles(columns, times), times, night)

    assert (chosen, together) == (columns, [])
    assert "fewer than 50 rows at the window's weekday and hour" in seasonal["reason"]


def test_a_thin_slot_falls_back_to_the_hour() -> None:
    """Where the weekday's hour has too few rows, the same hour of every day is the season."""
    rng = np.random.default_rng(6)
    times = moments(28, 4000)
    columns = [column(rng.normal(size=4000) + by_weekday(times) + 2 * by_hour(times))]
    cycles = find_cycles(columns, times)

    [chosen], _, seasonal = choose(columns, cycles, times, moments(1 / 24, 300, MONDAY + 35 * DAY + 14 * HOUR))

    assert cycles == [(True, True)]
    assert seasonal["status"] == "used"
    assert 150 <= len(chosen.values) <= 180
