"""The window's unusual rows, with a calibrated p-value and the features that make them so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.errors import describe_error
from app.figures.drift import UnusualRow, UnusualRows, no_unusual_rows
from app.monitoring.check_request import Limits
from app.monitoring.reference.columns import MISSING, UNSEEN, ReferenceColumn, Subject
from app.statistics import FloatArray, IntArray, middle_ranks
from app.store.database import Pause, no_pause

MAX_ROWS = 20
"""Unusual rows in one report, the most unusual first."""
RATE = 0.001
"""Share of the rows of an unchanged window that are called unusual, where the reference is large enough."""
_MAX_REFERENCE_ROWS = 10_000
_MAX_COLUMNS = 1_000
"""A limit of cost: to invert the covariance takes the cube of it."""
_MAX_CAUSES = 3
_MIN_CAUSE_PART = 0.5
"""Surprise, in that of the first cause, from which on a feature is one."""
_CHUNKS = 10
"""Runs of neighbours that are fitted or scored together, since neighbours resemble each other."""
_TOP_CATEGORIES = 8
_RIDGE = 1e-3
"""Variance that is added to each column of variance 1."""


class Scores(NamedTuple):
    """The scores and p-values of the rows of a window.

    Attributes:
        p_values: the share of reference rows that are at least as unusual; shape (rows,).
        surprise: in nats, of each feature given the others; shape (rows, features).
        score: the largest surprise of a row, of single features or of all together; shape (rows,).
    """

    p_values: FloatArray
    surprise: FloatArray
    score: FloatArray


def find_unusual(
    watched: Sequence[ReferenceColumn],
    window: Sequence[NDArray[Any]],
    ids: Sequence[str],
    limits: Limits,
    pause: Pause = no_pause,
) -> UnusualRows:
    """Name the rows of a window that are more unusual than nearly all rows of the reference.

    Args:
        watched: the features' reference columns, those of the window's season where it has one.
        window: encoded columns of the window, aligned with ``ids``.
    """
    if not watched:
        return no_unusual_rows("the reference has too few rows at the window's weekday and hour")
    rows = len(watched[0].values)
    if rows < limits.min_reference_rows:
        return no_unusual_rows(f"the reference has {rows} rows, {limits.min_reference_rows} are needed")
    watched = watched[: len(window)]
    subjects = [each.subject for each in watched]
    unreadable = [each.name for each, column in zip(subjects, window, strict=True) if column.dtype.kind not in "fi"]
    if unreadable:
        return no_unusual_rows(f"the values of {unreadable[0]} cannot be read")
    if (width := sum(map(_width, subjects))) > _MAX_COLUMNS:
        return no_unusual_rows(f"the features make {width} columns, rows are judged up to {_MAX_COLUMNS}")
    try:
        found = score_rows(watched, window, pause)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the rows, the features were still judged
        return no_unusual_rows(f"not scored: {describe_error(error)}")
    rate = max(RATE, 1 / (min(rows, _MAX_REFERENCE_ROWS) + 1))
    return _named([each.name for each in subjects], ids, found, rate)


def _named(names: Sequence[str], ids: Sequence[str], found: Scores, rate: float) -> UnusualRows:
    unusual = np.flatnonzero(found.p_values <= rate)
    order = unusual[np.lexsort((-found.score[unusual], found.p_values[unusual]))]
    listed: list[UnusualRow] = []
    for place in order[:MAX_ROWS].tolist():
        surprise = found.surprise[place]
        first = np.argsort(-surprise, kind="stable")[:_MAX_CAUSES]
        causes = first[surprise[first] >= _MIN_CAUSE_PART * surprise[first[0]]]
        listed.append(
            {
                "prediction_id": ids[place],
                "p_value": float(f"{found.p_values[place]:.4g}"),
                "score": round(float(found.score[place]), 3),
                "features": [{"feature": names[each], "score": round(float(surprise[each]), 3)} for each in causes],
            }
        )
    return {
        "status": "judged",
        "reason": None,
        "rate": float(f"{rate:.4g}"),
        "expected_rows": round(rate * len(ids), 2),
        "count": len(unusual),
        "rows": listed,
    }


def score_rows(watched: Sequence[ReferenceColumn], window: Sequence[NDArray[Any]], pause: Pause = no_pause) -> Scores:
    """Score the rows of a window, with the reference's rows as a yardstick.

    Formula:
        ``p = (1 + b) / (1 + n)``, where b of n reference rows have at least the row's score. A row's score is the
        largest of its surprises: for each feature, minus the logarithm of the share of fitted rows whose distance
        from the mean, or from what the other features say, is as large; and the same for all features together.
        Beyond the fitted rows the share is that of the tail's law. It orders rows alone; p does not depend on it.

    Each half of the reference is scored by a model of the other half, and the window by both.

    Reference:
        Vovk, Nouretdinov and Gammerman (2003), "Testing exchangeability on-line"; cross-conformal: Vovk (2015),
        doi:10.1007/s10472-013-9368-4.
    """
    watched = tuple(watched)
    atypical, count = np.zeros(len(window[0])), 0
    surprise = np.zeros((len(window[0]), len(watched) + 1))
    for number in (0, 1):
        pause()
        half = _half_of(watched, number)
        pause()
        theirs = half.model.surprise(window)
        count += len(half.scores)
        atypical += len(half.scores) - np.searchsorted(half.scores, theirs.max(axis=1) - _ROUNDING, side="left")
        surprise += theirs / 2
    return Scores((1 + atypical) / (1 + count), surprise[:, :-1], surprise.max(axis=1))


class _Half(NamedTuple):
    """A half of the reference's rows, as a yardstick."""

    model: RowModel
    """A model of the other half."""
    scores: FloatArray
    """The half's own scores by that model, ascending."""


