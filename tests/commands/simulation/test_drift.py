"""The simulator's drift: what changes, from where on, and what stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import ks_2samp

from app.commands.simulation.drift import NEW_CATEGORY, Drift, DriftKind, Sample, drifting, endless, plan_drift
from app.errors import PlumblineError
from app.types import Feature, FeatureType

FEATURES = (
    Feature("age", FeatureType.INTEGER),
    Feature("income", FeatureType.NUMERIC, nullable=True),
    Feature("channel", FeatureType.CATEGORICAL, categories=("shop", "web")),
    Feature("zone", FeatureType.CATEGORICAL, categories=(1, 2, 7)),
)


@pytest.fixture
def data() -> list[Sample]:
    """Two hundred rows with both labels and some missing incomes."""
    rng = np.random.default_rng(1)
    return [
        Sample(
            {
                "age": int(rng.integers(18, 90)),
                "income": None if row % 10 == 0 else float(rng.normal(100, 20)),
                "channel": "web" if row % 2 else "shop",
                "zone": 7,
            },
            row % 2,
        )
        for row in range(200)
    ]


def run(data: list[Sample], drift: Drift, rows: int = 2000, seed: int = 3) -> list[Sample]:
    """The drifting samples of one seed."""
    rng = np.random.default_rng(seed)
    return list(drifting(endless(data, FEATURES, (0, 1), rng), [drift], rows, rng))


def plan(
    data: list[Sample], kind: DriftKind, amount: float | None = None, name: str | None = None, from_row: int = 1000
) -> Drift:
    """A drift of the features above."""
    return plan_drift(kind, data, FEATURES, (0, 1), from_row=from_row, amount=amount, name=name)


def numbers(samples: Sequence[Sample], name: str) -> np.ndarray:
    """The values of a numeric feature that are there."""
    return np.array([sample.features[name] for sample in samples if sample.features[name] is not None], dtype=float)


def test_same_seed_same_traffic(data: list[Sample]) -> None:
    """Two runs with one seed send the same rows; another seed sends others."""
    drift = plan(data, DriftKind.MISSING)

    assert run(data, drift) == run(data, drift)
    assert run(data, drift) != run(data, drift, seed=4)


def test_fresh_rows_follow_when_the_data_are_used_up(data: list[Sample]) -> None:
    """First each row as it is, then rows of the same law, each with an income of its own and values that can be."""
    samples = run(data, plan(data, DriftKind.NONE), rows=2_000)
    fresh = samples[200:]

    assert samples[:200] == data
    whole = [tuple(sample.features.values()) for sample in samples if sample.features["income"] is not None]
    assert len(set(whole)) == len(whole) == 1_800
    for name in ("age", "income"):
        ours, theirs = numbers(data, name), numbers(fresh, name)
        assert ours.min() <= theirs.min() <= theirs.max() <= ours.max()
        assert ks_2samp(ours, theirs).statistic < 0.04
    assert all(type(sample.features["age"]) is int for sample in fresh)
    assert {sample.features["channel"] for sample in fresh} == {"shop", "web"}
    assert sum(sample.features["income"] is None for sample in fresh) == 180
    assert sum(sample.outcome == 1 for sample in fresh) == 900


def test_fresh_rows_keep_the_decimals_of_a_column() -> None:
    """A price in halves stays one, and a numeric outcome moves with the features that it depends on."""
    rng = np.random.default_rng(8)
    prices = np.round(rng.gamma(4.0, 10.0, 300) * 2) / 2
    data = [Sample({"income": price}, 3 * price + rng.normal()) for price in prices.tolist()]
    fresh = list(drifting(endless(data, FEATURES[1:2], (), rng), [plan(data, DriftKind.NONE)], 900, rng))[300:]
    pairs = np.array([(sample.features["income"], sample.outcome) for sample in fresh], dtype=float)

    assert np.array_equal(pairs[:, 0] * 10, np.round(pairs[:, 0] * 10))
    assert np.corrcoef(pairs.T)[0, 1] > 0.98


def test_several_features_drift_at_once(data: list[Sample]) -> None:
    """Each named feature is shifted, from the same row on."""
    drifts = [plan(data, DriftKind.SHIFT, 2.0, name, from_row=100) for name in ("age", "income")]
    samples = list(drifting(data, drifts, 200, np.random.default_rng(3)))

    assert samples[:100] == data[:100]
    for name in ("age", "income"):
        moved, before = numbers(samples[100:], name).mean(), numbers(data[100:], name).mean()
        assert moved == pytest.approx(before + 2 * numbers(data, name).std(), abs=0.5)


@pytest.mark.parametrize("kind", [kind for kind in DriftKind if kind is not DriftKind.NONE])
def test_nothing_changes_before_the_chosen_row(data: list[Sample], kind: DriftKind) -> None:
    """Up to --from-row the traffic is the data itself, whatever follows."""
    before = run(data, plan(data, kind, from_row=200), rows=400)[:200]

    assert before == data


def test_shift_moves_the_mean_by_standard_deviations(data: list[Sample]) -> None:
    """A shift of 2 moves the mean by two standard deviations of the data and leaves their spread."""
    samples = run(data, plan(data, DriftKind.SHIFT, 2.0, "income", from_row=0), rows=200)
    before, after = numbers(data, "income"), numbers(samples, "income")

    assert after.mean() == pytest.approx(before.mean() + 2 * before.std())
    assert after.std() == pytest.approx(before.std())


def test_scale_stretches_around_the_mean(data: list[Sample]) -> None:
    """A scale of 3 triples the spread and keeps the mean."""
    samples = run(data, plan(data, DriftKind.SCALE, 3.0, "income", from_row=0), rows=200)
    before, after = numbers(data, "income"), numbers(samples, "income")

    assert after.mean() == pytest.approx(before.mean())
    assert after.std() == pytest.approx(3 * before.std())


def test_integers_stay_integers(data: list[Sample]) -> None:
    """A shifted integer feature is still sent as whole numbers."""
    samples = run(data, plan(data, DriftKind.SHIFT, 0.37, "age", from_row=0), rows=200)

    assert all(type(sample.features["age"]) is int for sample in samples)


def test_missing_takes_a_share_of_the_rows(data: list[Sample]) -> None:
    """Missing values grow by the chosen share of the rows that had one."""
    samples = run(data, plan(data, DriftKind.MISSING, 0.5, from_row=0))
    share = sum(sample.features["income"] is None for sample in samples) / len(samples)

    assert share == pytest.approx(0.1 + 0.9 * 0.5, abs=0.04)


@pytest.mark.parametrize(("name", "unseen"), [("channel", NEW_CATEGORY), ("zone", 8)])
def test_new_category_is_of_the_features_own_type(data: list[Sample], name: str, unseen: str | int) -> None:
    """A category that the model never saw appears in the chosen share, as text or as an integer as the others are."""
    samples = run(data, plan(data, DriftKind.NEW_CATEGORY, 0.25, name, from_row=0))
    share = sum(sample.features[name] == unseen for sample in samples) / len(samples)

    assert share == pytest.approx(0.25, abs=0.04)


def test_label_flip_leaves_the_features_alone(data: list[Sample]) -> None:
    """Concept drift: the inputs stay as they are, and the chosen share of the labels turns."""
    samples = run(data, plan(data, DriftKind.LABEL_FLIP, 0.4, from_row=0), rows=200)
    flipped = sum(after.outcome != before.outcome for after, before in zip(samples, data, strict=True)) / 200

    assert [sample.features for sample in samples] == [sample.features for sample in data]
    assert flipped == pytest.approx(0.4, abs=0.1)


def test_the_data_are_never_changed(data: list[Sample]) -> None:
    """A drift makes new rows and leaves the data as read."""
    before = [dict(sample.features) for sample in data]
    run(data, plan(data, DriftKind.SHIFT, from_row=0))

    assert [sample.features for sample in data] == before


@pytest.mark.parametrize(
    ("kind", "name", "line"),
    [
        (DriftKind.MISSING, "age", "--drift missing: needs a nullable feature; nullable here: income"),
        (DriftKind.SHIFT, "channel", "--drift shift: needs a numeric feature; numeric here: age, income"),
        (
            DriftKind.NEW_CATEGORY,
            "x",
            "--drift new-category: needs a categorical feature; categorical here: channel, zone",
        ),
    ],
)
def test_a_feature_that_cannot_drift_so_is_refused(data: list[Sample], kind: DriftKind, name: str, line: str) -> None:
    """The refusal is one line that names the features that can."""
    with pytest.raises(PlumblineError) as refusal:
        plan(data, kind, name=name)

    assert str(refusal.value) == line


@pytest.mark.parametrize("kind", [DriftKind.MISSING, DriftKind.NEW_CATEGORY, DriftKind.LABEL_FLIP])
def test_a_share_is_between_0_and_1(data: list[Sample], kind: DriftKind) -> None:
    """An amount of 2 is a mistake where it stands for a share of the rows."""
    with pytest.raises(PlumblineError, match="share of rows"):
        plan(data, kind, amount=2.0)


def test_label_flip_needs_classes(data: list[Sample]) -> None:
    """A regression has no labels to flip, and says so."""
    with pytest.raises(PlumblineError, match="needs a model with classes"):
        plan_drift(DriftKind.LABEL_FLIP, data, FEATURES, (), from_row=0)


def test_a_feature_without_values_cannot_shift(data: list[Sample]) -> None:
    """Without a value there is no spread to shift by."""
    empty = [Sample({**sample.features, "income": None}, sample.outcome) for sample in data]

    with pytest.raises(PlumblineError, match="the data hold no value of it"):
        plan(empty, DriftKind.SHIFT, name="income")
