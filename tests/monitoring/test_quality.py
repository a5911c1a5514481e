"""Data quality finds what is broken, with a limit that knows how many rows there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from app.monitoring.limits import Limits
from app.monitoring.quality import data_quality
from app.monitoring.reference import Reference, encode
from app.types import Json, ModelSchema, Row

Draw = Callable[..., list[Row]]
LIMITS = Limits(alpha=1e-4)


@pytest.fixture
def reference(draw: Draw, make_reference: Callable[..., Reference]) -> Reference:
    """Draw five thousand rows of a quiet world."""
    return make_reference(draw(5000, seed=1))


def findings(schema: ModelSchema, reference: Reference | None, rows: list[Row]) -> list[Json]:
    """Judge rows."""
    found: list[Json] = data_quality(schema, reference, encode(schema, rows), LIMITS)["findings"]
    return found


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

    def with_missing(count: int) -> list[Json]:
        return findings(schema, reference, [(None, *row[1:]) for row in rows[:count]] + rows[count:])

    assert with_missing(enough - 1) == []
    assert [each["kind"] for each in with_missing(enough)] == ["missing_share"]


def test_without_a_reference_nothing_is_abnormal(schema: ModelSchema, draw: Draw) -> None:
    """Without a reference there are no findings."""
    assert findings(schema, None, draw(100, seed=1, missing=0.9)) == []