@lru_cache(maxsize=4)  # both halves of two versions
def _half_of(watched: tuple[ReferenceColumn, ...], number: int) -> _Half:
    """Fit and score a half once: the columns of a reference are the same objects in each look."""
    rows = len(watched[0].values)
    taken = np.linspace(0, rows - 1, min(rows, _MAX_REFERENCE_ROWS)).round().astype(np.int64)
    kept = [each.values[taken] for each in watched]
    half = np.arange(len(taken)) * _CHUNKS // len(taken) % 2
    model = RowModel([each.subject for each in watched], [column[half != number] for column in kept])
    return _Half(model, np.sort(model.surprise([column[half == number] for column in kept]).max(axis=1)))


_ROUNDING = 1e-9
"""Difference of scores up to which they are equal."""


class RowModel:
    """A model of what the features say about each other, in a sample of rows.

    A feature's columns are normal scores or indicators. A linear regression on the columns of all other features says
    what they should be; the distance from that has the distribution that the sample shows.
    """

    def __init__(self, subjects: Sequence[Subject], columns: Sequence[NDArray[Any]]) -> None:
        self._scales = [_scale_of(*pair) for pair in zip(subjects, columns, strict=True)]
        values = self._columns(columns)
        widths = [(place, width) for place, scale in enumerate(self._scales) for width in scale.blocks]
        ends = np.cumsum([width for _, width in widths])
        self._owners = np.array([place for place, _ in widths])
        self._blocks = [slice(int(end) - width, int(end)) for (_, width), end in zip(widths, ends, strict=True)]
        covariance = values.T @ values / len(values)
        np.fill_diagonal(covariance, np.maximum(covariance.diagonal(), 1.0) + _RIDGE)  # a constant column has none
        self._precision = np.linalg.inv(covariance)
        self._given = [np.linalg.inv(self._precision[block, block]) for block in self._blocks]
        self._alone = [np.linalg.inv(covariance[block, block]) for block in self._blocks]
        self._known = np.sort(self._distances(values), axis=0)
        number = [
            scale.known is not None and width == 0 for scale in self._scales for width in range(len(scale.blocks))
        ]
        laws = [Tail.of if each else Tail.heavy for each in [*number, *number, False]]
        self._tails = [law(known) for law, known in zip(laws, self._known.T, strict=True)]

    def surprise(self, columns: Sequence[NDArray[Any]]) -> FloatArray:
        """Give each feature's surprise in each row, in nats, and last that of all together."""
        distances = self._distances(self._columns(columns))
        rows, count = len(self._known), len(self._blocks)
        for place, tail in enumerate(self._tails):
            known, ours = self._known[:, place], distances[:, place]
            beyond = rows - np.searchsorted(known, ours * (1 - _ROUNDING), side="left")
            distances[:, place] = -np.log((beyond + 0.5) / (rows + 1)) + tail.surprise(ours)
        single = np.maximum(distances[:, :count], distances[:, count:-1])
        starts = np.flatnonzero(np.diff(self._owners, prepend=-1))
        return np.column_stack([np.maximum.reduceat(single, starts, axis=1), distances[:, -1]])

    def _columns(self, columns: Sequence[NDArray[Any]]) -> FloatArray:
        return np.hstack([scale.transform(column) for scale, column in zip(self._scales, columns, strict=True)])

    def _distances(self, values: FloatArray) -> FloatArray:
        """Squared distances of each feature given the others, of each alone, and of all together."""
        pulls, count = values @ self._precision, len(self._blocks)
        result = np.empty((len(values), 2 * count + 1))
        for place, block in enumerate(self._blocks):
            result[:, place] = _squares(pulls[:, block], self._given[place])
            result[:, count + place] = _squares(values[:, block], self._alone[place])
        result[:, -1] = np.einsum("ij,ij->i", pulls, values)
        return np.maximum(result, 0.0)


def _squares(values: FloatArray, inverse: NDArray[Any]) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", values @ inverse, values), dtype=np.float64)


