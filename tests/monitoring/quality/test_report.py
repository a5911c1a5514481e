"""Data quality finds what is broken, with a limit that knows how many rows there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from app.monitoring.check_request import Limits
from app.monitoring.quality.report import data_quality
from app.monitoring.reference.reference import Reference, encode, encode_labels
from app.monitoring.reference.seasonality import DAY, choose
from app.types import Feature, FeatureType, Label, ModelSchema, Row, Task

Draw = Callable[..., list[Row]]
LIMITS = Limits(alpha=1e-4)


@pytest.fixture
def reference(draw: Draw, make_reference: Callable[..., Reference]) -> Reference:
    """Draw five thousand rows of a quiet world."""
    return make_reference(draw(5000, seed=1))


def findings(
    schema: ModelSchema, reference: Reference | None, rows: list[Row], predictions: Sequence[Label] | None = None
) -> list[Any]:
    """Judge rows and, where they are given, the answers to them."""
    answers = None if predictions is None else encode_labels(schema, predictions)
    found: list[Any] = data_quality(schema, reference, encode(schema, rows), LIMITS, predictions=answers)["findings"]
    return found


def changed(rows: list[Row], place: int, change: Callable[[int, Any], Any]) -> list[Row]:
    """Replace one feature's value in each row by a function of the row's number and the value."""
    return [(*row[:place], change(number, row[place]), *row[place + 1 :]) for number, row in enumerate(rows)]


def test_quiet_windows_have_no_findings(schema: ModelSchema, reference: Reference, draw: Draw) -> None:
    """A hundred quiet windows of several sizes are all fine."""
    windows = [draw(50 + 10 * seed, seed=100 + seed) for seed in range(100)]

    assert [findings(schema, reference, rows) for rows in windows] == [[]] * 100


@pytest.mark.parametrize(
    ("move", "feature", "kind"),
    [
        ({"missing": 0.1}, "income", "missing_share"),
        ({"shift": 6.0}, "income", "out_of_range"),
        ({"unseen": 0.1}, "channel", "unseen_category"),
        ({"member": 0.0}, "member", "constant"),
    ],
)
def test_each_kind(
    schema: ModelSchema, reference: Reference, draw: Draw, move: dict[str, float], feature: str, kind: str
) -> None:
    """Each kind of damage is found in its feature, with a value above its limit and a sentence for the reader."""
    (finding,) = findings(schema, reference, draw(1000, seed=2, **move))

    assert (finding["feature"], finding["kind"]) == (feature, kind)
    assert finding["value"] >= finding["limit"] > 0
    assert "of rows" in finding["message"]


@pytest.mark.parametrize(
    ("place", "change", "kind"),
    [
        (1, lambda number, value: value + 0.5 if number % 50 == 0 else value, "type_change"),
        (0, lambda number, value: 0.123 if number >= 800 else value, "frozen"),
        (0, lambda number, value: 5.5 if number % 50 == 0 else value, "outlier_share"),
        (0, lambda number, value: -1e9 if number % 50 == 0 else value, "out_of_range"),
    ],
)
def test_damage_to_numbers(
    schema: ModelSchema,
    reference: Reference,
    draw: Draw,
    place: int,
    change: Callable[[int, Any], Any],
    kind: str,
) -> None:
    """Fractions among whole numbers, a sensor that stands still, and far values inside the bounds or outside them."""
    (finding,) = findings(schema, reference, changed(draw(1000, seed=2), place, change))

    assert (finding["feature"], finding["kind"]) == (schema.features[place].name, kind)
    assert finding["value"] == pytest.approx(0.2 if kind == "frozen" else 0.02, abs=0.005)
    assert finding["value"] >= finding["limit"] > 0


@pytest.mark.parametrize(("start", "end"), [(950, 1000), (700, 999)])
def test_a_number_that_moves_again_is_not_frozen(
    schema: ModelSchema, reference: Reference, draw: Draw, start: int, end: int
) -> None:
    """A short run, or a long one that is over, is none."""
    rows = changed(draw(1000, seed=2), 0, lambda number, value: 0.123 if start <= number < end else value)

    assert "frozen" not in [finding["kind"] for finding in findings(schema, reference, rows)]


def test_neighbours_that_are_alike_count_for_less(make_reference: Callable[..., Reference]) -> None:
    """Far values that come in clusters by nature are no finding; the same number, spread out, is one."""
    rng = np.random.default_rng(6)
    schema = ModelSchema("m", "1", Task.REGRESSION, (Feature("level", FeatureType.NUMERIC, high=3.0),))
    reference = make_reference([(value,) for value in rng.normal(size=1000).clip(max=3.0).tolist()], schema)
    blocks = np.repeat(rng.permutation(40), 25)
    calm = np.sort(rng.normal(size=1000).clip(max=2.9))[blocks * 25 + np.tile(np.arange(25), 40)]
    far = 3.1 + rng.random(1000)
    clustered: list[Row] = [(value,) for value in np.where(blocks >= 38, far, calm).tolist()]
    scattered = [clustered[place] for place in rng.permutation(1000)]

    assert findings(schema, reference, clustered) == []
    assert [finding["kind"] for finding in findings(schema, reference, scattered)] == ["out_of_range"]


def test_one_class_takes_over(schema: ModelSchema, reference: Reference, draw: Draw) -> None:
    """A class that the reference gives half of all rows, and the window nine tenths; less is left to drift."""
    answers = ["good"] * 900 + ["bad"] * 100
    (finding,) = findings(schema, reference, draw(1000, seed=2), answers)

    assert (finding["feature"], finding["kind"], finding["value"]) == (None, "class_imbalance", 0.9)
    assert "good" in finding["message"]
    assert findings(schema, reference, draw(1000, seed=2), ["good"] * 580 + ["bad"] * 420) == []


def test_an_in_sample_reference_says_nothing_of_answers(
    schema: ModelSchema, draw: Draw, make_reference: Callable[..., Reference]
) -> None:
    """A model's answers to rows that it was fitted on are no measure of the others."""
    reference = make_reference(draw(5000, seed=1), in_sample=True)

    assert findings(schema, reference, draw(1000, seed=2), ["good"] * 1000) == []


