"""Rows as arrays of numbers and codes, rows that repeat, and rows of one group."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.monitoring.reference.columns import MISSING, ROUNDING, UNSEEN, ReferenceColumn
from app.statistics import FloatArray, IntArray
from app.statistics.autocorrelation import Independence
from app.types import Feature, FeatureType, Label, ModelSchema, Row, Scalar, Task, label_key

_NATURAL = 0.1
"""Expected number of equal rows for each row of a window, from which on repeats are nothing special."""
_MIN_WORTH_ROWS = 50
"""Rows that even the most uniform window is worth: who sends one strange row for ever is not excused by it."""
_FACTOR, _SHIFT = 0x9E3779B97F4A7C15, 29

Codes = NDArray[np.uint64]


def row_codes(columns: Sequence[NDArray[Any]]) -> Codes:
    """Give each row a number that equal rows share, and others practically never do.

    >>> codes = row_codes([np.array([1.0, 1.0, 2.0]), np.array([0.0, -0.0, 0.0])]).tolist()
    >>> codes[0] == codes[1], codes[0] == codes[2]
    (True, False)
    """
    codes = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        if column.dtype.kind not in "fi":  # unreadable, which the comparison of this column says
            continue
        codes ^= (column.astype(np.float64) + 0.0).view(np.uint64)  # adding zero turns -0.0 into 0.0
        codes *= np.uint64(_FACTOR)
        codes ^= codes >> np.uint64(_SHIFT)
    return codes


def collisions(codes: Codes) -> float:
    """Estimate, without bias, the chance that two rows are equal.

    Reference: Simpson (1949), doi:10.1038/163688a0.

    >>> collisions(np.array([1, 1, 2], dtype=np.uint64))
    0.3333333333333333
    """
    rows = len(codes)
    counts = np.unique(codes, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / (rows * (rows - 1))) if rows > 1 else 0.0


def worth(codes: Codes, natural: float) -> float:
    """Give the independent rows per row of a window with copies.

    It is 1 where there is no sign of copies.

    m rows drawn from h different ones have a mean as uncertain as ``1 / (1/m + 1/h)`` independent rows do, and 1/h is
    the chance that two of them are equal; the sum is Kish's effective size (1965), "Survey Sampling".

    Args:
        natural: the same chance among rows of the reference, which is no sign of copies.
    """
    m = len(codes)
    if natural * m > _NATURAL:
        return 1.0
    found = 1 / (1 / m + max(collisions(codes) - natural, 0.0))
    return min(max(found, _MIN_WORTH_ROWS) / m, 1.0)


def without_copies(columns: Sequence[NDArray[Any]], codes: Codes, natural: float) -> list[NDArray[Any]]:
    """Keep the first of equal rows, in their order; where repeats are natural, keep all."""
    if natural * len(codes) > _NATURAL:
        return list(columns)
    firsts = np.sort(np.unique(codes, return_index=True)[1])
    return [column[firsts] for column in columns]


def encode(schema: ModelSchema, rows: Sequence[Row]) -> list[NDArray[Any]]:
    """One array of ``len(rows)`` per feature, in schema order.

    Numbers and booleans are float64 (NaN: missing, or not a finite number), categories int32 codes (-1 missing, -2
    unseen). Raises ValueError where a row has another length than the schema.

    >>> from app.types import Feature
    >>> colour = Feature("colour", FeatureType.CATEGORICAL, categories=("red", "blue"))
    >>> schema = ModelSchema("m", "1", Task.BINARY, (Feature("age", FeatureType.NUMERIC), colour), (0, 1), 1)
    >>> [column.tolist() for column in encode(schema, [(41, "blue"), (None, "green"), (7.5, None)])]
    [[41.0, nan, 7.5], [1, -2, -1]]
    """
    if not rows:
        return [_encode_column(feature, ()) for feature in schema.features]
    columns = zip(schema.features, zip(*rows, strict=True), strict=True)
    return [_encode_column(feature, values) for feature, values in columns]


def encode_labels(schema: ModelSchema, labels: Sequence[Label | None] | NDArray[Any]) -> NDArray[Any]:
    """Encode labels: int32 positions among the classes, or float64 in regression.

    Unknown or no label is -1, or NaN in regression.

    Labels that Python calls equal are one class, as in JSON: 0, 0.0 and false are, "0" is not.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=(0, 1), positive=1)
    >>> encode_labels(schema, [False, 1.0, "1", None]).tolist()
    [0, 1, -1, -1]
    """
    if schema.task is Task.REGRESSION:
        return _numbers(tuple(labels))
    return _codes(schema.classes, tuple(labels), unknown=-1)


MAX_UNKNOWN_CLASSES = 20
"""Unknown classes that count each by itself; all others together are one."""
OTHER_CLASSES = "(others)"


def encode_outcomes(schema: ModelSchema, labels: Sequence[Label | None]) -> tuple[NDArray[Any], tuple[Label, ...]]:
    """Encode truths as :func:`encode_labels` does.

    A class that the schema lacks gets a code behind its classes.

    The second value names those classes in the order of their codes, the most frequent first. No answer of the model
    has such a code, so that it is wrong whatever it says.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=("no", "yes"), positive="yes")
    >>> codes, unknown = encode_outcomes(schema, ["yes", "maybe", None])
    >>> codes.tolist(), unknown
    ([1, 2, -1], ('maybe',))
    """
    codes = encode_labels(schema, labels)
    if schema.task is Task.REGRESSION:
        return codes, ()
    strange = [place for place in np.flatnonzero(codes < 0).tolist() if labels[place] is not None]
    counts = Counter(labels[place] for place in strange)
    named = sorted(counts, key=lambda label: (-counts[label], label_key(label or "")))
    place_of = {label: min(place, MAX_UNKNOWN_CLASSES) for place, label in enumerate(named)}
    for place in strange:
        codes[place] = len(schema.classes) + place_of[labels[place]]
    shown = tuple(label for label in named[:MAX_UNKNOWN_CLASSES] if label is not None)
    return codes, shown + ((OTHER_CLASSES,) if len(named) > MAX_UNKNOWN_CLASSES else ())


def encode_probabilities(schema: ModelSchema, rows: Sequence[Sequence[float] | None]) -> FloatArray | None:
    """Encode probabilities as float64 of shape (n, classes), NaN in rows without any.

    The result is None where no row has any.
    """
    none = (math.nan,) * len(schema.classes)
    if not schema.classes or all(row is None for row in rows):
        return None
    return np.array([none if row is None else row for row in rows], dtype=np.float64)


def _encode_column(feature: Feature, values: tuple[Any, ...]) -> NDArray[Any]:
    if feature.type is FeatureType.CATEGORICAL:
        return _codes(feature.categories, values, unknown=UNSEEN)
    return _numbers(values)


def _numbers(values: tuple[Any, ...]) -> FloatArray:
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        column = np.array([_number(value) for value in values])
    column[~np.isfinite(column)] = np.nan
    return column


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) <= sys.float_info.max else math.nan


def _codes(categories: Sequence[Label], values: tuple[Any, ...], *, unknown: int) -> NDArray[np.int32]:
    index: dict[Label | None, int] = {category: code for code, category in enumerate(categories)}
    index[None] = MISSING
    codes = np.array([index.get(value, unknown) for value in values], dtype=np.int32)
    if any(isinstance(category, float) for category in categories):
        _find_rounded(codes, categories, values, unknown)
    for row in np.flatnonzero(codes == UNSEEN) if unknown == UNSEEN else ():
        if values[row] != values[row]:  # only NaN differs from itself
            codes[row] = MISSING
    return codes


def _find_rounded(codes: NDArray[np.int32], categories: Sequence[Label], values: tuple[Any, ...], unknown: int) -> None:
    """Give a number the code of the category that it equals but for rounding to 32 bits."""
    known = {code: category for code, category in enumerate(categories) if isinstance(category, float)}
    for row in np.flatnonzero(codes == unknown).tolist():
        value = values[row]
        if isinstance(value, float) and math.isfinite(value):
            close = [code for code, each in known.items() if abs(value - each) <= ROUNDING * abs(each)]
            codes[row] = close[0] if close and not value.is_integer() else unknown


class Groups(NamedTuple):
    """The group of each row, such as its user.

    Attributes:
        name: of the feature, or of the key of the context.
        configured: whether ``drift.entity`` names it; else it was found.
        window: the number of each row's group in the window, from 0 on.
        reference: the same of the reference; None where it does not know.
    """

    name: str
    configured: bool
    window: IntArray
    reference: IntArray | None

    @property
    def entities(self) -> int:
        """The number of groups in the window."""
        return int(self.window.max()) + 1

    def worth(self, watched: Sequence[ReferenceColumn], arrays: Sequence[NDArray[Any]]) -> list[Worth]:
        """Give the independent rows per row of each column, in the window and in the reference."""
        return [
            Worth(Independence.of_groups(array, self.window), self._of_reference(column))
            for column, array in zip(watched, arrays, strict=False)
        ]

    def _of_reference(self, column: ReferenceColumn) -> Independence:
        if self.reference is None or len(self.reference) != len(column.values):
            return Independence()
        return Independence.of_groups(column.values, self.reference)


class ReferenceGroups(NamedTuple):
    """Hold the groups that the reference showed: a column's name, and each row's number."""

    name: str
    codes: IntArray


class Worth(NamedTuple):
    """Independent rows per row of one column, in the window and in the reference."""

    window: Independence = Independence()
    reference: Independence = Independence()


class GroupedRows(NamedTuple):
    """Rows with what may name their groups: features, and keys of the context."""

    features: Sequence[Row]
    contexts: Sequence[Mapping[str, Scalar] | None]

    def of_feature(self, place: int) -> list[Any]:
        """One feature's values."""
        return [row[place] for row in self.features]

    def of_context(self, key: str) -> list[Any]:
        """The values of one key of the context; None where a row has none."""
        return [None if context is None else context.get(key) for context in self.contexts]


