"""What can change in a column, as numbers whose means can be compared between groups of rows."""

from __future__ import annotations

import numpy as np

from app.monitoring.binning import UNSEEN
from app.monitoring.columns import ReferenceColumn
from app.monitoring.statistics import FloatArray


def standard_scores(column: ReferenceColumn, fewest: int) -> list[tuple[str, FloatArray]]:
    """Give scores of mean 0 and variance 1, one value per row, each with its kind.

    Of numbers the ``location`` (centred ranks), the ``spread`` (their squares) and the ``share`` of missing values; of
    categories the ``share`` of each. A score in which fewer than ``fewest`` rows differ from all others is left out.
    """
    values = column.values
    if column.subject.categories is None:
        missing, present = np.isnan(values), column.present
        ranks = (np.searchsorted(present, values, "left") + np.searchsorted(present, values, "right")) / 2
        centred = np.where(missing, 0.0, ranks - len(present) / 2)
        squares = np.where(missing, np.mean(centred[~missing] ** 2) if len(present) else 0.0, centred**2)
        found = [("location", centred), ("spread", squares), ("share", missing.astype(np.float64))]
    else:
        codes = range(UNSEEN, len(column.subject.categories))
        found = [("share", (values == code).astype(np.float64)) for code in codes]
    most = len(values) - fewest
    return [(kind, _standard(score)) for kind, score in found if np.unique(score, return_counts=True)[1].max() <= most]


def _standard(score: FloatArray) -> FloatArray:
    return np.asarray((score - score.mean()) / score.std(), dtype=np.float64)