@pytest.mark.parametrize("categories", [2000, 3])
def test_new_categories_are_judged_by_the_rate_of_novelty(
    make_reference: Callable[..., Reference], categories: int
) -> None:
    """Where the reference keeps meeting new categories, so may a window; a flood of them is a finding all the same."""
    rng = np.random.default_rng(4)
    names = [f"c{number}" for number in range(categories)]
    known: list[Row] = [(name,) for name in rng.choice(names, 3000).tolist()]
    feature = Feature("city", FeatureType.CATEGORICAL, categories=tuple(sorted({str(name) for (name,) in known})))
    schema = ModelSchema("m", "1", Task.BINARY, (feature,), ("a", "b"), "b")
    quiet: list[Row] = [(name,) for name in rng.choice(names, 1000).tolist()]
    flood: list[Row] = [("new",), *quiet[1:]] if categories == 3 else quiet

    def kinds(rows: list[Row]) -> list[str]:
        return [finding["kind"] for finding in findings(schema, make_reference(known, schema), rows)]

    assert kinds(flood) == []
    assert kinds(changed(quiet, 0, lambda number, name: "new" if number % 2 else name)) == ["unseen_category"]


def test_repeated_rows(schema: ModelSchema, reference: Reference, draw: Draw) -> None:
    """Rows that were sent again and again are found; they belong to no single feature."""
    (finding,) = findings(schema, reference, draw(500, seed=2) * 2)

    assert (finding["feature"], finding["kind"], finding["value"]) == (None, "duplicates", pytest.approx(0.5, abs=0.01))


def test_natural_repeats_are_no_finding(make_reference: Callable[..., Reference], schema: ModelSchema) -> None:
    """Where the reference repeats its rows as well, repeats are normal."""
    rng = np.random.default_rng(1)

    def rows(count: int) -> list[Row]:
        return [(0.0, int(value), True, "web") for value in rng.poisson(3.0, count)]

    assert findings(schema, make_reference(rows(3000)), rows(1000)) == []


def test_the_limit_falls_with_the_number_of_rows(schema: ModelSchema, reference: Reference, draw: Draw) -> None:
    """What is chance in a small window is a finding in a large one."""
    limits = [
        finding["limit"]
        for count in (100, 1000, 5000)
        for finding in findings(schema, reference, draw(count, seed=2, missing=0.5))
    ]

    assert limits == sorted(limits, reverse=True)
    assert limits[0] > 2 * limits[-1]


def test_the_limit_is_where_findings_begin(schema: ModelSchema, reference: Reference, draw: Draw) -> None:
    """One row below the reported limit is no finding, the limit itself is one."""
    rows = draw(1000, seed=2, missing=0.0)
    (finding,) = findings(schema, reference, [(None, *row[1:]) for row in rows[:300]] + rows[300:])
    enough = round(finding["limit"] * 1000)

    def with_missing(count: int) -> list[Any]:
        return findings(schema, reference, [(None, *row[1:]) for row in rows[:count]] + rows[count:])

    assert with_missing(enough - 1) == []
    assert [each["kind"] for each in with_missing(enough)] == ["missing_share"]


def test_without_a_reference_nothing_is_abnormal(schema: ModelSchema, draw: Draw) -> None:
    """Without a reference there are no findings."""
    assert findings(schema, None, draw(100, seed=1, missing=0.9)) == []


def answers_by_hour(rng: np.random.Generator, times: Any, schema: ModelSchema) -> Reference:
    """A reference whose answers follow the hour: nine in ten are good at noon, one in ten at midnight."""
    good = rng.random(len(times)) < 0.5 - 0.4 * np.cos(2 * np.pi * times / DAY)
    columns = [rng.normal(size=len(times))]
    return Reference(schema, columns, good.astype(np.int32), times=times)


def test_answers_that_follow_the_hour_are_no_imbalance() -> None:
    """Answers are compared with those of the same hours: noon is as one-sided as every noon of the reference."""
    schema = ModelSchema("m", "1", Task.BINARY, (Feature("x", FeatureType.NUMERIC),), (0, 1), 1)
    reference = answers_by_hour(np.random.default_rng(8), np.arange(8000) * (10 * DAY // 8000), schema)
    noons = 20 * DAY + np.linspace(0.4, 0.6, 500) * DAY
    rows = answers_by_hour(np.random.default_rng(9), noons, schema)
    watched = [*reference.features, *reference.answers]
    season = choose(watched, reference.cycles, reference.times, noons.astype(np.int64)).columns

    def kinds(**known: Any) -> list[str]:
        found = data_quality(schema, reference, rows.columns, LIMITS, predictions=rows.predictions, **known)
        return [finding["kind"] for finding in found["findings"]]

    assert kinds() == ["class_imbalance"]
    assert kinds(season=season) == []
