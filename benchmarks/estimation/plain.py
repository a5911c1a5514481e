"""Plain confidence-based performance estimation (CBPE), to compare with: its published recipe, through scikit-learn."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.model_selection import StratifiedShuffleSplit

from app.monitoring.estimation.calibration import probabilities_of
from app.monitoring.estimation.classification import Expected
from app.monitoring.estimation.samples import Sample
from app.statistics import FloatArray

_BINS = 10


def plain(reference: Sample, window: Sample) -> dict[str, float]:
    """Calibrate on the reference where its binned calibration error falls out of fold, and expect the metrics."""
    scores, truth, ours = _scores(reference), reference.answers.outcomes, _scores(window)
    if _needs_calibration(scores, truth):
        ours = _fitted(scores, truth, ours)
    return Expected(window.answers).metrics(np.column_stack([1 - ours, ours]))


def _needs_calibration(scores: FloatArray, truth: FloatArray) -> bool:
    kept, fitted, happened = [], [], []
    for train, test in StratifiedShuffleSplit(n_splits=10, test_size=0.1, random_state=42).split(scores, truth):
        kept.append(scores[test])
        fitted.append(_fitted(scores[train], truth[train], scores[test]))
        happened.append(truth[test])
    pooled = np.concatenate(happened)
    return _error(np.concatenate(kept), pooled) > _error(np.concatenate(fitted), pooled)


def _error(scores: FloatArray, truth: FloatArray) -> float:
    """Expected calibration error over ten bins of equal counts."""
    parts = np.array_split(np.argsort(scores, kind="stable"), _BINS)
    return float(sum(len(part) * abs(scores[part].mean() - truth[part].mean()) for part in parts)) / len(scores)


def _fitted(scores: FloatArray, truth: FloatArray, at: FloatArray) -> FloatArray:
    return np.asarray(IsotonicRegression(out_of_bounds="clip").fit(scores, truth).predict(at), dtype=np.float64)


def _scores(sample: Sample) -> FloatArray:
    return probabilities_of(sample.answers)[:, 1]
