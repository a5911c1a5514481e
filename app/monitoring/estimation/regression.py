"""Estimate a regression model's performance by a second model of its errors.

Direct loss estimation fits a regressor of the loss on the reference, where the outcomes are known, and takes the mean
of what it says of the window. Its error is corrected by what it gets wrong on reference rows that it was not fitted on,
which, where the input has shifted, are weighted to look like the window: the estimate is right if either the regressor
or the weights are. Robins, Rotnitzky and Zhao (1994), doi:10.1080/01621459.1994.10476818.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.estimation.samples import Sample, Shift, trust
from app.monitoring.performance.scoring import Measured, Scored
from app.statistics import FloatArray
from app.statistics.intervals import Interval, Mean, RootMean
from app.store.database import Pause, no_pause

_SEED = 20_130_103
_FOLDS = 3
_NEAR_ZERO = 0.01
"""Part of the outcomes' median size below which an outcome makes percentages of no use."""


@dataclass(frozen=True, slots=True)
class _Loss:
    """Hold one loss over the window: the expected loss of each row, and a correction for all.

    Attributes:
        fitting, sampling: variance of the mean by the fit, and by chance in the outcomes.
        floor: the smallest value that the loss can have.
    """

    expected: FloatArray
    correction: float
    fitting: float
    sampling: float
    floor: float

    def mean(self, rows: NDArray[np.bool_]) -> float:
        """Estimate the mean loss over some of the rows."""
        return max(float(self.expected[rows].mean()) + self.correction, self.floor)

    def error(self, rows: NDArray[np.bool_]) -> float:
        """Give the standard error of that mean."""
        return math.sqrt(self.fitting + self.sampling * len(rows) / max(int(rows.sum()), 1))


class LossModel:
    """The estimate for one window.

    >>> from app.monitoring.estimation.samples import measure_shift
    >>> from app.types import ModelSchema, Task
    >>> schema, rng = ModelSchema("m", "1", Task.REGRESSION, ()), np.random.default_rng(1)
    >>> x = rng.uniform(0.0, 1.0, (2, 1000))
    >>> ours, theirs = (
    ...     Sample(each[:, np.newaxis], each < 0, Scored(schema, each * rng.normal(size=1000), np.zeros(1000), None))
    ...     for each in x
    ... )
    >>> estimate = LossModel(ours, theirs, measure_shift(ours.inputs, theirs.inputs)).measured()
    >>> round(estimate["mae"].value, 1), round(float(np.abs(theirs.answers.outcomes).mean()), 1)
    (0.4, 0.4)
    """

    def __init__(self, reference: Sample, window: Sample, shift: Shift, pause: Pause = no_pause) -> None:
        self._shift, self._rows = shift, window.rows
        self._losses = {}
        for name, fit in _fitted(reference).items():
            pause()
            self._losses[name] = _estimate(fit, window.inputs, shift)

    @property
    def method(self) -> str:
        """Give the method of the estimate."""
        return "importance-weighted-loss-model" if self._shift.shifted else "loss-model"

    def values(self, rows: NDArray[np.bool_]) -> dict[str, float]:
        """Estimate each metric over some of the window's rows."""
        means = {name: loss.mean(rows) for name, loss in self._losses.items()}
        return means | {"rmse": float(np.sqrt(means["rmse"]))}

    def measured(self, rows: NDArray[np.bool_] | None = None) -> dict[str, Measured]:
        """Estimate each metric over the window, with an interval for what its outcomes will show."""
        chosen = np.ones(self._rows, dtype=np.bool_) if rows is None else rows
        values = self.values(chosen)
        return {name: Measured(value, self._interval(name, value, chosen)) for name, value in values.items()}

    def _interval(self, name: str, value: float, rows: NDArray[np.bool_]) -> Interval:
        loss = self._losses[name]
        mean = Mean(value**2 if name == "rmse" else value, loss.error(rows), 0.0, int(rows.sum()), loss.floor)
        return RootMean(mean) if name == "rmse" else mean


def _losses(answers: Scored) -> dict[str, tuple[FloatArray, float]]:
    """Give the loss behind each metric, and its floor.

    Percentages are used only where no outcome is close to 0.
    """
    signed = answers.predictions - answers.outcomes
    sizes = np.abs(answers.outcomes)
    found = {"mae": (np.abs(signed), 0.0), "rmse": (signed**2, 0.0), "bias": (signed, -np.inf)}
    if sizes.min() > _NEAR_ZERO * np.median(sizes):
        found["mape"] = np.abs(signed) / sizes, 0.0
    return found


@dataclass(frozen=True, slots=True)
class _Fit:
    """The regressors of one loss, one for each fold of a reference; no window changes them.

    Attributes:
        loss: of each reference row, and ``said`` what a regressor that was not fitted on it says.
    """

    loss: FloatArray
    floor: float
    said: FloatArray
    models: tuple[Any, ...]


@lru_cache(maxsize=4)
def _fitted(reference: Sample) -> dict[str, _Fit]:
    """Regress each loss on the inputs, once for all windows."""
    return {name: _regress(reference.inputs, *found) for name, found in _losses(reference.answers).items()}


def _regress(inputs: FloatArray, loss: FloatArray, floor: float) -> _Fit:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    fold = np.random.default_rng(_SEED).permutation(len(loss)) % _FOLDS
    said, models = np.empty(len(loss)), []
    with threadpool_limits(limits=1):  # sums of several threads differ in their last digit, and so would reports
        for each in range(_FOLDS):
            model = HistGradientBoostingRegressor(
                max_iter=50, max_leaf_nodes=8, min_samples_leaf=20, l2_regularization=1.0, early_stopping=False
            )
            model.fit(inputs[fold != each], loss[fold != each])
            said[fold == each] = model.predict(inputs[fold == each])
            models.append(model)
    return _Fit(loss, floor, said, tuple(models))


def _estimate(fit: _Fit, window: FloatArray, shift: Shift) -> _Loss:
    """Estimate the loss of each row.

    The reference decides how far to believe the regressor and the correction. The band has the error of the correction,
    what the folds' regressors differ by, and, for rows where the reference has almost none, the loss's own spread.
    """
    from threadpoolctl import threadpool_limits

    loss, said = fit.loss, fit.said
    with threadpool_limits(limits=1):
        by_fold = np.array([model.predict(window) for model in fit.models])
    varied = float(np.mean((said - said.mean()) ** 2))
    slope = float(np.clip(np.mean((loss - loss.mean()) * (said - said.mean())) / varied, 0, 1)) if varied else 0.0
    missed = loss - loss.mean() - slope * (said - said.mean())
    expected = loss.mean() + slope * (by_fold.mean(axis=0) - said.mean())
    even, weights = np.full(len(loss), 1 / len(loss)), shift.weights / shift.weights.sum()
    change = float(np.sum((weights - even) * missed))
    variance = float(np.sum((weights - even) ** 2 * missed**2))
    part = float(trust(np.array([change]), np.array([variance]))[0]) if shift.shifted else 0.0
    own = float(np.sum(even**2 * missed**2)) + part * variance + part * (1 - part) * change**2
    own += slope**2 * float(by_fold.mean(axis=1).var(ddof=1)) + (float(shift.unseen.mean()) * float(loss.std())) ** 2
    sampling = float(np.sum(weights * missed**2)) / len(window)
    return _Loss(expected, part * change, own, sampling, fit.floor)
