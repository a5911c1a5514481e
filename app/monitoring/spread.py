"""How sure each metric is: the interval of every value that :func:`app.monitoring.metrics.metrics` gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring import influence
from app.monitoring.calibration_error import Calibration
from app.monitoring.explained import Explained
from app.monitoring.intervals import Bounded, Interval, Mean, MeanShare, RootMean, Share
from app.monitoring.metrics import positive_index, promises
from app.monitoring.statistics import FloatArray
from app.types import ModelSchema, Task

Flags = NDArray[np.bool_]


def spread(
    schema: ModelSchema,
    outcomes: NDArray[Any],
    predictions: NDArray[Any],
    probabilities: FloatArray | None,
    values: Mapping[str, float | None],
) -> dict[str, Interval]:
    """Measure the spread of these metrics over the rows that they were computed from; undefined ones are left out.

    >>> schema = ModelSchema("m", "1", Task.REGRESSION, ())
    >>> found = spread(schema, np.zeros(4), np.array([1.0, 3.0, 1.0, 3.0]), None, {"mae": 2.0})
    >>> [round(bound, 2) for bound in found["mae"].bounds(0.95)]
    [0.16, 3.84]
    """
    if schema.task is Task.REGRESSION:
        found = _regression(outcomes, predictions)
    else:
        known = {name: value for name, value in values.items() if value is not None}
        found = _labels(schema, outcomes, predictions, known)
        if probabilities is not None:
            found |= _probabilistic(schema, outcomes, probabilities, known)
    return {name: interval for name, interval in found.items() if values.get(name) is not None}


def _regression(outcomes: FloatArray, predictions: FloatArray) -> dict[str, Interval]:
    signed = predictions - outcomes
    errors = np.abs(signed)
    percentages = errors / np.maximum(np.abs(outcomes), np.finfo(np.float64).eps)
    return {
        "mae": Mean.of(errors, 0.0),
        "rmse": RootMean(Mean.of(errors**2, 0.0)),
        "mape": Mean.of(percentages, 0.0),
        "r2": Explained.of(errors**2, (outcomes - outcomes.mean()) ** 2),
        "bias": Mean.of(signed),
    }


def _labels(
    schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any], values: Mapping[str, float]
) -> dict[str, Interval]:
    hits, codes = outcomes == predictions, np.unique(outcomes)
    found: dict[str, Interval] = {
        "accuracy": Share(int(hits.sum()), len(hits)),
        "balanced_accuracy": _mean_share(hits, outcomes, codes),
    }
    if schema.task is Task.BINARY:
        actual, said = (labels == positive_index(schema) for labels in (outcomes, predictions))
        found |= {
            "precision": _share(actual, said),
            "recall": _share(said, actual),
            "specificity": _share(~said, ~actual),
        }
        influences = {"f1": influence.of_ratio(2.0 * (actual & said), 1.0 * actual + said)}
    else:
        named = np.union1d(outcomes, predictions)
        found |= {"precision": _mean_share(hits, predictions, named), "recall": _mean_share(hits, outcomes, named)}
        influences = _macro(outcomes, predictions, named)
    return found | _bounded(influences, values, min(int((outcomes == code).sum()) for code in codes))


def _share(hits: Flags, trials: Flags) -> Share:
    return Share(int((hits & trials).sum()), int(trials.sum()))


def _mean_share(hits: Flags, labels: NDArray[Any], codes: NDArray[Any]) -> MeanShare:
    return MeanShare(tuple(_share(hits, labels == code) for code in codes))


def _macro(outcomes: NDArray[Any], predictions: NDArray[Any], named: NDArray[Any]) -> dict[str, FloatArray]:
    """Influences on averages over the classes that occur, where one row speaks of several classes."""
    actual, said = ((labels[:, np.newaxis] == named).astype(np.float64) for labels in (outcomes, predictions))
    return {
        "specificity": influence.of_macro_ratio((1 - actual) * (1 - said), 1 - actual),
        "f1": influence.of_macro_ratio(2 * actual * said, actual + said),
    }


def _probabilistic(
    schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray, values: Mapping[str, float]
) -> dict[str, Interval]:
    classes = np.arange(len(schema.classes))
    given = np.clip(probabilities[np.arange(len(outcomes)), outcomes], np.finfo(np.float64).eps, 1.0)
    squares = np.sum((probabilities - (outcomes[:, np.newaxis] == classes)) ** 2, axis=1)
    if schema.task is Task.BINARY:
        squares = (probabilities[:, positive_index(schema)] - (outcomes == positive_index(schema))) ** 2
    found: dict[str, Interval] = {
        "log_loss": Mean.of(-np.log(given), 0.0),
        "brier": Mean.of(squares, 0.0),
        "calibration_error": Calibration.of(*promises(schema, outcomes, probabilities)),
    }
    watched = classes if schema.task is Task.MULTICLASS else [positive_index(schema)]
    sides = [(outcomes == code, probabilities[:, code]) for code in watched]
    influences = {
        "roc_auc": influence.mean_of(influence.of_roc_auc(*side) for side in sides),
        "average_precision": influence.mean_of(influence.of_average_precision(*side) for side in sides),
    }
    rarest = int(np.bincount(outcomes, minlength=len(classes)).min())
    return found | _bounded(influences, values, rarest)


def _bounded(influences: Mapping[str, FloatArray], values: Mapping[str, float], rows: int) -> dict[str, Interval]:
    return {
        name: Bounded(values[name], influence.standard_error(each), rows)
        for name, each in influences.items()
        if name in values
    }
