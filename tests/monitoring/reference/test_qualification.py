"""Qualification: variation between the blocks of a reference, beyond chance and autocorrelation, widens the null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal, stats

from app.monitoring.reference.columns import ReferenceColumn, Subject
from app.monitoring.reference.qualification import inflations, qualify, shrink_variances, student_widening

ROWS = 5000
TIMES = np.arange(ROWS)


def number(values: NDArray[np.float64], name: str = "x") -> ReferenceColumn:
    """A numeric column."""
    return ReferenceColumn(Subject(name, "numeric"), values)


def found(columns: Sequence[ReferenceColumn]) -> list[float]:
    """The columns' inflations."""
    named = [ReferenceColumn(replace(each.subject, name=f"{place}"), each.values) for place, each in enumerate(columns)]
    return [entry["inflation"] for entry in qualify(named, [], TIMES)["features"].values()]


def by_block(rng: np.random.Generator, spread: float) -> NDArray[np.float64]:
    """One value per block of 250 rows, repeated over it."""
    return np.repeat(rng.normal(scale=spread, size=20), 250)


def test_independent_rows_are_not_widened() -> None:
    """Where only chance is at work, every kind of column keeps its null: power is not given away."""
    rng = np.random.default_rng(1)
    columns = [number(rng.normal(size=ROWS)) for _ in range(10)]
    columns += [number(rng.poisson(1.0, ROWS).astype(np.float64)), number(rng.standard_cauchy(ROWS))]
    codes = rng.choice(4, ROWS, p=[0.6, 0.3, 0.0995, 0.0005])
    columns.append(ReferenceColumn(Subject("channel", "categorical", ("a", "b", "c", "d")), codes))

    assert max(found(columns)) < 1.25
    assert qualify(columns, [], TIMES)["reason"].startswith("qualified by 20 blocks of 250 rows")


@pytest.mark.parametrize("what", ["location", "scale", "missing", "share"])
def test_what_varies_between_blocks_is_widened(what: str) -> None:
    """A column whose location, scale, missing share or category share varies is widened; the others hardly are."""
    rng = np.random.default_rng(2)
    still = [number(rng.normal(size=ROWS)) for _ in range(8)]
    level, values = by_block(rng, 0.3), rng.normal(size=ROWS)
    varying = {
        "location": number(values + level, "varying"),
        "scale": number(values * np.exp(level), "varying"),
        "missing": number(np.where(rng.random(ROWS) < 0.1 * np.exp(2 * level), np.nan, values), "varying"),
        "share": ReferenceColumn(
            Subject("varying", "categorical", ("a", "b")), (rng.random(ROWS) < 0.5 + level / 2).astype(np.int32)
        ),
    }[what]

    *others, widened = found([*still, varying])

    assert widened > 4
    assert np.mean(others) < 2
    assert "varying varies most" in qualify([*still, varying], [], TIMES)["reason"]


def test_autocorrelation_alone_is_not_widened() -> None:
    """Neighbouring rows that resemble each other are counted as fewer rows, and not a second time as variation."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(12, ROWS + 100))
    columns = [number(row[100:]) for row in signal.lfilter([1.0], [1.0, -0.7], noise)]

    assert max(found(columns)) < 1.5


def test_a_daily_cycle_is_no_variation() -> None:
    """A feature that follows the hour is compared with the same hours, and so not widened for its cycle."""
    rng = np.random.default_rng(6)
    times = TIMES * 150_000_000
    wave = np.sin(times / 86_400_000_000 * 2 * np.pi)

    qualification = qualify([number(rng.normal(size=ROWS) + wave)], [], times)

    assert qualification["features"]["x"]["inflation"] < 2


def test_widened_null_holds_in_new_blocks() -> None:
    """A z-test of a new block's mean against the reference, widened, hardly alarms above its level; plain, it does."""
    rng = np.random.default_rng(4)
    plain, widened = [], []
    for _ in range(12):
        levels = rng.normal(scale=0.1, size=(8, 21))
        blocks = rng.normal(size=(8, 21, 250)) + levels[:, :, None]
        inflation = np.array(found([number(column[:20].ravel()) for column in blocks]))
        z = (blocks[:, 20].mean(axis=1) - blocks[:, :20].mean(axis=(1, 2))) / np.sqrt(1 / 250 + 1 / ROWS)
        plain += (2 * stats.norm.sf(np.abs(z))).tolist()
        widened += (2 * stats.norm.sf(np.abs(z) / np.sqrt(inflation))).tolist()

    assert np.mean(np.array(plain) < 0.05) > 0.2
    assert np.mean(np.array(widened) < 0.05) <= 0.1


@pytest.mark.parametrize(
    ("times", "rows", "reason"),
    [(None, 1000, "no timestamps"), ("same", 1000, "all timestamps are equal"), ("order", 399, "400 rows are needed")],
)
def test_not_qualified(times: str | None, rows: int, reason: str) -> None:
    """Without times, or with too few rows, it is said why, and nothing is widened."""
    moments = {None: None, "same": np.zeros(rows, dtype=np.int64), "order": np.arange(rows)}[times]

    qualification = qualify([number(np.arange(float(rows)))], [], moments)

    assert qualification["reason"].startswith("not qualified: ")
    assert reason in qualification["reason"]
    assert inflations(qualification, ["x"], 1000) == [1.0]


def test_constant_and_missing_columns() -> None:
    """Columns in which no row differs have nothing to vary."""
    assert found([number(np.ones(ROWS)), number(np.full(ROWS, np.nan))]) == [1.0, 1.0]


def test_moderation_leaves_what_differs() -> None:
    """Variances that differ by more than chance keep their order and most of their size."""
    rng = np.random.default_rng(5)
    truth = np.repeat([1.0, 20.0], 50)
    drawn = truth * rng.chisquare(19, 100) / 19

    squeezed, freedom = shrink_variances(drawn, 19)

    assert 19 < freedom < 30
    assert squeezed[:50].mean() == pytest.approx(1.0, rel=0.3)
    assert squeezed[50:].mean() == pytest.approx(20.0, rel=0.3)
    assert student_widening(freedom) > 1


def test_times_of_an_independent_reference_hardly_ever_widen() -> None:
    """Of forty features that vary by chance alone, one at a time, at most one is widened: times cost no power."""
    rng = np.random.default_rng(11)
    widened = [found([number(rng.normal(size=ROWS))])[0] > 1 for _ in range(40)]

    assert sum(widened) <= 1


def test_variation_grows_with_the_window_up_to_four_blocks() -> None:
    """A window of four blocks and one of forty vary alike: what lasts longer is not in the reference."""
    known = {"rows": 500, "features": {"x": {"inflation": 1.5, "blocks": 20}}}

    assert [inflations(known, ["x"], rows)[0] for rows in (1000, 2000, 20_000)] == [2.0, 3.0, 3.0]
