"""Estimate classification metrics from calibrated probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from app.figures.performance import METRIC
from app.monitoring.estimation.calibration import Calibration, probabilities_of
from app.monitoring.estimation.samples import Sample, Shift, trust
from app.monitoring.performance.metrics import positive_index
from app.monitoring.performance.scoring import Measured, Scored
from app.statistics import FloatArray
from app.statistics.intervals import Bounded, Mean
from app.store.database import Pause, no_pause
from app.types import Task


class Expected:
    """The metrics of one window's answers, for any belief about its outcomes.

    Outcomes that are known are the belief that gives one class all of the probability: the metrics are then the
    realised ones, of the same names and definitions.

    >>> from app.types import ModelSchema
    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
    >>> nothing, said = np.full(3, -1), np.array([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]])
    >>> answers = Scored(schema, nothing, np.array([0, 1, 1]), said)
    >>> found = Expected(answers).metrics(np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]))
    >>> round(found["accuracy"], 3), round(found["precision"], 3), round(found["roc_auc"], 3)
    (0.8, 0.75, 0.812)
    """

    def __init__(self, answers: Scored) -> None:
        schema, shares = answers.schema, np.ascontiguousarray(probabilities_of(answers).T)
        self._binary = schema.task is Task.BINARY
        self._watched = [positive_index(schema)] if self._binary else list(range(len(schema.classes)))
        # By class and row: sums along rows are several times faster than those down narrow columns.
        self._said = (answers.predictions == np.arange(len(schema.classes))[:, np.newaxis]).astype(np.float64)
        self._surprise = -np.log(np.maximum(shares, np.finfo(np.float64).eps))
        self._squares, self._lean = (shares**2).sum(axis=0), 1 - 2 * shares
        self._rankings = [_ranking(shares[code]) for code in self._watched]

    def metrics(self, belief: FloatArray, counts: FloatArray | None = None) -> dict[str, float]:
        """Give each metric, NaN where it is undefined.

        ``belief`` has shape (n, classes), rows adding up to 1; ``counts`` says how often each row counts, by default
        once. Precision, recall, specificity and F1 are ratios of expected counts; ROC AUC and average precision are
        those of the curve through the expected counts; many classes are averaged, each against the rest.
        """
        count = np.ones(len(belief)) if counts is None else counts
        mass, total = np.ascontiguousarray(belief.T) * count, float(count.sum())
        hits = (mass * self._said).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = self._rates(hits, mass.sum(axis=1), (self._said * count).sum(axis=1), total)
            areas = [_areas(mass[code][order], count[order], last) for code, (order, last) in self._ranked()]
        brier = float(np.sum(self._squares * count)) + float(np.sum(mass * self._lean))
        return {
            "accuracy": float(hits.sum()) / total,
            **{name: _mean(found) for name, found in rates.items()},
            "roc_auc": float(np.mean([area for area, _ in areas])),
            "average_precision": float(np.mean([precision for _, precision in areas])),
            "log_loss": float(np.sum(mass * self._surprise)) / total,
            "brier": brier / total / (2 if self._binary else 1),
        }

    def _ranked(self) -> list[tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]]:
        return list(zip(self._watched, self._rankings, strict=True))

    def _rates(self, hits: FloatArray, actual: FloatArray, said: FloatArray, total: float) -> dict[str, FloatArray]:
        """Compute one value per watched class, and the mean recall of all classes."""
        # Averages take a class that was never said, or never came, as a miss; on its own it has no rate.
        never = np.nan if self._binary else np.where(actual + said > 0, 0.0, np.nan)
        rates = {
            "precision": np.where(said > 0, hits / said, never),
            "recall": np.where(actual > 0, hits / actual, never),
            "specificity": (total - actual - said + hits) / (total - actual),
            "f1": 2 * hits / (actual + said),
        }
        watched = {name: rate[self._watched] for name, rate in rates.items()}
        return watched | {"balanced_accuracy": hits / actual}


def _mean(rates: FloatArray) -> float:
    """Average the classes in which a rate is defined."""
    defined = rates[~np.isnan(rates)]
    return float(defined.mean()) if len(defined) else np.nan


def _ranking(scores: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sort the rows by score, highest first.

    The second result is the last position of each run of equal scores.
    """
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))


