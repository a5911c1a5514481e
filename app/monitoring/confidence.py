"""Performance of a classifier without labels: how often its answers are right, by how sure it is of them.

Confidence-based estimation calibrates the model's probabilities on the reference, where the outcomes are known, and
takes the metrics to expect of the window's. Where the input has shifted, the reference is weighted to look like the
window first: what the model's confidence is worth may differ from one region of the input to another. Bialek, Kuberski,
Perrakis and Bifet (2024), arXiv:2401.08348. No method without labels sees that the truth itself has changed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.monitoring.calibration import Calibration, probabilities_of
from app.monitoring.expected import Expected
from app.monitoring.intervals import Bounded, Mean
from app.monitoring.sample import Sample
from app.monitoring.scored import Measured, Scored
from app.monitoring.statistics import FloatArray
from app.monitoring.weighting import Shift, trust

_SEED = 20_130_102
_FITS, _FEWEST, _MOST = 60, 12, 30
_LOSSES = frozenset({"log_loss", "brier"})


class Confidence:
    """The estimate for one window.

    >>> from app.monitoring.weighting import measure_shift
    >>> from app.types import ModelSchema, Task
    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
    >>> rng = np.random.default_rng(1)
    >>> said = rng.random((2, 2000))
    >>> truth = (rng.random((2, 2000)) < said**2).astype(np.int64)
    >>> ours, theirs = (
    ...     Sample(x[:, np.newaxis], x < 0, Scored(schema, y, (x > 0.5).astype(int), np.column_stack([1 - x, x])))
    ...     for x, y in zip(said, truth)
    ... )
    >>> estimate = Confidence(ours, theirs, measure_shift(ours.inputs, theirs.inputs))
    >>> estimate.method, round(estimate.measured()["accuracy"].value, 2)
    ('calibrated-confidence', 0.74)
    >>> round(float(np.mean(truth[1] == (said[1] > 0.5))), 2)
    0.75
    """

    def __init__(self, reference: Sample, window: Sample, shift: Shift) -> None:
        self._answers, self._shift = window.answers, shift
        self._calibration = calibration = Calibration.of(reference.answers)
        self._truth, self._known = _certain(reference.answers), Expected(reference.answers)
        self._scores, self._raw = probabilities_of(reference.answers), probabilities_of(window.answers)
        ones, expected = np.ones(reference.rows), Expected(window.answers)
        self._beliefs = [calibration.where_it_helps(ones, self._raw), calibration.belief(shift.weights, self._raw)]
        believed = calibration.where_it_helps(ones, self._scores), calibration.belief(shift.weights, self._scores)
        self._anchors = [self._anchor(ones, believed[0]), self._anchor(shift.weights, believed[1])]
        self._names = list(expected.metrics(self._raw))
        plain, weighted = self._estimates(expected, np.ones(window.rows, dtype=np.bool_))
        fits, sampled = self._resampled(expected)
        variance = _variance(fits[1] - fits[0])
        self._trust = trust(weighted - plain, variance) if shift.shifted else np.zeros(len(self._names))
        self._errors = np.sqrt(_variance(sampled) + _variance(fits[0]) + self._trust * variance)

    @property
    def method(self) -> str:
        """What the estimate rests on."""
        calibrated = "calibrated-confidence" if any(self._calibration.helps) or self._shift.shifted else "confidence"
        return f"importance-weighted-{calibrated}" if self._shift.shifted else calibrated

    def values(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """Estimate each metric over some of the window's rows; NaN where it is undefined."""
        plain, weighted = self._estimates(Expected(self._answers.only(rows)), rows)
        found = dict(zip(self._names, plain + self._trust * (weighted - plain), strict=True))
        return {name: float(np.clip(value, 0.0, np.inf if name in _LOSSES else 1.0)) for name, value in found.items()}

    def measured(self) -> dict[str, Measured]:
        """Estimate each metric over the window, with an interval for what its outcomes will show."""
        values = self.values(np.ones(self._answers.rows, dtype=np.bool_))
        errors = dict(zip(self._names, self._errors.tolist(), strict=True))
        return {name: self._with_interval(name, value, errors[name]) for name, value in values.items()}

    def _with_interval(self, name: str, value: float, error: float) -> Measured:
        rows = self._answers.rows
        if np.isnan(value):
            return Measured(None, None)
        return Measured(value, Mean(value, error, 0.0, rows, 0.0) if name in _LOSSES else Bounded(value, error, rows))

    def _estimates(self, expected: Expected, rows: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Estimate over some of the window's rows, with all reference rows alike and with their weights."""
        plain, weighted = (
            _array(expected.metrics(belief[rows])) + anchor
            for belief, anchor in zip(self._beliefs, self._anchors, strict=True)
        )
        return plain, weighted

    def _anchor(self, weights: FloatArray, belief: FloatArray) -> FloatArray:
        """What the belief is known to miss: realised less expected metrics of the reference, with these weights.

        A fit to finitely many rows finds order where there is none, so that the curve through its expected counts lies
        above the realised one: the correction takes that out of ROC AUC and average precision.
        """
        realised, expected = (self._known.metrics(each, weights) for each in (self._truth, belief))
        return _array(realised) - _array(expected)

    def _resampled(self, expected: Expected) -> tuple[FloatArray, FloatArray]:
        """Metrics by resampled references (plain, weighted), and by outcomes of the window drawn at random.

        The spread of the first is the calibration's error, that of the second what chance does to the outcomes of these
        very rows. Efron (1979), doi:10.1214/aos/1176344552. Weights are taken as they are.
        """
        rng, rows = np.random.default_rng(_SEED), len(self._shift.weights)
        plain, weighted, sampled = [], [], []
        for _ in range(min(max(_FITS // self._truth.shape[1], _FEWEST), _MOST)):
            counts = _counts(rows, rng)
            plain.append(self._refitted(expected, counts))
            moved = counts * self._shift.weights
            weighted.append(self._refitted(expected, moved) if self._shift.shifted else plain[-1])
            sampled.append(_array(expected.metrics(_drawn(self._beliefs[1], rng))))
        return np.array([plain, weighted]), np.array(sampled)

    def _refitted(self, expected: Expected, weights: FloatArray) -> FloatArray:
        belief = self._calibration.belief(weights, self._raw)
        anchor = self._anchor(weights, self._calibration.belief(weights, self._scores))
        return _array(expected.metrics(belief)) + anchor


def _counts(rows: int, rng: np.random.Generator) -> FloatArray:
    """How often each row is drawn when as many are drawn with replacement."""
    return np.bincount(rng.integers(rows, size=rows), minlength=rows).astype(np.float64)


def _certain(answers: Scored) -> FloatArray:
    return np.asarray(np.eye(len(answers.schema.classes))[answers.outcomes], dtype=np.float64)


def _drawn(belief: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw one outcome for each row, as the belief that is sure of it."""
    chances = belief.cumsum(axis=1)
    outcomes = (chances < rng.random((len(belief), 1)) * chances[:, -1:]).sum(axis=1)
    return np.asarray(np.eye(belief.shape[1])[outcomes], dtype=np.float64)


def _variance(values: FloatArray) -> FloatArray:
    """Measure the variance down each column, of what is defined."""
    return np.asarray(np.ma.masked_invalid(values).var(axis=0).filled(0.0), dtype=np.float64)


def _array(found: dict[str, float]) -> FloatArray:
    return np.array(list(found.values()))
