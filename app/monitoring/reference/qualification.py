"""Qualify a reference: how much its blocks vary beyond sampling noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.monitoring.reference.columns import ReferenceColumn
from app.monitoring.reference.seasonality import find_cycles, standard_scores, without_cycle
from app.statistics import FloatArray
from app.statistics.autocorrelation import effective_rows
from app.types import Json

_TAIL = 5e-6
"""Where the tails of Student and Gauss are compared: about what a verdict asks for."""


def shrink_variances(variances: FloatArray, freedom: int) -> tuple[FloatArray, float]:
    """Shrink variances of few degrees of freedom towards their common value.

    The second result is the degrees of freedom that they then have.

    Their spread beyond that of chi-square is fitted by an inverse chi-square law: where there is none, all are their
    mean; the more there is, the more each is left as it is. Smyth (2004), doi:10.2202/1544-6115.1027.

    >>> shrink_variances(np.array([1.1, 0.9, 1.0, 1.0]), 19)
    (array([1., 1., 1., 1.]), inf)
    """
    logs = np.log(np.maximum(variances, 1e-9)) - special.digamma(freedom / 2) + np.log(freedom / 2)
    if len(logs) < 2:  # noqa: PLR2004 - one has nothing in common with others
        return variances, float(freedom)
    spread = float(np.var(logs, ddof=1) - special.polygamma(1, freedom / 2))
    if spread <= 0:
        return np.full(len(logs), variances.mean()), np.inf
    prior = 2 * _inverse_trigamma(spread)
    common = np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    return (prior * common + freedom * variances) / (prior + freedom), prior + freedom


def _inverse_trigamma(value: float) -> float:
    """Solve trigamma(x) = value by Newton's method on 1/trigamma, which is nearly linear."""
    x = 0.5 + 1 / value
    for _ in range(20):
        trigamma = special.polygamma(1, x)
        x += float(trigamma * (1 - trigamma / value) / special.polygamma(2, x))
    return x


def student_widening(freedom: float) -> float:
    """Give the square of the ratio of Student's tail to the normal one.

    It is the price of an estimated variance.

    >>> round(student_widening(19), 2), student_widening(np.inf)
    (1.81, 1.0)
    """
    return float((special.stdtrit(freedom, _TAIL) / special.ndtri(_TAIL)) ** 2) if np.isfinite(freedom) else 1.0


_GATE = 0.005
"""Chance that a reference of independent rows is widened, for each kind of score."""


def block_inflation(variance: float, freedom: float) -> float:
    """Give the inflation that a variance between blocks stands for; 1 if chance explains it.

    Formula:
        ``1 + (v - 1) (t / z)^2`` where a chi-square variable of so many degrees of freedom exceeds ``freedom v`` in
        less than one of 200 cases, else 1; t and z are the tails of Student and Gauss (:func:`student_widening`).

    Args:
        variance: of block means, relative to that of independent rows.
        freedom: its degrees of freedom, at least 1; may be infinite.

    Returns:
        The inflation of the variance of a window as long as a block, at least 1.

    Reference:
        Searle, Casella and McCulloch (1992), "Variance components", doi:10.1002/9780470316856.

    Example:
        >>> block_inflation(1.5, 19), round(block_inflation(3.0, 19), 2)
        (1.0, 4.63)
    """
    significant = variance > 1 and (not np.isfinite(freedom) or special.chdtrc(freedom, freedom * variance) <= _GATE)
    return 1 + (variance - 1) * student_widening(freedom) if significant else 1.0


_MAX_BLOCKS, _MIN_BLOCKS, _BLOCK_ROWS = 20, 8, 50
_MAX_GROWTH = 4.0
"""Blocks that variation is assumed to last: of twenty blocks, four are the longest that come five times."""
_EXPECTED = 5
"""Rows in every block that a category must have on average to be followed."""


