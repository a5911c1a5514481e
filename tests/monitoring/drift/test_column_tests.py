"""One column against its reference: sharp where something moved, right about chance, deaf to what does not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from app.monitoring.drift.column_tests import CATEGORICAL, NUMERIC, Comparison, compare
from app.monitoring.reference.columns import UNSEEN, ReferenceColumn, Subject
from benchmarks.drift.small_references import encoded, laws, rejections

Column: TypeAlias = NDArray[Any]
Draw: TypeAlias = Callable[[np.random.Generator, int], Column]
NUMBER = Subject("x", "numeric")
CITY = Subject("x", "categorical", tuple(str(code) for code in range(50)))


def zero_inflated(rng: np.random.Generator, rows: int, zeros: float = 0.5, scale: float = 1.0) -> Column:
    """Zeros, and lognormal numbers."""
    return np.where(rng.random(rows) < zeros, 0.0, scale * rng.lognormal(size=rows))


def zipf(rng: np.random.Generator, rows: int) -> Column:
    """Codes of fifty categories, the first the most frequent."""
    weights = 1 / np.arange(1.0, 51.0)
    return rng.choice(50, rows, p=weights / weights.sum()).astype(np.int32)


def gaps(rng: np.random.Generator, rows: int) -> Column:
    """Normal numbers, a tenth of them missing."""
    return np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))


QUIET: dict[str, Draw] = {
    "lognormal": lambda rng, rows: rng.lognormal(size=rows),
    "poisson": lambda rng, rows: rng.poisson(1.0, rows).astype(np.float64),
    "zero-inflated": zero_inflated,
    "categories": zipf,
    "gaps": gaps,
}


def column(values: Column) -> ReferenceColumn:
    """Make drawn values a reference."""
    return ReferenceColumn(NUMBER if values.dtype.kind == "f" else CITY, values)


def found(ours: Column, theirs: Column) -> Comparison:
    """Compare two drawn columns."""
    return compare(column(ours), theirs)


@pytest.mark.parametrize("law", QUIET)
def test_null(law: str) -> None:
    """When nothing has changed, a column and each of its tests reject one in twenty looks, rather less than more."""
    rng = np.random.default_rng(4)
    rejected: dict[str, list[bool]] = {}
    for _ in range(20):
        reference = column(QUIET[law](rng, 5000))
        for _ in range(30):
            evidence = compare(reference, QUIET[law](rng, 400)).evidence
            for name, p_value in {**evidence.each, "the column": evidence.p_value}.items():
                rejected.setdefault(name, []).append(p_value <= 0.05)

    assert {name: np.mean(each) <= 0.08 for name, each in rejected.items()} == dict.fromkeys(rejected, True)
    assert np.mean(rejected["the column"]) >= 0.005


@pytest.mark.parametrize(
    ("shift", "scale", "test"), [(0.3, 1.0, "anderson-darling"), (0.0, 1.3, "mood"), (0.0, 0.75, "mood")]
)
def numbers(shift: float, scale: float, test: str) -> None:
    """A shift and a change of scale are each found, by the test that is made for it."""
    rng = np.random.default_rng(1)
    comparison = found(rng.normal(size=10_000), rng.normal(shift, scale, 1000))
    each = comparison.evidence.each

    assert comparison.test == NUMERIC
    assert comparison.evidence.p_value < 1e-6
    assert min(each, key=lambda name: each[name]) == test


def test_few_values_are_categories() -> None:
    """A number of few values is tested value by value, and one that is new is seen."""
    rng = np.random.default_rng(2)
    ours, theirs = rng.integers(0, 5, 5000).astype(float), rng.integers(0, 5, 1000).astype(float)
    theirs[:12] = 7.0
    comparison = found(ours, theirs)

    assert comparison.test == CATEGORICAL
    assert comparison.evidence.each["largest-share"] < 1e-6


def test_values_that_many_share_are_tested_by_their_share() -> None:
    """Of zero-inflated numbers the share of zeros and the rest are tested apart: each change is found by its test."""
    rng = np.random.default_rng(3)
    ours = zero_inflated(rng, 10_000)
    fewer, larger = zero_inflated(rng, 1000, zeros=0.4), zero_inflated(rng, 1000, scale=1.5)

    assert (
        found(ours, fewer).evidence.each["largest-share"] < 1e-6 < found(ours, fewer).evidence.each["anderson-darling"]
    )
    assert (
        found(ours, larger).evidence.each["anderson-darling"]
        < 1e-6
        < found(ours, larger).evidence.each["largest-share"]
    )


def test_missing_values_are_a_test_of_their_own() -> None:
    """A rise of missing values is found whatever the others do, and is material by itself."""
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(size=10_000), rng.normal(size=1000)
    ours[:100] = theirs[::25] = np.nan
    comparison = found(ours, theirs)

    assert comparison.evidence.each["largest-share"] < 1e-6 < comparison.evidence.each["anderson-darling"]
    assert comparison.effect > 0.03


def test_two_categories_are_one_share() -> None:
    """The share of a yes is tested once, exactly."""
    rng = np.random.default_rng(6)
    ours, theirs = (rng.random(5000) < 0.3).astype(np.int32), (rng.random(1000) < 0.4).astype(np.int32)
    evidence = found(ours, theirs).evidence

    assert set(evidence.each) == {"share"}
    assert evidence.p_value == evidence.each["share"] < 1e-6


@pytest.mark.parametrize("shift", [0.0, 0.3])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda values: values * 1e6, id="larger unit"),
        pytest.param(lambda values: values * 1e-6, id="smaller unit"),
        pytest.param(lambda values: values + 100.0, id="another zero"),
        pytest.param(np.exp, id="another scale"),
        pytest.param(lambda values: values.astype(np.float32), id="another precision"),
    ],
)
def test_what_does_not_matter(shift: float, change: Callable[[Column], Column]) -> None:
    """Unit, zero, scale and precision of a number change neither its p-values nor its PSI."""
    rng = np.random.default_rng(7)
    ours, theirs = rng.normal(size=5000), rng.normal(shift, 1.0, 800)
    plain, changed = found(ours, theirs), found(change(ours), change(theirs))

    assert changed.evidence.p_value == pytest.approx(plain.evidence.p_value, rel=1e-6)
    assert changed.psi == pytest.approx(plain.psi, abs=1e-3)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_one_outlier(shift: float) -> None:
    """One value of 1e9 in a window hides nothing and raises nothing."""
    rng = np.random.default_rng(8)
    ours, theirs = rng.normal(size=5000), rng.normal(shift, 1.0, 800)
    odd = theirs.copy()
    odd[400] = 1e9
    plain, changed = found(ours, theirs), found(ours, odd)

    assert np.log(changed.evidence.p_value) == pytest.approx(np.log(plain.evidence.p_value), rel=0.05, abs=0.3)
    assert changed.distances["wasserstein"] == pytest.approx(plain.distances["wasserstein"], abs=0.01)


def test_row_order() -> None:
    """Rows in another random order are the same window."""
    rng = np.random.default_rng(9)
    ours, theirs = rng.normal(size=5000), rng.normal(0.2, 1.0, 800)

    assert found(ours, rng.permutation(theirs)) == found(ours, theirs)


def test_rows_that_resemble_their_neighbours_count_less() -> None:
    """A series with memory is worth fewer rows, and what looks like drift in it is not significant."""
    rng = np.random.default_rng(10)
    ours, walk = rng.normal(size=10_000), np.repeat(rng.normal(0.25, 1.0, 100), 10)
    comparison = found(ours, walk)

    assert comparison.effective_rows < 200
    assert comparison.evidence.p_value > 1e-3
    assert comparison.psi_noise_floor > 0.04


def test_inflation_widens_the_null() -> None:
    """What varies more from window to window than chance explains needs a larger change."""
    rng = np.random.default_rng(11)
    ours, theirs = column(rng.normal(size=10_000)), rng.normal(0.2, 1.0, 1000)

    assert compare(ours, theirs, 4.0).evidence.p_value > 1e-3 > compare(ours, theirs).evidence.p_value
    assert compare(ours, theirs, 4.0).psi_noise_floor == pytest.approx(4 * compare(ours, theirs).psi_noise_floor)


@pytest.mark.parametrize("value", [np.nan, 3.0])
def test_columns_that_hold_nothing(value: float) -> None:
    """A column of one value, or of none, on either side is compared as far as it goes, without a warning."""
    rng = np.random.default_rng(12)
    alive, dead = rng.normal(size=1000), np.full(500, value)

    assert found(alive, dead).evidence.p_value < 1e-6
    assert found(dead, alive).evidence.p_value < 1e-6
    assert found(dead, dead).evidence.p_value == 1.0


def test_luck_of_a_small_reference_is_no_drift() -> None:
    """Which of a hundred categories lead a small reference is chance, and calls no larger window different."""
    rng = np.random.default_rng(6)
    city = Subject("x", "categorical", tuple(str(code) for code in range(100)))
    p_values = [
        compare(ReferenceColumn(city, rng.integers(0, 100, 500)), rng.integers(0, 100, 2000)).evidence.p_value
        for _ in range(100)
    ]

    assert np.mean(np.array(p_values) <= 0.05) <= 0.1


def test_inflation_widens_every_test_of_categories() -> None:
    """Chi-square and the largest share alike need a larger change where the column varies by itself."""
    rng = np.random.default_rng(13)
    ours, theirs = column(rng.integers(0, 5, 10_000).astype(np.int32)), rng.integers(0, 4, 300).astype(np.int32)
    plain, wider = compare(ours, theirs).evidence.each, compare(ours, theirs, 4.0).evidence.each

    assert {name: wider[name] > 1e3 * p_value for name, p_value in plain.items()} == dict.fromkeys(plain, True)


@pytest.mark.parametrize("law", laws())
def test_a_small_reference_keeps_the_level(law: str) -> None:
    """Whatever the column holds, a window of the reference's own law is called drift about once in a hundred looks."""
    assert sum(rejections(law, rows, 500, 100) for rows in (30, 100, 300)) / 3 <= 0.03


