"""Rows for the estimate, and weights that make the reference look like a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.degradation import baseline_of
from app.monitoring.performance.scoring import Scored, known
from app.monitoring.reference.columns import MISSING, UNSEEN, score_of
from app.monitoring.reference.encoding import encode, encode_labels, encode_outcomes, encode_probabilities
from app.monitoring.reference.reference import Reference
from app.statistics import FloatArray, middle_ranks, rank_auc
from app.store.database import Pause, no_pause
from app.store.queries.windows import Window
from app.types import ModelSchema, Task


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Encoded rows, all arrays with one entry per row.

    A sample equals itself alone, so that what is fitted to it can be kept.

    Attributes:
        inputs: shape (n, d), features and answers as numbers that a tree can split; NaN where one is missing.
        strange: whether a row has a category that the schema does not know.
        answers: predictions and probabilities, with outcomes, which may be unknown.
        whole: of a reference, the answers to all rows that it was chosen from; None where these are its own.
    """

    inputs: FloatArray
    strange: NDArray[np.bool_]
    answers: Scored
    whole: Scored | None = None

    @property
    def kept(self) -> Sample:
        """The same rows by themselves."""
        return _alone(self)

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.inputs)

    @property
    def labelled(self) -> Sample:
        """The rows whose outcome is known."""
        return self.only(known(self.answers.schema, self.answers.outcomes))

    def only(self, chosen: NDArray[np.bool_]) -> Sample:
        """Keep some of the rows."""
        return Sample(self.inputs[chosen], self.strange[chosen], self.answers.only(chosen))


@lru_cache(maxsize=4)
def reference_sample(reference: Reference) -> Sample | None:
    """Take the reference's rows whose outcome is known; None where it holds no outcomes.

    It is the same object for the same reference.
    """
    if reference.outcomes is None:
        return None
    answers = Scored(reference.schema, reference.outcomes, reference.predictions, reference.probabilities)
    whole = baseline_of(reference).scored if reference.judged is not None else None
    return replace(_sample(answers, reference.columns).labelled, whole=whole)


@lru_cache(maxsize=4)
def _alone(sample: Sample) -> Sample:
    return replace(sample, whole=None)


def window_sample(schema: ModelSchema, window: Window) -> Sample:
    """Take a window's rows; those that a classifier answered without probabilities are left out."""
    (outcomes, unknown), predictions = (
        encode_outcomes(schema, window.outcomes),
        encode_labels(schema, window.predictions),
    )
    probabilities = encode_probabilities(schema, window.probabilities)
    found = _sample(Scored(schema, outcomes, predictions, probabilities, unknown), encode(schema, window.features))
    return found if probabilities is None else found.only(np.asarray(np.isfinite(probabilities).all(axis=1)))


def _sample(answers: Scored, columns: Sequence[NDArray[Any]]) -> Sample:
    strange = np.zeros(answers.rows, dtype=np.bool_)
    inputs = []
    for column in columns:
        codes = column.dtype.kind == "i"
        strange |= column == UNSEEN if codes else False
        inputs.append(np.where(column == MISSING, np.nan, column) if codes else column)
    inputs.append(answers.predictions)
    if answers.schema.task is not Task.REGRESSION and answers.probabilities is not None:
        inputs.append(score_of(answers.schema, answers.probabilities))
    return Sample(np.column_stack(inputs).astype(np.float64), strange, answers)


_SEED = 20_130_101
_SURPRISING = 3.0
"""Standard errors of the area under the ROC curve from which the input counts as shifted: one still window in 700."""
_MAX_WEIGHT = 20.0
_SURE = 0.001
_MIN_ROWS_PER_FOLD = 20


@dataclass(frozen=True, slots=True)
class Shift:
    """Hold what a domain classifier has found between window and reference.

    Attributes:
        auc: how well it tells rows apart that it was not fitted on; 0.5 is not at all.
        shifted: whether that is more than chance.
        weights: of the reference rows, mean 1; all 1 where nothing has shifted.
        unseen: the window's rows where the reference is too thin to learn from.
    """

    auc: float
    shifted: bool
    weights: FloatArray
    unseen: NDArray[np.bool_]

    @property
    def effective_rows(self) -> float:
        """Give the number of equally weighted rows that say as much: Kish (1965), "Survey Sampling".

        >>> Shift(0.5, False, np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(1)).effective_rows
        2.0
        """
        return float(self.weights.sum() ** 2 / np.sum(self.weights**2))

    @property
    def ignored(self) -> Shift:
        """The same, with equal weights."""
        return replace(self, shifted=False, weights=np.ones(len(self.weights)))


