"""Rows for the estimate of performance: inputs, answers, and outcomes where known."""

from __future__ import annotations

from collections.abc import Sequence
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
from app.statistics import FloatArray
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
