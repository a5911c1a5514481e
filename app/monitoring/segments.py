"""Performance by segment: the rows that share a value of a categorical feature, or of a key of the context."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.monitoring.baseline import Baseline
from app.monitoring.scored import Measured
from app.types import ModelSchema, Scalar, label_key

MOST = 20
"""Values of one segment that are reported, the most frequent ones."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One value of one segment: which rows have it, and the metrics of the reference's rows that have it too."""

    name: str
    value: str
    rows: NDArray[np.bool_]
    baseline: Mapping[str, Measured]


def places(schema: ModelSchema, names: Sequence[str]) -> dict[str, int | None]:
    """Find where each segment's values stand: the position of a feature, or None for a key of the context."""
    position = {name: place for place, name in enumerate(schema.feature_names)}
    return {name: position.get(name) for name in names}


def split(schema: ModelSchema, columns: Mapping[str, Sequence[Scalar]], baseline: Baseline) -> list[Segment]:
    """Split rows by the values of each segment, the most frequent first; a row without a value (null) is in none."""
    found = []
    for name, feature in places(schema, list(columns)).items():
        values = columns[name]
        for value, _ in Counter(each for each in values if each is not None).most_common(MOST):
            rows = np.array([each is not None and each == value for each in values], dtype=np.bool_)
            found.append(Segment(name, label_key(value), rows, baseline.of(feature, value)))
    return found
