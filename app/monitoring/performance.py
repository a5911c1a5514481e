"""The performance report: whether the model is still right, by the outcomes that came back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.columns import finite
from app.monitoring.encoding import encode_labels, encode_probabilities
from app.monitoring.grading import Degradation, grade, overall
from app.monitoring.intervals import positive_index, spread
from app.monitoring.statistics import FloatArray
from app.store.windows import Window
from app.types import SECOND, Json, Micros, ModelSchema, Task, to_rfc3339


def metrics(
    schema: ModelSchema, outcomes: NDArray[Any], predictions: NDArray[Any], probabilities: FloatArray | None
) -> dict[str, float | None]:
    """Compute the task's metrics by scikit-learn's own functions; None where one is undefined.

    Takes what :func:`encode_labels` and :func:`encode_probabilities` give, at least one row, each known. Precision,
    recall and F1 are the positive class's in a binary task, else macro averages; ROC AUC is macro one-versus-rest.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
    >>> metrics(schema, np.array([0, 1, 1, 1]), np.array([0, 1, 1, 0]), None)
    {'accuracy': 0.75, 'precision': 1.0, 'recall': 0.666..., 'f1': 0.8}
    """
    if schema.task is Task.REGRESSION:
        return _regression(outcomes, predictions)
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    truth, said, options = outcomes, predictions, {"average": "macro", "zero_division": 0.0}
    if schema.task is Task.BINARY:
        truth, said = (labels == positive_index(schema) for labels in (outcomes, predictions))
        options = {"zero_division": math.nan}
    found = {
        "accuracy": finite(accuracy_score(outcomes, predictions)),
        "precision": finite(precision_score(truth, said, **options)),
        "recall": finite(recall_score(truth, said, **options)),
        "f1": finite(f1_score(truth, said, **options)),
    }
    return found if probabilities is None else found | _probabilistic(schema, outcomes, probabilities)


def performance_report(
    schema: ModelSchema,
    baseline: Mapping[str, float | None] | None,
    window: Window,
    limits: Degradation,
    *,
    now: Micros,
    label_delay_s: float | None = None,
    in_sample: bool = False,
) -> Json:
    """Judge a window's outcomes against the baseline; the answer of ``GET /performance`` without id, model and time.

    A metric is degraded as :func:`grade` says; the report is a function of its arguments alone.

    ``baseline`` are the reference's metrics; without them, or where they are ``in_sample``, there is no verdict. A
    window is mature when its newest row is older than ``label_delay_s``, by default the 95th percentile of its delays.
    """
    errors: list[Json] = []
    labelled = _labelled(schema, window, errors)
    delays = _label_delays(window)
    baseline = {} if in_sample or baseline is None else baseline
    graded = _graded(schema, labelled, baseline, limits, errors)
    values = [value for value in window.values if value is not None]
    return {
        "status": overall(graded),
        "message": _message(labelled.count, limits, in_sample, baseline),
        "window": {
            "rows": window.rows,
            "from": to_rfc3339(window.predicted_at[0]) if window.rows else None,
            "to": to_rfc3339(window.predicted_at[-1]) if window.rows else None,
        },
        "realised": {
            "labelled": labelled.count,
            "coverage": labelled.count / window.rows if window.rows else None,
            "mature": _mature(window, delays["p95"] if label_delay_s is None else label_delay_s, now),
            "label_delay_seconds": delays,
            "metrics": graded,
        },
        "estimated": {"rows": 0, "method": "none", "metrics": {}},
        "segments": {},
        "business": {"value_sum": finite(math.fsum(values)) if values else None},
        "concept_drift": {"method": "adwin", "change_at": None},
        "errors": errors,
    }


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The rows of a window whose outcome is known, encoded."""

    outcomes: NDArray[Any]
    predictions: NDArray[Any]
    probabilities: FloatArray | None

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.outcomes)


def _labelled(schema: ModelSchema, window: Window, errors: list[Json]) -> _Labelled:
    outcomes, predictions = encode_labels(schema, window.outcomes), encode_labels(schema, window.predictions)
    known = np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0
    given = np.array([outcome is not None for outcome in window.outcomes], dtype=np.bool_)
    if strange := int((given & ~known).sum()):
        errors.append({"metric": None, "reason": f"{strange} outcomes are no answer that this model can give"})
    probabilities = encode_probabilities(schema, window.probabilities)
    if probabilities is not None:
        probabilities = probabilities[known]
    if probabilities is not None and np.isnan(probabilities).any():
        errors.append({"metric": None, "reason": "some rows have no probabilities: their metrics are left out"})
        probabilities = None
    return _Labelled(outcomes[known], predictions[known], probabilities)


def _label_delays(window: Window) -> dict[str, float | None]:
    """Measure the seconds from prediction to outcome that half, and 95 %, of the outcomes so far were faster than."""
    pairs = zip(window.recorded_at, window.predicted_at, strict=True)
    delays = [(recorded - predicted) / SECOND for recorded, predicted in pairs if recorded is not None]
    if not delays:
        return {"p50": None, "p95": None}
    middle, late = np.quantile(delays, (0.5, 0.95)).tolist()
    return {"p50": middle, "p95": late}


def _mature(window: Window, delay_s: float | None, now: Micros) -> bool:
    """Tell whether even the newest row has had the time that outcomes take: else fast labels speak for all."""
    return delay_s is not None and window.rows > 0 and now - window.predicted_at[-1] >= delay_s * SECOND


def _graded(
    schema: ModelSchema, rows: _Labelled, baseline: Mapping[str, float | None], limits: Degradation, errors: list[Json]
) -> dict[str, Json]:
    if not rows.count:
        return {}
    values = metrics(schema, rows.outcomes, rows.predictions, rows.probabilities)
    undefined = [name for name, value in values.items() if value is None]
    errors += [{"metric": name, "reason": "undefined for the outcomes of this window"} for name in undefined]
    around = spread(schema, rows.outcomes, rows.predictions, rows.probabilities)
    return grade(values, around, baseline, limits, enough=rows.count >= limits.min_labelled)


def _message(labelled: int, limits: Degradation, in_sample: bool, baseline: Mapping[str, float | None]) -> str | None:
    """Say what a verdict is missing."""
    if labelled < limits.min_labelled:
        return f"{labelled} rows have outcomes, {limits.min_labelled} are needed"
    if in_sample:
        return "the baseline comes from data that the model was fitted on"
    return None if baseline else "the model was bundled without baseline metrics"


def _regression(outcomes: FloatArray, predictions: FloatArray) -> dict[str, float | None]:
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    varied = len(outcomes) > 1 and np.ptp(outcomes) > 0
    return {
        "mae": finite(mean_absolute_error(outcomes, predictions)),
        "rmse": finite(root_mean_squared_error(outcomes, predictions)),
        "r2": finite(r2_score(outcomes, predictions)) if varied else None,
    }


def _probabilistic(schema: ModelSchema, outcomes: NDArray[Any], probabilities: FloatArray) -> dict[str, float | None]:
    from sklearn.metrics import log_loss, roc_auc_score

    codes = range(len(schema.classes))
    # Rounded to 32 bits, a model's probabilities add up to 1 only nearly, and scikit-learn warns.
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    if len(np.unique(outcomes)) < len(codes):
        area = math.nan
    elif schema.task is Task.BINARY:
        area = roc_auc_score(outcomes == positive_index(schema), shares[:, positive_index(schema)])
    else:
        area = roc_auc_score(outcomes, shares, multi_class="ovr", labels=codes)
    return {"roc_auc": finite(area), "log_loss": finite(log_loss(outcomes, shares, labels=codes))}