_SAMPLE, _ROWS_PER_GROUP = 500, 5
_MAX_SAMPLE_SHARE = 0.95
"""Different values per row of a sample from which on values hardly come again."""
_KNOWN_SHARE = 0.9
"""Share of rows whose group must be known."""
_RETURNING = 0.8
"""Share of groups that were in the window before from which on they are no sample of many."""
_MIN_CONTEXT_GROUPS = 10
"""Groups of a key of the context without a window before: fewer may be regions or channels."""
_EXPLAINED = 0.25
"""Share of the other columns that must be worth less than half of their rows within groups."""


def find_groups(
    watched: Sequence[ReferenceColumn],
    arrays: Sequence[NDArray[Any]],
    window: GroupedRows,
    earlier: GroupedRows,
    entity: str | None,
    bundled: ReferenceGroups | None = None,
) -> Groups | None:
    """Find the groups that a window's rows are a sample of, by name or by the rows.

    A feature, or a key of the context, names groups where the window has at most half of the different values that as
    many rows of the reference have, where its groups come and go, and where a quarter of the other columns is worth
    less than half of its rows within them. A category of few values that always come, such as a channel, is none.

    Args:
        watched, arrays: the features of the reference and of the window.
        earlier: rows of the window before; none on the first look.
        entity: the name of a feature or of a key of the context, or None.
        bundled: groups of the reference; they need no further proof that they explain rows.
    """
    if entity is not None:
        place = next((place for place, each in enumerate(watched) if each.subject.name == entity), None)
        values = window.of_context(entity) if place is None else window.of_feature(place)
        if all(value is None for value in values):
            return None
        known = None if place is None else numbered(watched[place].values.tolist())
        if bundled is not None and bundled.name == entity:
            known = bundled.codes
        return Groups(entity, configured=True, window=numbered(values), reference=known)
    best: tuple[float, Groups] | None = None
    for groups in _candidates(watched, arrays, window, earlier, bundled and bundled.name):
        if bundled is not None and bundled.name == groups.name:
            return groups._replace(reference=bundled.codes)
        others = [
            (column, array)
            for column, array in zip(watched, arrays, strict=False)
            if column.subject.name != groups.name
        ]
        shares = [Independence.of_groups(array, groups.window).values for _, array in others]
        if shares and np.mean(np.array(shares) < 0.5) >= _EXPLAINED:  # noqa: PLR2004 - half of the rows
            mean = float(np.mean(shares))
            best = (mean, groups) if best is None or mean < best[0] else best
    return None if best is None else best[1]


