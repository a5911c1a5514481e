"""Label selection: rows with outcomes that are no random part, and what they cannot tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.performance.metrics import positive_index
from app.monitoring.performance.scoring import Measured, Scored
from app.monitoring.reference.columns import score_of
from app.reports.performance import LabelSelection, Withheld
from app.statistics import IntArray
from app.statistics.intervals import Interval
from app.types import ModelSchema, Scalar, Task, label_key

_WHOLE = 0.99
"""Coverage from which no selection matters."""
_SURPRISING = 1e-3
"""Chance of a coverage as uneven as this, below which labels are not a random part of the rows."""
_IMPOSSIBLE = 1e-4
"""Chance that random labels miss a group, below which the group has no labels for a reason."""
_MIN_GROUP_ROWS = 30
_BANDS = 4
_MIN_EXPECTED = 20.0
_MISSING_SHARE = 0.2
"""Part of the expected outcomes of a class, below which the class is missing."""
_MAX_COPIES, _FINE = 200, 10


@dataclass(frozen=True, slots=True)
class Partial:
    """Hold the interval of a share of rows, a part of which is unknown: worst to best case.

    Reference: Manski (1989), doi:10.2307/145818.

    >>> from app.statistics.intervals import Share
    >>> [round(bound, 2) for bound in Partial(Share(90, 100), 0.5).bounds(0.95)]
    [0.41, 0.97]
    """

    known: Interval
    unknown: float

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Give the bounds of a two-sided interval."""
        low, high = self.known.bounds(confidence)
        return low * (1 - self.unknown), high * (1 - self.unknown) + self.unknown

    def widened(self, ratio: float) -> Partial:
        """Give the same interval with this multiple of its variance."""
        return Partial(self.known.widened(ratio), self.unknown)


@dataclass(frozen=True, slots=True)
class Selection:
    """Hold how the labels of a window were selected.

    Attributes:
        copies: how often each labelled row counts, in proportion to the inverse of its group's coverage; None: once.
        hidden: the groups of rows, by what was predicted, that have no labels for a reason.
        hidden_share: their part of the rows.
        missing: classes whose outcomes are missing, with how many came and how many the reference lets expect.
        coverage: rows and labels by what was predicted.
    """

    copies: IntArray | None = None
    hidden: tuple[str, ...] = ()
    hidden_share: float = 0.0
    missing: Mapping[int, tuple[int, float]] = field(default_factory=dict)
    coverage: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def found(self) -> bool:
        """Tell whether labels are anything but a random part of the rows."""
        return self.copies is not None or bool(self.hidden or self.missing)

    def known(self, schema: ModelSchema) -> frozenset[str] | None:
        """Name the metrics that the labels tell; None where they tell all."""
        if not self.hidden and not self.missing:
            return None
        if schema.task is not Task.BINARY:
            return frozenset()
        positive = positive_index(schema)
        names = set()
        if not self.missing and label_key(schema.classes[positive]) not in self.hidden:
            names.add("precision")
        if not self.hidden and len(self.missing) == 1:
            names.add("recall" if positive not in self.missing else "specificity")
        return frozenset(names)

    def reason(self, schema: ModelSchema) -> Withheld:
        """Say what keeps a metric from being told, and what would make it possible."""
        if self.missing:
            code, (came, expected) = next(iter(self.missing.items()))
            name = label_key(schema.classes[code])
            return {
                "reason": f"outcomes of class {name} are missing: {came} came where {expected:.0f} were expected",
                "needs": f"the outcomes of class {name}: wait until they are there, set performance.label_delay to the "
                "time that they take, or outcomes.absent_means if no outcome means this class",
            }
        rows = round(self.hidden_share * sum(rows for rows, _ in self.coverage.values()))
        groups = ", ".join(self.hidden)
        return {
            "reason": f"no row that was answered with {groups} has an outcome: {self.hidden_share:.0%} of the rows",
            "needs": f"outcomes of some of the {rows} rows answered with {groups}, chosen at random (fifty or more)",
        }

    def withhold(self, schema: ModelSchema, found: Mapping[str, Measured]) -> dict[str, Measured]:
        """Take out what the labels do not tell; accuracy becomes its worst and best case."""
        known = self.known(schema)
        if known is None:
            return dict(found)
        told = {name: each if name in known else Measured(None, None) for name, each in found.items()}
        accuracy = found.get("accuracy")
        if not self.missing and accuracy is not None and accuracy.interval is not None and accuracy.value is not None:
            middle = accuracy.value * (1 - self.hidden_share) + self.hidden_share / 2
            told["accuracy"] = Measured(middle, Partial(accuracy.interval, self.hidden_share))
        return told

    def report(self, schema: ModelSchema) -> LabelSelection:
        """Give the entry of the report."""
        return {
            "weighted": self.copies is not None,
            "coverage": {name: {"rows": rows, "labelled": came} for name, (rows, came) in self.coverage.items()},
            "withheld": self.reason(schema) if self.hidden or self.missing else None,
        }