def _areas(mass: FloatArray, count: FloatArray, last: NDArray[np.intp]) -> tuple[float, float]:
    """Areas under the ROC curve and, by steps, under the precision-recall curve."""
    hits, said = np.cumsum(mass)[last], np.cumsum(count)[last]
    misses = said - hits
    steps, widths = np.diff(hits, prepend=0.0), np.diff(misses, prepend=0.0)
    precision = np.divide(hits, said, out=np.zeros(len(said)), where=said > 0)
    return float(np.sum(widths * (hits - steps / 2)) / (hits[-1] * misses[-1])), float(
        np.sum(steps * precision) / hits[-1]
    )


_SEED = 20_130_102
_FITS, _MIN_FITS, _MAX_FITS = 60, 12, 30


class Confidence:
    """The estimate for one window.

    >>> from app.monitoring.estimation.samples import measure_shift
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

    def __init__(self, reference: Sample, window: Sample, shift: Shift, pause: Pause = no_pause) -> None:
        self._answers, self._shift = window.answers, shift
        self._whole = _plain(reference)
        self._kept = self._whole if reference.whole is None else _plain(reference.kept)
        self._calibration = calibration = self._kept.calibration
        self._order, known = _by_score(reference.answers, calibration)
        self._truth, self._known, self._scores = _certain(known), Expected(known), probabilities_of(known)
        self._raw, expected = probabilities_of(window.answers), Expected(window.answers)
        self._beliefs = [each.belief(self._raw) for each in (self._whole, self._kept)]
        self._beliefs.append(calibration.belief(shift.weights, self._raw))
        anchor = self._anchor(shift.weights, calibration.belief(shift.weights, self._scores))
        self._anchors = [self._whole.anchor, self._kept.anchor, anchor]
        self._names = list(expected.metrics(self._raw))
        _, plain, weighted = self._estimates(expected, np.ones(window.rows, dtype=np.bool_))
        fits, sampled = self._resampled(expected, pause)
        variance = _variance(fits[1] - fits[0])
        self._trust = trust(weighted - plain, variance) if shift.shifted else np.zeros(len(self._names))
        own = _variance(fits[0]) * (reference.rows / self._whole.rows)
        self._sampling, self._fitting = _variance(sampled), own + self._trust * variance

    @property
    def method(self) -> str:
        """Give the method of the estimate."""
        calibrated = (
            "calibrated-confidence" if any(self._whole.calibration.helps) or self._shift.shifted else "confidence"
        )
        return f"importance-weighted-{calibrated}" if self._shift.shifted else calibrated

    def values(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """Estimate each metric over some of the window's rows; NaN where it is undefined."""
        whole, plain, weighted = self._estimates(Expected(self._answers.only(rows)), rows)
        found = dict(zip(self._names, whole + self._trust * (weighted - plain), strict=True))
        return {
            name: float(np.clip(value, 0.0, 1.0 if METRIC[name].is_share else np.inf)) for name, value in found.items()
        }

    def measured(self, rows: NDArray[np.bool_] | None = None) -> dict[str, Measured]:
        """Estimate each metric over the window, with an interval for what its outcomes will show.

        Of some rows, chance in their outcomes is as much more as they are fewer.
        """
        chosen = np.ones(self._answers.rows, dtype=np.bool_) if rows is None else rows
        values, count = self.values(chosen), int(chosen.sum())
        errors = np.sqrt(self._sampling * (len(chosen) / max(count, 1)) + self._fitting).tolist()
        pairs = zip(values.items(), errors, strict=True)
        return {name: _with_interval(name, value, error, count) for (name, value), error in pairs}

    def _estimates(self, expected: Expected, rows: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Estimate over some rows: by the whole reference, by its kept rows, and by weighted ones.

        What weights change is a difference of two estimates from the same rows, which is put on top of the first.
        """
        whole, plain, weighted = (
            _array(expected.metrics(belief[rows])) + anchor
            for belief, anchor in zip(self._beliefs, self._anchors, strict=True)
        )
        return whole, plain, weighted

    def _anchor(self, weights: FloatArray, belief: FloatArray) -> FloatArray:
        return _known_error(self._known, self._truth, belief, weights[self._order])

    def _resampled(self, expected: Expected, pause: Pause) -> tuple[FloatArray, FloatArray]:
        """Estimate metrics with resampled references, plain and weighted, and with random outcomes.

        The spread of the first is the calibration's error, that of the second what chance does to the outcomes of these
        very rows. Efron (1979), doi:10.1214/aos/1176344552. Weights are taken as they are.
        """
        rng, rows = np.random.default_rng(_SEED), len(self._shift.weights)
        answers = _by_score(self._answers, self._calibration)[1]
        in_order, raw = Expected(answers), probabilities_of(answers)
        plain, weighted, sampled = [], [], []
        for _ in range(min(max(_FITS // self._truth.shape[1], _MIN_FITS), _MAX_FITS)):
            pause()
            counts = _counts(rows, rng)
            plain.append(self._refitted(in_order, raw, counts))
            moved = counts * self._shift.weights
            weighted.append(self._refitted(in_order, raw, moved) if self._shift.shifted else plain[-1])
            sampled.append(_array(expected.metrics(_drawn(self._beliefs[-1], rng))))
        return np.array([plain, weighted]), np.array(sampled)

    def _refitted(self, expected: Expected, raw: FloatArray, weights: FloatArray) -> FloatArray:
        belief = self._calibration.belief(weights, raw)
        anchor = self._anchor(weights, self._calibration.belief(weights, self._scores))
        return _array(expected.metrics(belief)) + anchor


def _by_score(answers: Scored, calibration: Calibration) -> tuple[NDArray[np.intp], Scored]:
    """Sort rows by the score of the first class that is calibrated, and give their positions.

    A calibration is read off ten times faster at scores in order; a fit is repeated sixty times.
    """
    order = np.argsort(probabilities_of(answers)[:, calibration.watched[0]], kind="stable")
    return order, answers.only(order)


def _with_interval(name: str, value: float, error: float, rows: int) -> Measured:
    if np.isnan(value):
        return Measured(None, None)
    return Measured(value, Bounded(value, error, rows) if METRIC[name].is_share else Mean(value, error, 0.0, rows, 0.0))


@dataclass(frozen=True, slots=True)
class _Plain:
    """The calibration by equally weighted rows of a reference; no window changes it.

    Attributes:
        anchor: see :func:`_known_error`.
    """

    calibration: Calibration
    anchor: FloatArray
    rows: int

    def belief(self, scores: FloatArray) -> FloatArray:
        """Give calibrated probabilities where calibration helps."""
        return self.calibration.where_it_helps(np.ones(self.rows), scores)


@lru_cache(maxsize=8)
def _plain(reference: Sample) -> _Plain:
    """Calibrate by all rows that a reference was chosen from, once for all windows."""
    answers = reference.answers if reference.whole is None else reference.whole
    calibration, ones = Calibration.of(answers), np.ones(answers.rows)
    believed = calibration.where_it_helps(ones, probabilities_of(answers))
    return _Plain(calibration, _known_error(Expected(answers), _certain(answers), believed, ones), answers.rows)


def _known_error(known: Expected, truth: FloatArray, belief: FloatArray, weights: FloatArray) -> FloatArray:
    """Give the known error of the expected metrics.

    It is realised less expected metrics of the reference, with these weights.

    A fit to finitely many rows finds order where there is none, so that the curve through its expected counts lies
    above the realised one: the correction takes that out of ROC AUC and average precision.
    """
    realised, expected = (known.metrics(each, weights) for each in (truth, belief))
    return _array(realised) - _array(expected)


def _counts(rows: int, rng: np.random.Generator) -> FloatArray:
    """Give how often each row is drawn in a bootstrap sample."""
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