def qualify(
    features: Sequence[ReferenceColumn], answers: Sequence[ReferenceColumn], times: NDArray[np.int64] | None
) -> Json:
    """Compare the blocks of a reference in order of time, and describe what was found.

    Each column is turned into scores of unit variance: location and spread of the ranks, missing, each category. With
    block means ``y_b`` of ``n_b`` effective rows, ``sum n_b y_b^2 / (B - 1)`` is 1 when only chance and autocorrelation
    are at work. Over few blocks it is uncertain, so that scores of one kind lend each other strength
    (:func:`shrink_variances`). Only what chance does not explain counts, of all scores of a kind together or of one by
    itself, and is widened by :func:`student_widening`: a noisy variance of 20 blocks would blind every second column.

    Returns:
        ``reason`` in words, ``rows`` of a block, and under ``features`` and ``answers``, for every name,
        ``{"inflation", "blocks"}``, where inflation is the variance of a window as long as a block, relative to
        sampling noise, at least 1.
    """
    columns = [*features, *answers]
    rows = len(columns[0].values)
    blocks = min(_MAX_BLOCKS, rows // _BLOCK_ROWS)
    if times is None:
        return _unqualified("no timestamps")
    if times[0] == times[-1]:
        return _unqualified("all timestamps are equal")
    if blocks < _MIN_BLOCKS:
        return _unqualified(f"{_MIN_BLOCKS * _BLOCK_ROWS} rows are needed for {_MIN_BLOCKS} blocks in time")
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
    """Give the inflation of columns for a window of so many rows.

    It is 1 for a column that was not qualified.

    The variance between blocks does not shrink with the rows of a window as sampling noise does, so what exceeds 1
    grows in proportion, up to four blocks: variation that lasts longer is not seen often enough to be known.

    >>> found = {"rows": 500, "features": {"age": {"inflation": 1.5, "blocks": 20}}}
    >>> inflations(found, ["age", "income"], 1000), inflations({}, ["age"], 1000)
    ([2.0, 1.0], [1.0])
    """
    known = qualification.get(kind, {})
    beyond = [known[name]["inflation"] - 1 if name in known else 0.0 for name in names]
    return [1 + each * growth(window_rows, qualification["rows"]) if each else 1.0 for each in beyond]


def growth(window_rows: float, block_rows: float) -> float:
    """Give how much longer than a block a window is, four times at most.

    >>> growth(1000, 500), growth(10_000, 500)
    (2.0, 4.0)
    """
    return min(window_rows / block_rows, _MAX_GROWTH)


def _inflations(columns: Sequence[ReferenceColumn], times: NDArray[np.int64], blocks: int) -> list[float]:
    """Take each column's largest score.

    A test could take whatever varies most for drift.

    A cycle of the hour or the weekday is taken out, since the window is compared with its own slots.
    """
    largest = [1.0] * len(columns)
    scores = [
        (place, kind, without_cycle(score, times, cycle))
        for place, (column, cycle) in enumerate(zip(columns, find_cycles(columns, times), strict=True))
        for kind, score in standard_scores(column, _EXPECTED * blocks)
    ]
    for kind in ("location", "spread", "share"):
        found = [(place, score) for place, name, score in scores if name == kind]
        widened = _widened(np.array([score for _, score in found]), blocks) if found else []
        for (place, _), inflation in zip(found, widened, strict=True):
            largest[place] = max(largest[place], inflation)
    return largest


def _widened(scores: FloatArray, blocks: int) -> list[float]:
    """Give the inflation by each score of one kind; the shape is (scores, rows).

    Scores that are correlated are less evidence for what they have in common: the mean of their variances has the
    degrees of freedom of ``k^2 / sum r^2`` independent ones.
    """
    raw, freedom = np.array([block_variance(score, blocks) for score in scores]), blocks - 1
    variances, shrunk = shrink_variances(raw, freedom)
    correlations = scores @ scores.T / scores.shape[1]
    common = freedom * len(raw) ** 2 / max(float((correlations**2).sum()), 1.0)
    if block_inflation(float(raw.mean()), common) > 1:
        return [float(each) for each in 1 + np.maximum(variances - 1, 0) * student_widening(shrunk)]
    return [block_inflation(variance, freedom) for variance in raw.tolist()]


def block_variance(score: FloatArray, blocks: int) -> float:
    """Compute the variance of the means of consecutive blocks, relative to sampling noise.

    Formula:
        ``sum n_b y_b^2 / (B - 1)`` with the mean y_b of block b, which is worth n_b independent rows.

    Args:
        score: shape (rows,), in order of time, of mean 0 and variance 1.
        blocks: B, at least 2.

    Returns:
        About 1 where only chance and the memory within blocks are at work.

    Reference:
        Fisher (1925), "Statistical methods for research workers", doi:10.1007/978-1-4612-4380-9_6.

    Example:
        >>> round(block_variance(np.repeat([1.0, -1.0], 50), 2), 6)
        100.0
    """
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
