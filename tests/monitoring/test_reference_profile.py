"""A large reference keeps a fair sample of its rows; baseline and calibration are of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import BundleError
from app.monitoring.estimation.classification import Confidence
from app.monitoring.estimation.samples import Sample, measure_shift, reference_sample
from app.monitoring.performance.degradation import Degradation, baseline_of
from app.monitoring.performance.scoring import Scored
from app.monitoring.reference.reference import Reference, load_reference, save_reference
from app.monitoring.reference_profile import record_reference, stratified
from app.types import Answer, Feature, FeatureType, Micros, ModelSchema, Row, Task
from tests.support.monitoring.labelled_windows import report, window_of

SCHEMA = ModelSchema(
    "m",
    "1",
    Task.BINARY,
    (Feature("x", FeatureType.NUMERIC), Feature("channel", FeatureType.CATEGORICAL, categories=("shop", "web"))),
    classes=(0, 1),
    positive=1,
)


def rare(rows: int, seed: int, separation: float = 2.33, share: float = 0.0011) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw scores and truths of a rare class; 2.33 standard deviations apart are an area of 0.95."""
    rng = np.random.default_rng(seed)
    truth = rng.random(rows) < share
    return 1 / (1 + np.exp(6 - rng.normal(separation * truth, 1.0))), truth.astype(np.int64)


def answers(rows: Sequence[Row]) -> list[Answer]:
    """Answer with the feature as the probability."""
    scores = [float(row[0] or 0.0) for row in rows]
    return [Answer(int(score > 0.5), (1 - score, score)) for score in scores]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """A reference of 2,000 rows, chosen from 60,000 of which one in a thousand is positive."""
    folder = tmp_path_factory.mktemp("reference")
    score, truth = rare(60_000, seed=1)
    rows = [(x, "web" if place % 2 else "shop") for place, x in enumerate(score.tolist())]
    kept = stratified(truth, 2_000)
    record_reference(
        folder,
        SCHEMA,
        [rows[place] for place in kept],
        answers,
        outcomes=truth[kept].astype(np.int32),
        times=None,
        in_sample=False,
        now=Micros(0),
        whole=[(rows[:30_000], truth[:30_000].astype(np.int32)), (rows[30_000:], truth[30_000:].astype(np.int32))],
    )
    return load_reference(folder, SCHEMA)


def test_every_class_keeps_its_share() -> None:
    """A sample has as much of a rare class as the whole, from its first to its last row."""
    strata = np.zeros(100_000, dtype=np.int64)
    strata[::500] = 1
    kept = stratified(strata, 10_000)

    assert len(kept) == 10_000
    assert strata[kept].sum() == 20
    assert (np.diff(kept) > 0).all()
    assert np.flatnonzero(strata[kept])[[0, -1]].tolist() == pytest.approx([0, 9_999], abs=60)


def test_a_class_of_one_row_is_kept() -> None:
    """No class vanishes from the sample."""
    strata = np.zeros(10_000, dtype=np.int64)
    strata[777] = 5

    assert 777 in stratified(strata, 100)


def test_the_baseline_is_of_all_rows(reference: Reference) -> None:
    """Baseline, and that of a segment, count every row that the reference was chosen from."""
    score, truth = rare(60_000, seed=1)
    baseline = baseline_of(reference)

    assert reference.rows == 2_000
    assert baseline.scored is not None
    assert baseline.scored.rows == 60_000
    assert int(baseline.scored.outcomes.sum()) == int(truth.sum()) > 50
    assert baseline.measured["accuracy"].value == reference.baseline["accuracy"] == np.mean((score > 0.5) == truth)
    assert baseline.of(1, "web")["accuracy"].value == np.mean(((score > 0.5) == truth)[1::2])


def test_a_ranking_of_rare_positives_that_fails_is_seen(reference: Reference) -> None:
    """Of 20,000 rows with twenty positives, an area that falls from 0.95 to 0.55 is degraded; one that stays is not."""
    said = {}
    for name, separation in (("same", 2.33), ("lost", 0.18)):
        score, truth = rare(20_000, seed=2, separation=separation)
        shares = [(1 - x, x) for x in score.tolist()]
        window = window_of((score > 0.5).astype(int).tolist(), truth.tolist(), probabilities=shares)
        said[name] = report(window, reference, limits=Degradation(alpha=7e-6))["realised"]["metrics"]["roc_auc"]

    assert said["same"]["status"] == "ok"
    assert said["lost"]["status"] == "degraded"


def test_the_estimate_is_calibrated_by_all_rows(reference: Reference) -> None:
    """Without shift, the estimated area is that of all rows of the reference, not of the few kept positives."""
    score, _ = rare(5_000, seed=3)
    known = reference_sample(reference)
    scored = Scored(SCHEMA, np.full(5_000, -1), (score > 0.5).astype(int), np.column_stack([1 - score, score]))
    window = Sample(score[:, np.newaxis], np.zeros(5_000, dtype=np.bool_), scored)
    assert known is not None
    estimate = Confidence(known, window, measure_shift(known.inputs[:, :1], window.inputs))
    baseline = baseline_of(reference).measured["roc_auc"].value

    assert estimate.values(np.ones(5_000, dtype=np.bool_))["roc_auc"] == pytest.approx(baseline, abs=0.02)


def test_arrays_of_another_length_are_refused(reference: Reference, tmp_path: Path) -> None:
    """A file whose answers differ in number is no reference."""
    assert reference.judged is not None
    save_reference(tmp_path, reference)
    with np.load(tmp_path / "reference.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "reference.npz", **{**arrays, "all_predictions": arrays["all_predictions"][:-1]})
    (tmp_path / "profile.json").write_text('{"created_at": "", "in_sample": false, "baseline": {}}')

    with pytest.raises(BundleError, match="differ in length"):
        load_reference(tmp_path, SCHEMA)