def names_groups(column: ReferenceColumn, groups: Groups) -> bool:
    """Tell whether a feature's values are names of groups.

    Those of each window are new, whatever the world does. A number with fractions, such as an income that is the same
    in all rows of a user, is none.
    """
    if column.subject.name != groups.name:
        return False
    return groups.configured or bool((column.present == np.floor(column.present)).all())


def _candidates(
    watched: Sequence[ReferenceColumn],
    arrays: Sequence[NDArray[Any]],
    window: GroupedRows,
    earlier: GroupedRows,
    known_key: str | None,
) -> Iterator[Groups]:
    rows = len(window.features)
    for place, (column, array) in enumerate(zip(watched, arrays, strict=False)):
        if not _may_name_groups(column.values, array):
            continue
        values, before = window.of_feature(place), earlier.of_feature(place) if earlier.features else []
        if _come_and_go(values, before) and len(set(values)) * 2 <= _expected_values(column.values, rows):
            known = numbered(column.values.tolist())
            yield Groups(column.subject.name, configured=False, window=numbered(values), reference=known)
    keys = dict.fromkeys([key for context in window.contexts if context for key in context])
    for key in keys:
        values, before = window.of_context(key), earlier.of_context(key) if earlier.features else []
        few = not before and len(set(values)) < _MIN_CONTEXT_GROUPS and key != known_key
        if not few and _come_and_go(values, before):
            yield Groups(key, configured=False, window=numbered(values), reference=None)


