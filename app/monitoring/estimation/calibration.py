"""Calibrate a model's confidence by the reference's outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.metrics import positive_index
from app.monitoring.performance.scoring import Scored
from app.statistics import FloatArray, IntArray
from app.types import Task

_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibrator:
    """One class against the rest, over the reference.

    Attributes:
        levels: the distinct scores that the model gave, ascending.
        level: of each row.
        happened: 1.0 where the row's outcome is the class, else 0.0.
    """

    levels: FloatArray
    level: IntArray
    happened: FloatArray

    @classmethod
    def of(cls, scores: FloatArray, happened: NDArray[Any]) -> Calibrator:
        """Sort the scores once; fits with many weights follow."""
        levels, level = np.unique(scores, return_inverse=True)
        return cls(levels, level, happened.astype(np.float64))

    def shares(self, weights: FloatArray, scores: FloatArray) -> FloatArray:
        """Fit by weighted isotonic regression; give the calibrated probability at each score.

        The non-decreasing step function with the least ``sum w (happened - f(score))^2``, linear between its levels:
        Zadrozny and Elkan (2002), doi:10.1145/775047.775151. Weights, of the reference rows, are 0 or more, not all 0.

        >>> found = Calibrator.of(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 1, 0, 1]))
        >>> found.shares(np.ones(4), np.array([0.0, 0.5, 0.85, 1.0]))
        array([0.  , 0.5 , 0.75, 1.  ])
        """
        from scipy.optimize import isotonic_regression  # 24 MiB that only an estimate needs

        total = np.bincount(self.level, weights, len(self.levels))
        hits = np.bincount(self.level, weights * self.happened, len(self.levels))
        used = total > 0
        fitted = isotonic_regression(hits[used] / total[used], weights=total[used]).x
        return np.asarray(np.interp(scores, self.levels[used], fitted), dtype=np.float64)

    def helps(self) -> bool:
        """Tell whether the fit beats the model's own scores on rows that it was not fitted on.

        By the mean squared error (Brier, 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2), a proper score:
        it has no bins to choose, and does not improve by pulling every answer towards the mean.

        >>> rng = np.random.default_rng(1)
        >>> truth = rng.random(2000)
        >>> Calibrator.of(truth**3, rng.random(2000) < truth).helps()
        True
        """
        scores, fold = self.levels[self.level], np.random.default_rng(0).permutation(len(self.level)) % _FOLDS
        fitted = np.empty(len(scores))
        for each in range(_FOLDS):
            kept = (fold != each).astype(np.float64)
            if not kept.any():
                return False
            fitted[fold == each] = self.shares(kept, scores[fold == each])
        return bool(np.mean((fitted - self.happened) ** 2) < np.mean((scores - self.happened) ** 2))


@dataclass(frozen=True)
class Calibration:
    """The calibrators of a model: of the positive class, or of each of many classes.

    Attributes:
        watched: the classes' positions.
    """

    watched: tuple[int, ...]
    calibrators: tuple[Calibrator, ...]

    @classmethod
    def of(cls, known: Scored) -> Calibration:
        """Sort the scores of a reference whose outcomes are known."""
        schema, scores = known.schema, probabilities_of(known)
        watched = (positive_index(schema),) if schema.task is Task.BINARY else tuple(range(len(schema.classes)))
        return cls(watched, tuple(Calibrator.of(scores[:, code], known.outcomes == code) for code in watched))

    @cached_property
    def helps(self) -> tuple[bool, ...]:
        """Tell for each class whether calibration makes it better."""
        return tuple(calibrator.helps() for calibrator in self.calibrators)

    def belief(self, weights: FloatArray, scores: FloatArray) -> FloatArray:
        """Give calibrated probabilities of shape (n, classes), by the weighted reference."""
        return self._belief(weights, scores, (True,) * len(self.watched))

    def where_it_helps(self, weights: FloatArray, scores: FloatArray) -> FloatArray:
        """Give the same, with the model's own scores for the classes that calibration does not help."""
        return self._belief(weights, scores, self.helps)

    def _belief(self, weights: FloatArray, scores: FloatArray, chosen: tuple[bool, ...]) -> FloatArray:
        belief = scores.copy()
        for code, calibrator, wanted in zip(self.watched, self.calibrators, chosen, strict=True):
            if wanted:
                belief[:, code] = calibrator.shares(weights, scores[:, code])
        if len(self.watched) == 1:
            belief[:, 1 - self.watched[0]] = 1 - belief[:, self.watched[0]]
            return belief
        totals = belief.sum(axis=1, keepdims=True)
        return np.where(totals > 0, belief / np.where(totals > 0, totals, 1.0), scores)


def probabilities_of(answers: Scored) -> FloatArray:
    """Give the model's probabilities, made to add up to 1: to 32 bits they do so only nearly."""
    assert answers.probabilities is not None  # noqa: S101 - who asks for confidence has some
    shares: FloatArray = answers.probabilities / answers.probabilities.sum(axis=1, keepdims=True)
    return shares
