"""What stands behind the metrics: confusion matrix, metrics by class, and the business value of the answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.columns import finite
from app.monitoring.grading import SHOWN_CONFIDENCE
from app.monitoring.intervals import Mean, Share
from app.monitoring.scored import Scored
from app.store.labelled import Labelled
from app.types import Json, Label, ModelSchema, Task, label_key


def by_class(rows: Scored) -> Json:
    """Count truths (down) against predictions (across), with each class's precision and recall; not of numbers."""
    schema = rows.schema
    if schema.task is Task.REGRESSION or not rows.rows:
        return {}
    from sklearn.metrics import confusion_matrix

    counts = confusion_matrix(rows.outcomes, rows.predictions, labels=np.arange(len(schema.classes)))
    names = [label_key(label) for label in schema.classes]
    classes = {name: _class(counts, place) for place, name in enumerate(names)}
    return {"confusion_matrix": {"labels": names, "counts": counts.tolist()}, "classes": classes}


def business(schema: ModelSchema, window: Labelled) -> Json:
    """Add up the business values that came with the outcomes, over all rows and by what was predicted."""
    shares: dict[Label, list[float]] = {label: [] for label in schema.classes}
    for value, said in zip(window.values, window.predictions, strict=True):
        if value is not None and said in shares:
            shares[said].append(value)
    given = [value for value in window.values if value is not None]
    return _amounts(given) | {"by_prediction": {label_key(label): _amounts(values) for label, values in shares.items()}}


def _class(counts: NDArray[Any], place: int) -> Json:
    hits = int(counts[place, place])
    shares = {"precision": Share(hits, int(counts[:, place].sum())), "recall": Share(hits, int(counts[place].sum()))}
    return {"support": int(counts[place].sum())} | {name: _share(share) for name, share in shares.items()}


def _share(share: Share) -> Json:
    low, high = share.bounds(SHOWN_CONFIDENCE)
    return {"value": share.hits / share.trials if share.trials else None, "low": low, "high": high}


def _amounts(values: list[float]) -> Json:
    """Sum and mean; a sum beyond all numbers is null."""
    if not values:
        return {
            "value_count": 0,
            "value_sum": None,
            "value_mean": None,
            "value_mean_low": None,
            "value_mean_high": None,
        }
    total = _sum(values)
    low, high = (None, None)
    if total is not None:
        low, high = (finite(bound) for bound in Mean.of(np.array(values)).bounds(SHOWN_CONFIDENCE))
    mean = None if total is None else total / len(values)
    return {
        "value_count": len(values),
        "value_sum": total,
        "value_mean": mean,
        "value_mean_low": low,
        "value_mean_high": high,
    }


def _sum(values: list[float]) -> float | None:
    try:
        return finite(math.fsum(values))
    except OverflowError:
        return None