def measure_shift(reference: FloatArray, window: FloatArray, pause: Pause = no_pause) -> Shift:
    """Compare two samples of shapes (n, d) and (m, d), NaN where a value is missing.

    The density ratio of window to reference is ``q / (1 - q) * n / m``, q being the classifier's probability of
    "window", out of fold: Bickel, Brueckner and Scheffer (2009), https://jmlr.org/papers/v10/bickel09a.html. Ratios are
    the reference's weights, clipped to [0, 20] and scaled to mean 1. A window row with a ratio of 20 or more, or
    with a value missing that the reference always has, lies where the reference has almost no rows.

    >>> rng = np.random.default_rng(1)
    >>> still, moved = rng.normal(size=(1000, 2)), rng.normal(1.0, 1.0, size=(500, 2))
    >>> measure_shift(still, moved).shifted, measure_shift(still, rng.normal(size=(500, 2))).shifted
    (True, False)
    """
    n, m = len(reference), len(window)
    unseen = _missing_anew(reference, window)
    if min(n, m) < 2 * _MIN_ROWS_PER_FOLD or not reference.shape[1]:
        return Shift(0.5, False, np.ones(n), unseen)
    origin = np.repeat([0, 1], [n, m])
    shares, areas = np.empty(n + m), []
    for fold, found in _out_of_fold(np.vstack([reference, window]), origin, pause):
        shares[fold] = found
        areas.append(rank_auc(middle_ranks(found), origin[fold] == 1))
    auc = float(np.mean(areas))
    shifted = auc - 0.5 > _SURPRISING * float(np.sqrt((n + m + 1) / (12 * n * m)))
    certain = np.clip(shares, _SURE, 1 - _SURE)
    ratios = certain / (1 - certain) * n / m
    weights = np.minimum(ratios[:n], _MAX_WEIGHT)
    if shifted:
        unseen |= ratios[n:] >= _MAX_WEIGHT
    return Shift(auc, shifted, weights / weights.mean() if shifted else np.ones(n), unseen)


def trust(difference: FloatArray, variance: FloatArray) -> FloatArray:
    """Give the part of a difference to believe: ``d^2 / (d^2 + variance)``, from 0 to 1.

    Weights cost precision. Taking this part of what they change, after Stein's rule, follows them where the change
    stands out of its own noise, and leaves them where it does not: Green and Strawderman (1991), "A James-Stein type
    estimator for combining unbiased and possibly biased estimators", JASA 86, 1001-1006.

    >>> trust(np.array([0.0, 0.1, 0.1]), np.array([0.01, 0.01, 0.0]))
    array([0. , 0.5, 1. ])
    """
    squares = difference**2
    whole = squares + variance
    return np.divide(squares, whole, out=np.zeros(len(squares)), where=whole > 0)


def _missing_anew(reference: FloatArray, window: FloatArray) -> NDArray[np.bool_]:
    always = ~np.isnan(reference).any(axis=0)
    return np.asarray((np.isnan(window) & always).any(axis=1), dtype=np.bool_)


def _out_of_fold(
    rows: FloatArray, origin: NDArray[Any], pause: Pause
) -> Iterator[tuple[NDArray[np.bool_], FloatArray]]:
    """Yield each half of the rows, and what the classifier of the other half says of them."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    half = np.random.default_rng(_SEED).permutation(len(rows)) % 2 == 0
    for fold in (half, ~half):
        pause()
        classifier = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=8, min_samples_leaf=50, l2_regularization=1.0, early_stopping=False
        )
        with threadpool_limits(limits=1):  # sums of several threads differ in their last digit, and so would reports
            yield fold, classifier.fit(rows[~fold], origin[~fold]).predict_proba(rows[fold])[:, 1]