def test_a_new_value_is_found_beside_few_known_ones() -> None:
    """Where the reference is large enough to know all values, a new one is found, among numbers and categories."""
    rng = np.random.default_rng(5)
    three, four = (
        rng.choice(3, 5000).astype(np.float64),
        rng.choice(4, 500, p=[0.32, 0.32, 0.32, 0.04]).astype(np.float64),
    )
    unseen = np.where(four == 3, UNSEEN, four).astype(np.int32)

    assert found(three, four).evidence.p_value < 1e-6
    assert found(three.astype(np.int32), unseen).evidence.p_value < 1e-6


def test_more_novelty_than_before_is_found() -> None:
    """Where the frequent categories make room for others, that is a drift, although new ones were to be expected."""
    rng = np.random.default_rng(6)
    before = rng.choice(400, 2000, p=np.repeat([0.005, 0.5 / 300], [100, 300]))
    after = rng.choice(400, 1000, p=np.repeat([0.003, 0.7 / 300], [100, 300]))
    reference, window = encoded(*(np.array([f"c{code}" for code in side], dtype=object) for side in (before, after)))

    assert compare(reference, window).evidence.p_value < 1e-4


def test_values_that_went_through_32_bits_are_the_same_values() -> None:
    """Tenths that a client keeps as 32-bit numbers are tenths; a tenth that became another one still is a change."""
    rng = np.random.default_rng(7)
    tenths = rng.integers(1, 10, 2500) / 10
    narrow = tenths[2000:].astype(np.float32).astype(np.float64)

    assert found(tenths[:2000], narrow).evidence.p_value == found(tenths[:2000], tenths[2000:]).evidence.p_value
    assert found(tenths[:2000], np.where(narrow < 0.25, 0.3, narrow)).evidence.p_value < 1e-6


@pytest.mark.parametrize("ordered", [False, True])
def test_a_sparse_column_that_dies_is_found(ordered: bool) -> None:
    """A column of which one value in a hundred is there, and then none, has drifted, with times as without."""
    rng = np.random.default_rng(12)
    values = np.where(rng.random(10_000) < 0.99, np.nan, rng.normal(size=10_000))
    found = compare(ReferenceColumn(Subject("x", "numeric"), values, ordered), np.full(5000, np.nan))

    assert found.evidence.p_value < 1e-10
    assert found.effect > 0.01