def _may_name_groups(reference: NDArray[Any], window: NDArray[Any]) -> bool:
    """Tell at little cost whether a column has far fewer different values than the reference."""
    rows = len(window)
    if window.dtype.kind not in "fi" or reference.dtype.kind not in "fi":
        return False
    sample = window[np.linspace(0, rows - 1, min(rows, _SAMPLE)).astype(np.int64)]
    if len(np.unique(sample)) > _MAX_SAMPLE_SHARE * len(sample):
        return False
    return len(np.unique(window)) * 2 <= _expected_values(reference, rows)


def _come_and_go(values: Sequence[Any], before: Sequence[Any]) -> bool:
    """Tell whether values may name groups: each has several rows, and others were there before."""
    known = [value for value in values if value is not None]
    present = set(known)
    several = 2 <= len(present) <= len(values) / _ROWS_PER_GROUP  # noqa: PLR2004 - one is no sample
    if not several or len(known) < _KNOWN_SHARE * len(values):
        return False
    return not before or len(present & set(before)) < _RETURNING * len(present)


def _expected_values(column: NDArray[Any], rows: int) -> float:
    """Expect this many different values among rows drawn from the reference."""
    counts = np.unique(column, return_counts=True)[1]
    return float((1 - (1 - counts / counts.sum()) ** rows).sum())


def numbered(values: Sequence[Any]) -> IntArray:
    """Number values in the order of their first row; each missing one is a group of its own."""
    if None in values:
        values = [(row,) if value is None else value for row, value in enumerate(values)]
    places = {value: place for place, value in enumerate(dict.fromkeys(values))}
    return np.array([places[value] for value in values], dtype=np.int64)
