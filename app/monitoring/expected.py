"""The metrics to expect of answers whose outcomes are not known, but each class's probability is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.monitoring.calibration import probabilities_of
from app.monitoring.metrics import positive_index
from app.monitoring.scored import Scored
from app.monitoring.statistics import FloatArray
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
        schema, predictions, shares = answers.schema, answers.predictions, probabilities_of(answers)
        self._binary = schema.task is Task.BINARY
        self._watched = [positive_index(schema)] if self._binary else list(range(len(schema.classes)))
        self._said = predictions[:, np.newaxis] == np.arange(len(schema.classes))
        self._shares = shares
        self._surprise = -np.log(np.maximum(self._shares, np.finfo(np.float64).eps))
        self._rankings = [_ranking(shares[:, code]) for code in self._watched]

    def metrics(self, belief: FloatArray, counts: FloatArray | None = None) -> dict[str, float]:
        """Give each metric, NaN where it is undefined.

        ``belief`` has shape (n, classes), rows adding up to 1; ``counts`` says how often each row counts, by default
        once. Precision, recall, specificity and F1 are ratios of expected counts; ROC AUC and average precision are
        those of the curve through the expected counts; many classes are averaged, each against the rest.
        """
        count = np.ones(len(belief)) if counts is None else counts
        mass, total = belief * count[:, np.newaxis], float(count.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = self._rates(mass, count, total)
            areas = [_areas(mass[order, code], count[order], last) for code, (order, last) in self._ranked()]
        brier = self._shares**2 + belief * (1 - 2 * self._shares)
        return {
            "accuracy": float(mass[self._said].sum()) / total,
            **{name: _mean(found) for name, found in rates.items()},
            "roc_auc": float(np.mean([area for area, _ in areas])),
            "average_precision": float(np.mean([precision for _, precision in areas])),
            "log_loss": float(np.sum(mass * self._surprise)) / total,
            "brier": float(np.sum(brier * count[:, np.newaxis])) / total / (2 if self._binary else 1),
        }

    def _ranked(self) -> list[tuple[int, tuple[NDArray[np.intp], NDArray[np.intp]]]]:
        return list(zip(self._watched, self._rankings, strict=True))

    def _rates(self, mass: FloatArray, count: FloatArray, total: float) -> dict[str, FloatArray]:
        """Compute one value per watched class, and the mean recall of all classes."""
        hits, actual = (mass * self._said).sum(axis=0), mass.sum(axis=0)
        said = (self._said * count[:, np.newaxis]).sum(axis=0)
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
    """Order the rows by score, highest first, and find the last place of each run of equal scores."""
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
