"""Joint drift: what no single feature shows is found, chance is not, and the culprits are named first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from app.monitoring.check_request import Limits
from app.monitoring.drift.multivariate import Separation, joint_drift, not_run, separate
from app.monitoring.reference.columns import ReferenceColumn, Subject
from app.statistics import mann_whitney

Columns = list[NDArray[Any]]
LIMITS = Limits(alpha=1e-4)


def subjects(count: int) -> list[Subject]:
    """Numeric features x0, x1 and so on."""
    return [Subject(f"x{place}", "numeric") for place in range(count)]


def pair(rng: np.random.Generator, rows: int, correlation: float, others: int = 8) -> Columns:
    """Two correlated standard normal features, and independent ones beside them."""
    noise = rng.normal(size=(2 + others, rows))
    noise[1] = correlation * noise[0] + np.sqrt(1 - correlation**2) * noise[1]
    return list(noise)


def report(reference: Columns, window: Columns, *, ordered: bool = False, **others: Any) -> Any:
    """The verdict on numeric columns."""
    pairs = zip(subjects(len(reference)), reference, strict=True)
    watched = [ReferenceColumn(subject, column, ordered) for subject, column in pairs]
    return joint_drift(watched, window, LIMITS, **({"start": "2026-01-01", "end": "2026-01-02"} | others))


def test_a_flipped_correlation_is_found() -> None:
    """Two features whose margins stay while their correlation changes sign: drift, and they are named first."""
    rng = np.random.default_rng(1)

    found = report(pair(rng, 5000, 0.6), pair(rng, 1000, -0.6))

    assert (found["status"], found["since"]) == ("drift", "2026-01-02")
    assert found["auc"] > 0.7
    assert found["p_value"] < 1e-20
    assert {entry["feature"] for entry in found["features"][:2]} == {"x0", "x1"}
    assert sum(entry["share"] for entry in found["features"][:2]) > 0.9


def test_a_new_combination_of_categories_is_found() -> None:
    """Two categorical features with their usual shares, which no longer go together."""
    rng = np.random.default_rng(2)
    colours = Subject("colour", "categorical", ("red", "green", "blue"))
    kinds = Subject("kind", "categorical", ("a", "b", "c"))

    def draw(rows: int, step: int) -> Columns:
        codes = rng.integers(0, 3, rows)
        kept = np.where(rng.random(rows) < 0.5, (codes + step) % 3, rng.integers(0, 3, rows))
        return [codes.astype(np.int32), kept.astype(np.int32), rng.normal(size=rows)]

    listed = [colours, kinds, Subject("noise", "numeric")]

    found = separate(listed, draw(5000, 0), draw(1000, 1))

    assert found.p_value < 1e-10
    assert found.shares[:2].sum() > 0.9


def mixed(rng: np.random.Generator, rows: int) -> Columns:
    """Correlated, heavy-tailed, tied, missing and constant numbers, and a categorical feature of 30 categories."""
    x = rng.normal(size=rows)
    gaps = np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(size=rows))
    codes = np.minimum(rng.zipf(1.7, rows), 30) - 1
    return [x, x + rng.normal(size=rows), rng.standard_t(2, rows), gaps, np.ones(rows), codes.astype(np.int32)]


def chains(rng: np.random.Generator, rows: int) -> Columns:
    """Autoregressions of 0.8, as numerous as the columns of :func:`mixed`."""
    noise = rng.normal(size=(6, rows + 100))
    return list(signal.lfilter([1.0], [1.0, -0.8], noise)[:, 100:])


@pytest.mark.parametrize(("draw", "most"), [(mixed, 0.03), (chains, 0.05)])
def test_chance_is_not_drift(draw: Callable[[np.random.Generator, int], Columns], most: float) -> None:
    """On windows like the reference, p-values below 2 % are as rare as they should be; autocorrelation included."""
    rng = np.random.default_rng(3)
    code = Subject("code", "categorical", tuple(range(30))) if draw is mixed else Subject("code", "numeric")
    listed = [*subjects(5), code]

    p_values = np.array([separate(listed, draw(rng, 1000), draw(rng, 300)).p_value for _ in range(200)])

    assert np.mean(p_values < 0.02) <= most
    assert p_values.min() > 1e-4


def test_same_rows_same_answer() -> None:
    """Nothing is drawn at random: units, dtype and repetition change nothing."""
    rng = np.random.default_rng(4)
    reference, window = pair(rng, 1000, 0.3), pair(rng, 400, 0.0)

    def outcome(factor: float) -> tuple[float, float]:
        found: Separation = separate(subjects(10), [x * factor for x in reference], [x * factor for x in window])
        return found.auc, found.p_value

    assert outcome(1.0) == outcome(1.0) == outcome(1e6)


def test_variation_between_blocks_widens_the_null() -> None:
    """What the reference does from day to day is no drift in the window either."""
    rng = np.random.default_rng(5)
    reference, window = pair(rng, 5000, 0.0), [column + 0.2 for column in pair(rng, 1000, 0.0)]
    days = np.repeat(rng.normal(0, 0.2, (10, 50)), 100, axis=1)
    varying = [column + day for column, day in zip(reference, days, strict=True)]

    assert report(reference, window, ordered=True)["status"] == "drift"
    assert report(varying, window)["status"] == "drift"
    assert report(varying, window, ordered=True)["status"] == "stable"


def test_a_test_that_could_show_nothing_is_not_stable() -> None:
    """Where the reference's own blocks differ as much as the window does, joint drift has no verdict."""
    rng = np.random.default_rng(8)
    walks = np.cumsum(rng.normal(0, 0.03, (4, 6000)), axis=1)
    columns = list(walks + rng.normal(size=(4, 6000)))

    found = report([column[:5000] for column in columns], [column[5000:] for column in columns], ordered=True)

    assert found["status"] == "insufficient_data"
    assert "independent rows, 10 are needed" in found["reason"]


