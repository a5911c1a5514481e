"""Warnings about a model's columns, for the one who bundles it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.serving.bundle.bundle_warnings import find_warnings
from app.types import Feature, FeatureType, ModelSchema, Task

ROWS = 2000
RNG = np.random.default_rng(20_261_130)
TRUTH = RNG.integers(0, 2, ROWS)
CATEGORICAL, INTEGER, NUMERIC = FeatureType.CATEGORICAL, FeatureType.INTEGER, FeatureType.NUMERIC
GOOD = {"accuracy": 0.9, "roc_auc": 0.95}
STORES = RNG.permutation(np.arange(100, 900, 16))
SIZES = RNG.dirichlet(np.full(50, 0.7))
RISK = RNG.uniform(0.05, 0.95, 50)
PLACE = RNG.integers(0, 50, ROWS)


def warnings_of(
    values: Sequence[Any],
    kind: FeatureType,
    *,
    name: str = "x",
    truth: Sequence[Any] | np.ndarray[Any, Any] = TRUTH,
    task: Task = Task.BINARY,
) -> list[str]:
    """What is said of a column with this truth beside a good model."""
    schema = ModelSchema("m", "1", task, (Feature(name, kind),), () if task is Task.REGRESSION else (0, 1), 1)
    return list(find_warnings(schema, [(value,) for value in values], np.asarray(truth, dtype=np.float64), GOOD))


LOOKS_LIKE: dict[str, tuple[Sequence[Any], FeatureType, str, str]] = {
    "order numbers": ([f"order-{at}" for at in range(ROWS)], CATEGORICAL, "order", "an identifier: 2000 different"),
    "a row number": (RNG.permutation(ROWS).tolist(), INTEGER, "x", "an identifier"),
    "customer ids": (RNG.choice(10**9, ROWS, replace=False).tolist(), INTEGER, "customer_id", "an identifier"),
    "comments": ([f"the parcel {at} came late" for at in range(ROWS)], CATEGORICAL, "x", "free text"),
    "dates": ([20_250_101 + at % 28 + at % 12 * 100 for at in range(ROWS)], INTEGER, "x", "dates as YYYYMMDD"),
    "seconds": ([1_760_000_000 + 7 * at for at in range(0, 4 * ROWS, 4)], INTEGER, "x", "times in seconds"),
    "milliseconds": ([1_760_000_000_000 + 977 * at for at in range(ROWS)], INTEGER, "x", "times in milliseconds"),
    "codes by their frequency": (RNG.choice(STORES, ROWS, p=SIZES).tolist(), INTEGER, "x", "a code: "),
    "codes by their name": (RNG.integers(1, 51, ROWS).tolist(), INTEGER, "store_id", "a code: 50 whole numbers"),
}


@pytest.mark.parametrize("name", LOOKS_LIKE)
def test_columns_that_look_like_something_else(name: str) -> None:
    """Identifiers, free text, dates and codes are named as such, once each."""
    values, kind, feature, told = LOOKS_LIKE[name]

    [warning] = warnings_of(values, kind, name=feature)

    assert f"feature {feature} looks like {told}" in warning


def test_codes_by_their_outcomes() -> None:
    """Whole numbers of even frequency are codes where neighbours differ in their outcomes."""
    truth = RNG.uniform(size=ROWS) < RISK[PLACE]

    [warning] = warnings_of(PLACE.tolist(), INTEGER, truth=truth)

    assert warning.endswith("bundle it with --categorical x")


PLAIN: dict[str, tuple[Sequence[Any], FeatureType]] = {
    "ages": (RNG.integers(18, 90, ROWS).tolist(), INTEGER),
    "counts": (RNG.poisson(20, ROWS).tolist(), INTEGER),
    "rare counts": (RNG.geometric(0.1, ROWS).tolist(), INTEGER),
    "incomes": (RNG.lognormal(10, 1, ROWS).round().astype(int).tolist(), INTEGER),
    "amounts": (RNG.lognormal(3, 1, ROWS).tolist(), NUMERIC),
    "years": (RNG.integers(1990, 2026, ROWS).tolist(), INTEGER),
    "hours": (RNG.integers(0, 24, ROWS).tolist(), INTEGER),
    "cities": ([f"city {at % 300}" for at in range(ROWS)], CATEGORICAL),
    "some missing": ([None if at % 3 else at % 7 for at in range(ROWS)], INTEGER),
    "nearly all missing": ([None] * (ROWS - 5) + [1, 2, 3, 4, 5], INTEGER),
    "no value at all": ([None] * ROWS, NUMERIC),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_columns(name: str) -> None:
    """Of ages, counts, amounts and categories nothing is said."""
    values, kind = PLAIN[name]

    assert warnings_of(values, kind) == []


def test_a_smooth_dependence_is_no_code() -> None:
    """Whole numbers on which the outcome depends smoothly are numbers."""
    ages = RNG.integers(18, 80, ROWS)
    truth = RNG.uniform(size=ROWS) < (ages - 18) / 62

    assert warnings_of(ages.tolist(), INTEGER, truth=truth) == []


def test_a_constant_column() -> None:
    """A column with one value is named with it."""
    assert warnings_of([3] * ROWS, INTEGER) == ["feature x is 3 in all of 2000 rows: it tells the model nothing"]


def test_a_number_that_tells_the_target() -> None:
    """A number that orders the classes without a mistake is suspect; one that mostly does is not."""
    told = TRUTH * 10 + RNG.uniform(size=ROWS)

    [warning] = warnings_of(told.tolist(), NUMERIC)

    assert "alone tells the target: AUC 1.0000 on 2000 rows" in warning
    assert warnings_of((TRUTH + RNG.normal(size=ROWS)).tolist(), NUMERIC) == []


def test_categories_that_each_go_with_one_class() -> None:
    """A state that is only known after the truth tells it, with more values than there are classes."""
    states = [("paid", "paid late", "paid twice")[at % 3] if truth else "due" for at, truth in enumerate(TRUTH)]

    [warning] = warnings_of(states, CATEGORICAL)

    assert "tells the target in all of 2000 rows" in warning


def test_regression() -> None:
    """In regression, the target is suspect in any unit; a good predictor is not."""
    truth = RNG.normal(size=ROWS)

    for told in (truth, 1 - 100 * truth, np.exp(truth)):
        assert len(warnings_of(told.tolist(), NUMERIC, truth=truth, task=Task.REGRESSION)) == 1
    near = truth + 0.1 * RNG.normal(size=ROWS)
    assert warnings_of(near.tolist(), NUMERIC, truth=truth, task=Task.REGRESSION) == []
