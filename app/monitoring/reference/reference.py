"""The reference: rows from the time of bundling, on disk and in memory."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.monitoring.reference.columns import ReferenceColumn, Subject, feature_subject, prediction_subject, score_of
from app.monitoring.reference.encoding import (
    ReferenceGroups,
    collisions,
    encode,
    encode_labels,
    encode_probabilities,
    row_codes,
)
from app.monitoring.reference.qualification import inflations
from app.monitoring.reference.seasonality import Cycle, find_cycles
from app.statistics import FloatArray
from app.types import Json, ModelSchema

__all__ = [
    "Reference",
    "encode",
    "encode_labels",
    "encode_probabilities",
    "load_reference",
    "save_reference",
]

_FILE, PROFILE = "reference.npz", "profile.json"


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold the model's answers to all rows that the reference was chosen from.

    Their outcomes are known. A rare class has few rows among the kept ones, so baseline and calibration are of all
    rows. Features are many: only those that can be a segment are here.

    Attributes:
        outcomes, predictions: as :func:`encode_labels` gives them; ``probabilities`` of shape (n, classes).
        columns: the categorical features by position.
        ordered: whether the rows are in order of time.
    """

    outcomes: NDArray[Any]
    predictions: NDArray[Any]
    probabilities: FloatArray | None
    columns: Mapping[int, NDArray[Any]]
    ordered: bool

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.outcomes)


@dataclass(frozen=True, eq=False)
class Reference:
    """Hold the encoded reference rows of one version, as arrays with one entry per row.

    Two references are the same if they are one object, so that what is computed from one can be kept.

    Attributes:
        predictions, outcomes: as :func:`encode_labels` gives them.
        probabilities: shape (n, classes).
        times: Micros as int64.
        sha256: of the file, so that a report says what it compared with.
        in_sample: whether the model was fitted on these rows; its answers then look better than they are.
        baseline: the metrics that the model reached on them.
        dependence: each feature's share in what the answer depends on; empty in older bundles.
        qualification: what :func:`app.monitoring.reference.qualification.qualify` found; empty in older bundles.
        groups: of rows that resemble each other, such as those of one user; None where none were found.
        judged: the answers to all rows; None where all rows are kept, and in older bundles.
    """

    schema: ModelSchema
    columns: Sequence[NDArray[Any]]
    predictions: NDArray[Any]
    probabilities: FloatArray | None = None
    outcomes: NDArray[Any] | None = None
    times: NDArray[np.int64] | None = None
    sha256: str = ""
    created_at: str = ""
    in_sample: bool = False
    baseline: Mapping[str, float | None] = field(default_factory=dict)
    dependence: Mapping[str, float] = field(default_factory=dict)
    qualification: Json = field(default_factory=dict)
    judged: Judged | None = None
    groups: ReferenceGroups | None = None

    @property
    def rows(self) -> int:
        """The number of reference rows."""
        return len(self.predictions)

    @cached_property
    def features(self) -> tuple[ReferenceColumn, ...]:
        """The features, ready to be compared with."""
        subjects = map(feature_subject, self.schema.features)
        pairs = zip(subjects, self.columns, strict=True)
        return tuple(ReferenceColumn(subject, column, self.times is not None) for subject, column in pairs)

    @cached_property
    def answers(self) -> tuple[ReferenceColumn, ...]:
        """The prediction and, where the model has one, its score, ready to be compared with."""
        ordered = self.times is not None
        prediction = ReferenceColumn(prediction_subject(self.schema), self.predictions, ordered)
        if self.probabilities is None:
            return (prediction,)
        score = ReferenceColumn(Subject("probability", "numeric"), score_of(self.schema, self.probabilities), ordered)
        return prediction, score

    @cached_property
    def cycles(self) -> list[Cycle]:
        """Give the cycle that each feature, then each answer, follows."""
        return find_cycles([*self.features, *self.answers], self.times)

    @cached_property
    def collisions(self) -> float:
        """The chance that two rows are equal in every feature."""
        return collisions(row_codes(self.columns))

    def inflations(self, window_rows: float) -> list[float]:
        """Give the inflation of each feature, then of each answer, for a window of so many rows."""
        answers = [column.subject.name for column in self.answers]
        return inflations(self.qualification, self.schema.feature_names, window_rows) + inflations(
            self.qualification, answers, window_rows, "answers"
        )


def save_reference(folder: Path, reference: Reference) -> None:
    """Write ``reference.npz`` into a folder: encoded arrays only, never a pickle."""
    arrays = {f"x{position}": column for position, column in enumerate(reference.columns)}
    optional = {"probabilities": reference.probabilities, "outcomes": reference.outcomes, "time": reference.times}
    optional |= {"groups": None if reference.groups is None else reference.groups.codes}
    arrays |= {"prediction": reference.predictions}
    if (judged := reference.judged) is not None:
        optional |= {f"all_{name}": getattr(judged, name) for name in ("outcomes", "predictions", "probabilities")}
        optional |= {f"all_x{position}": column for position, column in judged.columns.items()}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    np.savez_compressed(folder / _FILE, allow_pickle=False, **arrays)


def load_reference(folder: Path, schema: ModelSchema) -> Reference:
    """Read ``reference.npz`` and ``profile.json`` of a bundle.

    Raises BundleError where a file is missing, unreadable, or not made for this schema.
    """
    try:
        with np.load(folder / _FILE, allow_pickle=False) as arrays:
            stored = dict(arrays)
        about = json.loads((folder / PROFILE).read_bytes())
        reference = Reference(
            schema=schema,
            columns=[stored[f"x{position}"] for position in range(len(schema.features))],
            predictions=stored["prediction"],
            probabilities=stored.get("probabilities"),
            outcomes=stored.get("outcomes"),
            times=stored.get("time"),
            sha256=hashlib.sha256((folder / _FILE).read_bytes()).hexdigest(),
            created_at=about["created_at"],
            in_sample=about["in_sample"],
            baseline=about["baseline"],
            dependence=about.get("dependence", {}),
            qualification=about.get("qualification", {}),
            judged=_judged(stored),
            groups=ReferenceGroups(about["entity"]["name"], stored["groups"]) if "groups" in stored else None,
        )
    except (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise BundleError(f"{folder}: the reference cannot be read ({error}); bundle the model again") from error
    if not reference.rows:
        raise BundleError(f"{folder / _FILE}: it has no rows; bundle the model again")
    whole = reference.judged.rows if reference.judged else 0
    lengths = {name: whole if name.startswith("all_") else reference.rows for name in stored}
    if any(array.ndim == 0 or len(array) != lengths[name] for name, array in stored.items()):
        raise BundleError(f"{folder / _FILE}: its arrays differ in length; bundle the model again")
    return reference


def _judged(stored: Mapping[str, NDArray[Any]]) -> Judged | None:
    if "all_outcomes" not in stored:
        return None
    columns = {int(name[5:]): column for name, column in stored.items() if name.startswith("all_x")}
    arrays = (stored["all_outcomes"], stored["all_predictions"], stored.get("all_probabilities"))
    return Judged(*arrays, columns, "time" in stored)
