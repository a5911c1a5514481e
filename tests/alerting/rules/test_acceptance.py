"""What is worse than an accepted state, what is as it was, and what has gone."""

from __future__ import annotations

import numpy as np
import pytest

from app.alerting.rules.acceptance import Item, Look, compare, differs, exceeds
from app.statistics import FloatArray
from app.types import Json

REFERENCE, ROWS, LOOKS = 10_000, 1_000, 200
EDGES = np.quantile(np.random.default_rng(0).normal(size=REFERENCE), np.arange(1, 10) / 10)
LOOK = Look("t1", "t2", "sha", 1e-5, 0.01)


def column(values: FloatArray) -> Json:
    """The state of a standard normal feature whose window has these values."""
    ours = np.random.default_rng(0).normal(size=REFERENCE)
    cells = [[*np.bincount(np.searchsorted(EDGES, side), minlength=10).tolist(), 0, 0, 0] for side in (ours, values)]
    return {
        "measure": "column",
        "value": 0.5,
        "bins": EDGES.tolist(),
        "reference": cells[0],
        "cells": cells[1],
        "inflation": 1.1,
        "mean": float(values.mean()),
        "std": float(values.std()),
        "reference_mean": float(ours.mean()),
    }


def metric(value: float, reach: float = 0.02) -> Json:
    """The state of an accuracy whose baseline is 0.95."""
    bounds = {"low": value - reach, "high": value + reach}
    return {"measure": "metric", "value": value, **bounds, "baseline": 0.95, "limit": 0.9}


def share(value: float, rows: float = ROWS) -> Json:
    """The state of a finding of data quality."""
    return {"measure": "share", "value": value, "limit": 0.007, "rows": rows}


def test_a_steady_shift_is_never_more_than_was_accepted() -> None:
    """Of 200 windows with the accepted shift none is beyond it, nor are those that fill with it or empty of it."""
    rng = np.random.default_rng(1)
    accepted = column(rng.normal(0.5, 1.0, ROWS))
    parts = [0.0, 0.2, 0.5, 0.8, *[1.0] * LOOKS]

    windows = [
        np.concatenate([rng.normal(0.5, 1.0, int(part * ROWS)), rng.normal(0.0, 1.0, ROWS - int(part * ROWS))])
        for part in parts
    ]

    assert [exceeds(accepted, column(window), LOOK) for window in windows] == [False] * len(windows)


@pytest.mark.parametrize(
    ("mean", "std"), [(1.0, 1.0), (-0.5, 1.0), (0.5, 2.0), (6.0, 1.0)], ids=["further", "back", "wider", "far out"]
)
def test_another_shift_is_more_than_was_accepted(mean: float, std: float) -> None:
    """A shift further out, one to the other side and a wider spread are found although half a sigma was accepted."""
    rng = np.random.default_rng(2)
    accepted = column(rng.normal(0.5, 1.0, ROWS))

    assert exceeds(accepted, column(rng.normal(mean, std, ROWS)), LOOK)


def test_the_outer_bin_does_not_hide_a_shift() -> None:
    """Where all rows lie in the last bin, the mean says that they have moved on."""
    rng = np.random.default_rng(3)
    accepted = column(rng.normal(8.0, 1.0, ROWS))

    assert not exceeds(accepted, column(rng.normal(8.0, 1.0, ROWS)), LOOK)
    assert exceeds(accepted, column(rng.normal(12.0, 1.0, ROWS)), LOOK)


@pytest.mark.parametrize(
    ("accepted", "now", "expected"),
    [
        (metric(0.85), metric(0.84), False),
        (metric(0.85), metric(0.93), False),
        (metric(0.85), metric(0.70), True),
        (metric(0.85, 0.0001), metric(0.846, 0.0001), False),
        (share(0.008), share(0.012), False),
        (share(0.008), share(0.0), False),
        (share(0.008), share(0.05), True),
        (share(0.008, 1e7), share(0.0099, 1e7), False),
        (share(0.2), {**share(0.2), "value": None}, False),
    ],
)
def test_worse_is_beyond_noise_and_matters(accepted: Json, now: Json, expected: bool) -> None:
    """A share or a metric is beyond what was accepted if it is worse by more than noise and by what matters."""
    assert exceeds(accepted, now, LOOK) is expected


def test_what_has_gone_is_over_after_a_window_of_its_own() -> None:
    """A part lasts while the window shares rows with the one that showed it, and while it may still be there."""
    rng = np.random.default_rng(4)
    accepted = column(rng.normal(0.5, 1.0, ROWS))
    part = {"found": True, "state": accepted, "needed": 1, "seen": "t5"}
    quiet, still = (Item("feature:a", False, False, column(rng.normal(mean, 1.0, ROWS))) for mean in (0.0, 0.5))

    assert compare("feature:a", part, {"feature:a": quiet}, Look("t4", "t6", "sha", 1e-5, 0.01)) == part
    assert compare("feature:a", part, {"feature:a": quiet}, Look("t6", "t7", "sha", 1e-5, 0.01)) is None
    assert compare("feature:a", part, {"feature:a": still}, Look("t6", "t7", "sha", 1e-5, 0.01)) == part
    assert differs(metric(0.85), metric(0.94))
    assert not differs(metric(0.85), metric(0.86))


def test_a_share_near_its_limit_outlasts_windows_without_a_finding() -> None:
    """A finding that comes in every second window is not over before it has stayed away as long as chance allows."""
    part: Json | None = {"found": True, "state": share(0.008), "needed": 3, "seen": "t0"}
    listed = Item("listed", False, False, {})
    ends = []
    for place in range(1, 4):
        assert part is not None
        look = Look(f"t{place}a", f"t{place}b", "sha", 1e-5, 0.01)
        part = compare("quality:a:missing_share", part, {"listed": listed}, look)
        ends.append(part is None)

    assert ends == [False, False, True]


def test_a_report_that_does_not_speak_of_it_changes_nothing() -> None:
    """Without enough rows nothing is listed, so nothing that was accepted is over."""
    part = {"found": True, "state": share(0.2), "needed": 1, "seen": "t0"}

    assert compare("quality:a:missing_share", part, {}, LOOK) == part