def test_an_open_drift_stays_until_its_rows_are_gone() -> None:
    """A clear look keeps the drift open while the window still has rows that showed it, and closes it after."""
    rng = np.random.default_rng(6)
    columns = pair(rng, 2000, 0.0), pair(rng, 500, 0.0)
    before = {"status": "drift", "since": "2025-12-30", "last_significant_at": "2026-01-01"}

    still = report(*columns, before=before)
    over = report(*columns, before=before, start="2026-01-01T01")

    assert (still["status"], still["since"], still["significant"]) == ("drift", "2025-12-30", False)
    assert (over["status"], over["since"], over["features"]) == ("stable", None, [])


def too_few(rows: int) -> Sequence[Columns]:
    """A reference and a window of so many rows."""
    rng = np.random.default_rng(7)
    return pair(rng, 1000, 0.0), pair(rng, rows, 0.0)


def test_too_little_to_tell() -> None:
    """A single feature is not tested; fewer rows than both halves need are insufficient; each says why."""
    reference, window = too_few(99)

    assert report(reference, window)["status"] == "insufficient_data"
    assert "100 rows are needed" in report(reference, window)["reason"]
    assert report(reference[:1], window[:1]) == not_run("a single feature has no joint drift")


def test_scores_that_are_all_equal_say_nothing() -> None:
    """Ranks that differ by an error of arithmetic are no distance, at any number of rows."""
    for rows in range(40, 90):
        assert mann_whitney(np.zeros(3 * rows), np.zeros(rows), (3.0 * rows, float(rows)))[1] == 0.0


def test_columns_without_any_value() -> None:
    """Columns that are missing or constant throughout are passed over; where nothing is left, chance it is."""
    nothing = [np.full(500, np.nan), np.ones(500)]

    found = separate(subjects(2), nothing, [column[:200] for column in nothing])

    assert [found.auc, found.p_value, *found.shares] == pytest.approx([0.5, 0.5, 0.0, 0.0])
