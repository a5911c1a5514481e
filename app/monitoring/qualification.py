"""Qualify a reference: how much more do its blocks in time differ than chance explains? So much may a window, too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.monitoring.autocorrelation import effective_rows
from app.monitoring.columns import ReferenceColumn
from app.monitoring.cycles import find_cycles, without_cycle
from app.monitoring.moderation import moderated, student_widening
from app.monitoring.scores import standard_scores
from app.monitoring.statistics import FloatArray
from app.types import Json

_MOST_BLOCKS, _FEWEST_BLOCKS, _BLOCK_ROWS = 20, 8, 50
_EXPECTED = 5
"""Rows in every block that a category must have on average to be followed."""


def qualify(
    features: Sequence[ReferenceColumn], answers: Sequence[ReferenceColumn], times: NDArray[np.int64] | None
) -> Json:
    """Compare the blocks of a reference, whose rows are in order of time, and say what was found.

    Each column is turned into scores of unit variance: location and spread of the ranks, missing, each category. With
    block means ``y_b`` of ``n_b`` effective rows, ``sum n_b y_b^2 / (B - 1)`` is 1 when only chance and autocorrelation
    are at work. Over few blocks it is uncertain, so that scores of one kind lend each other strength
    (:func:`moderated`), and what exceeds 1 is widened by :func:`student_widening`.

    Returns:
        ``reason`` in words, ``rows`` of a block, and under ``features`` and ``answers``, for every name,
        ``{"inflation", "blocks"}``, where inflation is the variance of a window as long as a block, relative to
        sampling noise, at least 1.
    """
    columns = [*features, *answers]
    rows = len(columns[0].values)
    blocks = min(_MOST_BLOCKS, rows // _BLOCK_ROWS)
    if times is None:
        return _unqualified("no timestamps")
    if times[0] == times[-1]:
        return _unqualified("all timestamps are equal")
    if blocks < _FEWEST_BLOCKS:
        return _unqualified(f"{_FEWEST_BLOCKS * _BLOCK_ROWS} rows are needed for {_FEWEST_BLOCKS} blocks in time")
    found = _inflations(columns, times, blocks)
    entries = [
        (column.subject.name, {"inflation": inflation, "blocks": blocks})
        for column, inflation in zip(columns, found, strict=True)
    ]
    return {
        "reason": _sentence(columns, found, blocks, rows // blocks),
        "rows": rows // blocks,
        "features": dict(entries[: len(features)]),
        "answers": dict(entries[len(features) :]),
    }


def inflations(qualification: Json, names: Sequence[str], window_rows: float, kind: str = "features") -> list[float]:
    """Look up the inflation of columns for a window of so many rows; 1 for what was not qualified.

    The variance between blocks does not shrink with the rows of a window as sampling noise does, so what exceeds 1
    grows in proportion.

    >>> found = {"rows": 500, "features": {"age": {"inflation": 1.5, "blocks": 20}}}
    >>> inflations(found, ["age", "income"], 1000), inflations({}, ["age"], 1000)
    ([2.0, 1.0], [1.0])
    """
    known = qualification.get(kind, {})
    beyond = [known[name]["inflation"] - 1 if name in known else 0.0 for name in names]
    return [1 + each * window_rows / qualification["rows"] if each else 1.0 for each in beyond]


def _inflations(columns: Sequence[ReferenceColumn], times: NDArray[np.int64], blocks: int) -> list[float]:
    """Take each column's largest score: whatever varies most is what a test could take for drift.

    A cycle of the hour or the weekday is taken out, since the window is compared with its own slots.
    """
    largest = [1.0] * len(columns)
    scores = [
        (place, kind, without_cycle(score, times, cycle))
        for place, (column, cycle) in enumerate(zip(columns, find_cycles(columns, times), strict=True))
        for kind, score in standard_scores(column, _EXPECTED * blocks)
    ]
    for kind in ("location", "spread", "share"):
        places = [place for place, name, _ in scores if name == kind]
        raw = np.array([_dispersion(score, blocks) for _, name, score in scores if name == kind])
        variances, freedom = moderated(raw, blocks - 1)
        widened = 1 + np.maximum(variances - 1, 0) * student_widening(freedom)
        for place, inflation in zip(places, widened.tolist(), strict=True):
            largest[place] = max(largest[place], inflation)
    return largest


def _dispersion(score: FloatArray, blocks: int) -> float:
    parts = np.array_split(score, blocks)
    means, rows = np.array([part.mean() for part in parts]), np.array([len(part) for part in parts])
    worth = np.mean([effective_rows(part) / len(part) for part in parts])
    return float(np.sum(worth * rows * means**2) / (blocks - 1))


def _sentence(columns: Sequence[ReferenceColumn], found: Sequence[float], blocks: int, rows: int) -> str:
    about = f"qualified by {blocks} blocks of {rows} rows in order of time; "
    place = int(np.argmax(found))
    if found[place] <= 1.05:  # noqa: PLR2004 - below this, it changes no verdict
        return f"{about}they differ by chance alone"
    return f"{about}{columns[place].subject.name} varies most: {found[place]:.1f} times as much as by chance"


def _unqualified(reason: str) -> Json:
    return {"reason": f"not qualified: {reason}", "rows": 0, "features": {}, "answers": {}}