class Tail(NamedTuple):
    """The upper tail of a sample: a generalized Pareto law of its largest values.

    Reference:
        Hosking and Wallis (1987), doi:10.2307/1269343: probability-weighted moments.
    """

    end: float
    """The largest value of the sample."""
    scale: float
    shape: float

    @classmethod
    def of(cls, ordered: FloatArray) -> Tail:
        """Fit it to an ascending sample that is not empty."""
        count = min(max(len(ordered) // 20, _MIN_TAIL_VALUES), len(ordered) - 1)
        end = float(ordered[-1])
        if count < 1 or end == ordered[-count - 1]:
            return cls(end, max(float(np.ptp(ordered)), abs(end) * _ROUNDING, _ROUNDING), 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            excess = ordered[-count:] - ordered[-count - 1]
            first = float(excess.mean())
            second = float((excess * (np.arange(count, 0, -1) - 0.65) / count).mean())
            gap = first - 2 * second
            shape = 2 - first / gap if gap > 0 else 1.0
            shape = min(max(shape, 0.0), 1.0)
            scale = first * (1 - shape) if shape < 1 else second
        wider = max(scale, first * _MIN_TAIL_SCALE) + shape * float(excess[-1])  # the scale beyond the largest value
        return cls(end, wider, shape) if math.isfinite(wider) else cls(end, _FARTHEST, 0.0)

    @classmethod
    def heavy(cls, ordered: FloatArray) -> Tail:
        """Take the logarithm of a value in units of the largest one, as rare indicators need."""
        end = max(float(ordered[-1]), 1.0)
        return cls(end, end, 1.0)

    def surprise(self, values: FloatArray) -> FloatArray:
        """Give minus the logarithm of the chance that a tail value is as far out, at most 500."""
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            out = np.nan_to_num((values - self.end) / self.scale, nan=0.0, posinf=_FARTHEST, neginf=0.0)
            out = np.clip(out, 0.0, _FARTHEST)
            return np.minimum(np.log1p(self.shape * out) / self.shape if self.shape else out, _MAX_SURPRISE)


_MIN_TAIL_VALUES = 10
_MIN_TAIL_SCALE = 0.1
_MAX_SURPRISE = 500.0
_FARTHEST = 1e300


class _Scale(NamedTuple):
    """The columns of one feature, of mean 0 and variance 1."""

    known: FloatArray | None
    """A number's different values, ascending; None for categories."""
    scores: FloatArray
    """The normal scores of these values; for categories the surprise of each, then of the missing and unseen one."""
    indicators: IntArray
    """The categories that have a column of their own."""
    tails: tuple[Tail, ...]
    """The upper tail of a number, and that of its negative."""
    centre: FloatArray
    spread: FloatArray

    def raw(self, column: NDArray[Any]) -> FloatArray:
        """Give the columns before they are centred."""
        if self.known is None:
            codes = np.where(column < 0, len(self.scores) + column, column).astype(np.int64)
            return np.column_stack([self.scores[codes], *(codes == each for each in self.indicators)])
        missing = np.isnan(column)
        scores = np.zeros(len(column))
        if len(self.known) and not missing.all():
            present = column[~missing]
            inside = np.interp(present, self.known, self.scores)
            up, down = self.tails[0].surprise(present), self.tails[1].surprise(-present)
            far = np.sqrt(inside**2 + 2 * (up + down))  # a normal number has about that chance
            scores[~missing] = np.where(up > 0, far, np.where(down > 0, -far, inside))
        return np.column_stack([scores, missing])

    @property
    def blocks(self) -> tuple[int, ...]:
        """The widths of the columns that are looked at together; a gap is apart from its number."""
        return (len(self.centre),) if self.known is None else (1, 1)

    def transform(self, column: NDArray[Any]) -> FloatArray:
        """Give the columns of a feature, of shape (rows, columns)."""
        return (self.raw(column) - self.centre) / self.spread


def _scale_of(subject: Subject, column: NDArray[Any]) -> _Scale:
    """Learn the columns of a feature from a sample."""
    empty, none = np.empty(0), np.empty(0, dtype=np.int64)
    if subject.categories is not None:
        size = len(subject.categories) + 2
        codes = np.where(column < 0, size + column, column).astype(np.int64)
        counts = np.bincount(codes, minlength=size)
        frequent = np.argsort(-counts, kind="stable")[:_TOP_CATEGORIES]
        surprise = -np.log((counts + 0.5) / (len(column) + 1))
        scale = _Scale(None, surprise, np.union1d(frequent, [size + MISSING, size + UNSEEN]), (), empty, empty)
    else:
        present = column[~np.isnan(column)]
        known, first = np.unique(present, return_index=True)
        ranks = middle_ranks(present)[first] / (len(present) + 1)
        ordered = np.sort(present)
        tails = (Tail.of(ordered), Tail.of(-ordered[::-1])) if len(present) else ()
        scale = _Scale(known, special.ndtri(ranks), none, tails, empty, empty)
    values = scale.raw(column)
    least = math.sqrt(0.5 / (len(column) + 1))  # what a column without any change could hide
    return scale._replace(centre=values.mean(axis=0), spread=np.maximum(values.std(axis=0), least))


def _width(subject: Subject) -> int:
    return 2 if subject.categories is None else min(len(subject.categories), _TOP_CATEGORIES) + 3