def select(
    rows: Scored, labelled: NDArray[np.bool_], segments: Mapping[str, Sequence[Scalar]], baseline: Scored | None
) -> Selection:
    """Find how the labels of a window were selected.

    Formula: a labelled row of group g counts ``rows(g) / labelled(g)`` times, its inverse label propensity. Groups are
    made by what was predicted, by the score, and by segments, as long as each has thirty rows.

    Args:
        rows: all rows of the window; outcomes where they are known.
        labelled: which of them these are.
        segments: values of the segments, by row.
        baseline: the reference's rows with outcomes, which tell how many of each class to expect.

    Returns:
        What to weight and what cannot be told; nothing where labels are a random part of the rows, or all.

    Raises:
        Nothing.

    Reference:
        Horvitz and Thompson (1952), doi:10.1080/01621459.1952.10483446.

    >>> schema = ModelSchema("m", "1", Task.BINARY, (), classes=(0, 1), positive=1)
    >>> said = np.repeat([0, 1], 200)
    >>> found = select(Scored(schema, said, said, None), said == 0, {}, None)
    >>> found.hidden, found.hidden_share
    (('1',), 0.5)
    """
    share = float(labelled.mean()) if len(labelled) else 1.0
    if share >= _WHOLE or not labelled.any():
        return Selection()
    classes = rows.schema.task is not Task.REGRESSION
    answered = rows.predictions.astype(np.int64) if classes else _bands(rows.predictions, np.zeros(rows.rows))
    groups = _groups(rows, answered, segments)
    counts = np.bincount(groups).astype(np.float64)
    came = np.bincount(groups, labelled, len(counts)).astype(np.float64)
    coverage = {
        _name(rows.schema, code): (int((answered == code).sum()), int(labelled[answered == code].sum()))
        for code in np.unique(answered).tolist()
    }
    silent = (came == 0) & (counts * math.log1p(-share) < math.log(_IMPOSSIBLE))
    hidden = silent[groups]
    names = tuple(_name(rows.schema, code) for code in np.unique(answered[hidden]).tolist())
    missing = _missing(rows.only(labelled), baseline) if classes else {}
    uneven = _chance(counts[~silent], came[~silent]) < _SURPRISING
    copies = _copies(counts, came, groups[labelled]) if uneven and not missing else None
    return Selection(copies, names, float(hidden.mean()), missing, coverage)


def _groups(rows: Scored, answered: IntArray, segments: Mapping[str, Sequence[Scalar]]) -> IntArray:
    """Divide rows by answer, score and segment, as long as each part keeps thirty rows."""
    groups = np.unique(answered, return_inverse=True)[1].astype(np.int64)
    divisions = [np.unique([str(value) for value in values], return_inverse=True)[1] for values in segments.values()]
    if rows.probabilities is not None and np.isfinite(rows.probabilities).all():
        divisions.insert(0, _bands(score_of(rows.schema, rows.probabilities), groups))
    for division in divisions:
        size = int(division.max(initial=0)) + 1
        fine = groups * size + division
        least = np.full(int(groups.max(initial=0)) + 1, np.inf)
        values, counts = np.unique(fine, return_counts=True)
        np.minimum.at(least, values // size, counts)
        groups = np.unique(np.where(least[groups] >= _MIN_GROUP_ROWS, fine, groups * size), return_inverse=True)[1]
    return groups.astype(np.int64)


def _bands(values: NDArray[Any], within: NDArray[Any]) -> IntArray:
    """Give each row the quarter of its group that its value lies in."""
    found = np.zeros(len(values), dtype=np.int64)
    for group in np.unique(within):
        mine = within == group
        edges = np.quantile(values[mine], np.arange(1, _BANDS) / _BANDS)
        found[mine] = np.searchsorted(edges, values[mine], "left")
    return found


def _chance(rows: NDArray[np.float64], came: NDArray[np.float64]) -> float:
    """Give the chance of a coverage as uneven as this: Pearson's chi-square over the groups."""
    if len(rows) < 2 or not 0 < came.sum() < rows.sum():  # noqa: PLR2004 - one group is even
        return 1.0
    share = came.sum() / rows.sum()
    statistic = float(((came - share * rows) ** 2 / (rows * share * (1 - share))).sum())
    return float(special.chdtrc(len(rows) - 1, statistic))


def _copies(rows: NDArray[np.float64], came: NDArray[np.float64], groups: IntArray) -> IntArray:
    """Give how often each labelled row counts, as whole numbers."""
    weights = np.divide(rows, came, out=np.ones(len(rows)), where=came > 0)
    least = weights[came > 0].min()
    copies: IntArray = np.clip(np.round(_FINE * weights / least), 1, _MAX_COPIES).astype(np.int64)
    return copies[groups]


def _missing(labelled: Scored, baseline: Scored | None) -> dict[int, tuple[int, float]]:
    """Find the classes of which far fewer outcomes came than these answers let expect."""
    if baseline is None or not baseline.rows:
        return {}
    size = len(labelled.schema.classes)
    whole = (baseline.predictions >= 0) & (baseline.outcomes < size)
    cells = baseline.predictions[whole] * size + baseline.outcomes[whole]
    table = np.bincount(cells, minlength=size**2).reshape(size, size).astype(np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    said = np.bincount(labelled.predictions[labelled.predictions >= 0], minlength=size)
    expected, came = said @ shares, np.bincount(labelled.outcomes, minlength=size)[:size]
    return {
        code: (int(came[code]), float(expected[code]))
        for code in range(size)
        if expected[code] >= _MIN_EXPECTED and came[code] < _MISSING_SHARE * expected[code]
    }


def _name(schema: ModelSchema, code: int) -> str:
    """Name a group of answers: a class, or a quarter of the numbers."""
    if schema.task is Task.REGRESSION:
        return f"quarter {code + 1} of the answers"
    return label_key(schema.classes[code]) if code >= 0 else "unknown"
