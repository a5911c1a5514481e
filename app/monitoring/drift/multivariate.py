"""Joint drift: a domain classifier tells the window's rows from the reference's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.errors import describe_error
from app.monitoring.check_request import Limits
from app.monitoring.drift.design_matrix import DesignMatrix, design
from app.monitoring.drift.verdict import MIN_ROWS_BEYOND_VARIATION, comparable_report
from app.monitoring.reference.columns import ReferenceColumn, Subject, pool
from app.monitoring.reference.encoding import Groups
from app.monitoring.reference.qualification import block_inflation, block_variance, growth
from app.monitoring.reference.reference import Reference
from app.reports.drift import CheckError, Column, DriftReport, JointDrift
from app.statistics import FloatArray, IntArray, mann_whitney
from app.statistics.autocorrelation import Independence, group_share
from app.store.database import Pause, no_pause
from app.store.queries.windows import Window
from app.types import to_rfc3339

_MAX_ROWS = 5_000
"""Rows of each side that are used: of more, an even sample."""
_CHUNKS = 10
"""Runs of neighbouring rows that go into one fold together, lest neighbours in time give each other away."""
_BLOCKS = 10
"""Blocks of the reference's scores in each half."""
_TAIL = 1e-5
"""Where the tails of chi-square are compared: about what a verdict asks for."""
_RIDGE = 0.1
"""Penalty, relative to each column's sum of squares."""
_SCREEN = 1.5
"""Standard errors by which the sides must differ in a column of the fitted half; beside a product all are used."""
_ROUNDING = 1e-9
"""Below this, the spread of ranks, which are shares, is an error of arithmetic: all scores are equal."""


@dataclass(frozen=True, slots=True)
class Separation:
    """Hold how well the classifier separates both sides on rows that it was not fitted on.

    Attributes:
        auc: probability that a row of the window is scored above one of the reference; 0.5 is chance.
        p_value: of "both sides are alike".
        effective_rows: independent rows that the window's scores are worth.
        inflation: how many times their mean varies more than sampling explains.
        shares: each column's part in the distance of the mean scores.
    """

    auc: float
    p_value: float
    effective_rows: float
    inflation: float
    shares: FloatArray


def separate(
    subjects: Sequence[Subject],
    reference: Sequence[NDArray[Any]],
    window: Sequence[NDArray[Any]],
    *,
    ordered: bool = False,
    inflations: Sequence[float] = (),
    groups: IntArray | None = None,
    pause: Pause = no_pause,
) -> Separation:
    """Fit a domain classifier on one half of the rows and test it on the other, both ways round.

    The classifier is a ridge regression of the side on normal scores, squares, indicators and products
    (:func:`design`), of those that differ in the fitted half. Each half's AUC is Mann and Whitney's statistic
    (1947), doi:10.1214/aoms/1177730491, whose null holds, since the scores of one half depend on the
    other half alone: no bias of pooled folds enters. The two z-values depend on each other, at worst perfectly, so
    their mean is taken as one z-value. After Lopez-Paz and Oquab (2017), arXiv:1610.06545.

    Where the reference is in order of time, the scores of its own blocks say how much this very combination of columns
    varies by itself, and widen the null. So do the known inflations of the features, each by its part in the scores.

    Args:
        reference, window: encoded columns in the order of ``subjects``, rows of the window in order of time.
        ordered: whether the reference's rows are in order of time too; only then do they tell their autocorrelation.
        inflations: how many times each column varies more from window to window than sampling explains.
        groups: the group of each row of the window; the rows of one are in the same fold, and are worth less.
    """
    sampled = [_even(column) for column in reference], [_even(column) for column in window]
    sides = len(sampled[0][0]), len(sampled[1][0])
    table = design(subjects, [pool(*pair) for pair in zip(*sampled, strict=True)], pause)
    label = np.repeat([0.0, 1.0], sides)
    fold = np.concatenate([np.arange(rows) * _CHUNKS // rows % 2 for rows in sides])
    of_window = None if groups is None else np.asarray(_even(groups), dtype=np.int64)
    fold[sides[0] :] = fold[sides[0] :] if of_window is None else of_window % 2
    halves = []
    for fitted in (fold == 0, fold == 1):
        pause()
        halves.append(_test(table, label, fitted, ordered=ordered, groups=of_window))
    shares = np.maximum(np.sum([half.contributions for half in halves], axis=0), 0.0)
    whole = float(shares.sum())
    weighted = float(shares @ np.array(inflations)) / whole if inflations and whole else 1.0
    inflation = _along_window(max(_block_inflation(halves, sides), weighted), shares)
    z = float(np.mean([half.z for half in halves])) / np.sqrt(inflation)
    return Separation(
        auc=float(np.mean([half.auc for half in halves])),
        p_value=float(special.ndtr(-z)),
        effective_rows=sum(half.effective_rows for half in halves),
        inflation=inflation,
        shares=shares / whole if whole else shares,
    )


def _block_inflation(halves: Sequence[_Half], sides: tuple[int, int]) -> float:
    """Give how many times the window's mean score varies more than sampling explains."""
    variance = float(np.mean([half.block_variance for half in halves]))
    beyond = block_inflation(variance, len(halves) * (_BLOCKS - 1)) - 1
    return 1 + beyond * growth(sides[1], sides[0] / _BLOCKS)


def _along_window(inflation: float, shares: FloatArray) -> float:
    """Widen for the choice of the direction in which the window itself varies.

    Formula:
        What exceeds 1, times ``c_k / c_1``: the tails of chi-square of k and of one degree of freedom, where
        ``k = (sum s)^2 / sum s^2`` features have a part in the scores.

    Args:
        inflation: variance of a fixed combination of features from window to window, relative to sampling noise.
        shares: each feature's part in the scores.

    Returns:
        The inflation of the combination that the classifier has found, at least as large.

    Reference:
        Scheffé (1953), doi:10.1093/biomet/40.1-2.87.

    Example:
        >>> _along_window(3.0, np.array([1.0, 0.0])), round(_along_window(3.0, np.ones(20)), 1)
        (3.0, 7.1)
    """
    squares = float((shares**2).sum())
    count = float(shares.sum()) ** 2 / squares if squares else 1.0
    return 1 + (inflation - 1) * float(special.chdtri(count, _TAIL) / special.chdtri(1.0, _TAIL))


@dataclass(frozen=True, slots=True)
class _Half:
    auc: float
    z: float
    effective_rows: float
    block_variance: float
    contributions: FloatArray


def _test(
    table: DesignMatrix, label: FloatArray, fitted: NDArray[np.bool_], *, ordered: bool, groups: IntArray | None = None
) -> _Half:
    """Fit on one half, score the other, and divide the distance among the columns."""
    extended = table.with_products(label, fitted)
    means, errors = _mean_distances(extended.values[fitted], label[fitted])
    chosen = (np.abs(means) >= errors * _SCREEN) | (extended.beside_products & (errors < np.inf))
    values = extended.values[:, chosen]
    x, y = values[fitted] - values[fitted].mean(axis=0), label[fitted]
    gram = x.T @ x
    weights = np.linalg.solve(gram + _RIDGE * np.diag(np.diag(gram)), x.T @ (y - y.mean()))
    tested, is_window = values[~fitted], label[~fitted] == 1
    scores = tested @ weights
    ours, theirs = scores[~is_window], scores[is_window]
    share = 1.0 if groups is None else group_share(theirs, groups[~fitted[-len(groups) :]])
    independent = min(Independence.of(theirs).values, share)
    worth = len(ours) * (Independence.of(ours).values if ordered else 1.0), len(theirs) * independent
    contributions = extended.owners[:, chosen] @ (_mean_distances(tested, label[~fitted])[0] * weights)
    spread = float(ours.std())
    varies = block_variance((ours - ours.mean()) / spread, _BLOCKS) if ordered and spread > _ROUNDING else 1.0
    return _Half(*mann_whitney(ours, theirs, worth), worth[1], varies, contributions)


def _mean_distances(values: FloatArray, label: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give each column's mean in the window above that in the reference, and its standard error."""
    ours, theirs = values[label == 0], values[label == 1]
    variance = values.var(axis=0)
    errors = np.sqrt(np.where(variance > 0, variance, np.inf) * (1 / len(ours) + 1 / len(theirs)))
    return theirs.mean(axis=0) - ours.mean(axis=0), errors


def _even(column: NDArray[Any]) -> NDArray[Any]:
    places = np.linspace(0, len(column) - 1, min(len(column), _MAX_ROWS)).round().astype(np.int64)
    return column[places]


_MIN_AUC = 0.55
"""That of one feature moved by 0.18 standard deviations."""
_TEST = "domain-classifier"
_MAX_FEATURES = 10
_MAX_RELATIVE_INFLATION = 4.0
"""Inflation, in those of the feature of the middle, from which on a feature is left out of the joint test."""
_FOLDS = 2


def joint_drift(
    watched: Sequence[ReferenceColumn],
    window: Sequence[NDArray[Any]],
    limits: Limits,
    *,
    start: str,
    end: str,
    inflations: Sequence[float] = (),
    groups: IntArray | None = None,
    left_out: Sequence[str] = (),
    before: JointDrift | None = None,
    pause: Pause = no_pause,
) -> JointDrift:
    """Judge joint drift: whether any combination of features gives the window away.

    The verdict opens and closes as a feature's does.

    Args:
        start, end: times of the window's first and last row.
        inflations: how much more than chance each feature varies between blocks of the reference.
        groups: the group of each row of the window, where rows of one resemble each other.
        left_out: features that are not among ``watched``, since they would blind the test.
        before: ``multivariate`` of the report of the look before, against the same reference.
    """
    rows = min(len(window[0]), len(watched[0].values)) if window else 0
    if len(watched) < 2:  # noqa: PLR2004 - joint drift is of several features
        return not_run("a single feature has no joint drift")
    if rows < _FOLDS * limits.min_rows:
        reason = f"{_FOLDS * limits.min_rows} rows are needed on both sides, {rows} are there"
        return _empty("insufficient_data", reason)
    if groups is not None and len(np.unique(groups % _FOLDS)) < _FOLDS:
        return _empty("insufficient_data", "the window's rows are of one group, two are needed")
    found = separate(
        [column.subject for column in watched],
        [column.values for column in watched],
        window,
        ordered=watched[0].ordered,
        inflations=inflations,
        groups=groups,
        pause=pause,
    )
    names = [column.subject.name for column in watched]
    verdict = _judged(found, names, limits, start=start, end=end, before=before)
    if verdict["status"] != "drift" and (few := _few_rows(found, limits)):
        verdict = _empty("insufficient_data", few)
    return verdict | {"left_out": list(left_out)} if left_out else verdict


def _few_rows(found: Separation, limits: Limits) -> str | None:
    """Say how few independent rows a quiet window is worth; None where they are enough."""
    beyond = found.effective_rows / found.inflation
    if found.effective_rows >= limits.min_rows and beyond >= MIN_ROWS_BEYOND_VARIATION:
        return None
    needed = limits.min_rows if found.effective_rows < limits.min_rows else MIN_ROWS_BEYOND_VARIATION
    return f"the window is worth {min(found.effective_rows, beyond):.0f} independent rows, {needed} are needed"


def _judged(
    found: Separation, names: Sequence[str], limits: Limits, *, start: str, end: str, before: JointDrift | None
) -> JointDrift:
    material = material_auc(limits.material_psi)
    significant = found.p_value <= limits.joint_alpha and found.auc >= material
    opened = before if before is not None and before.get("status") == "drift" else None
    shown_at = opened.get("last_significant_at") if opened else None
    drifted = significant or (shown_at is not None and start <= shown_at)
    shares = sorted(zip(found.shares.round(4).tolist(), names, strict=True), key=lambda pair: -pair[0])
    return {
        "test": _TEST,
        "auc": round(found.auc, 6),
        "p_value": float(f"{found.p_value:.6g}"),  # processors differ in the last digits of a matrix product
        "status": "drift" if drifted else "stable",
        "reason": _reason(found.auc, found.p_value, material, limits.joint_alpha),
        "significant": significant,
        "since": (opened.get("since") if opened else end) if drifted else None,
        "last_significant_at": (end if significant else shown_at) if drifted else None,
        "material_auc": material,
        "alpha": limits.joint_alpha,
        "features": [{"feature": name, "share": share} for share, name in shares[:_MAX_FEATURES] if drifted and share],
    }


def material_auc(material_psi: float) -> float:
    """Give the AUC of one normal feature whose shift has this PSI.

    It is ``Phi(sqrt(PSI / 2))``, and at least 0.55.

    >>> material_auc(0.01), round(material_auc(0.5), 3)
    (0.55, 0.691)
    """
    return max(_MIN_AUC, float(special.ndtr(math.sqrt(material_psi / 2))))


def joint_of(
    reference: Reference,
    together: Sequence[ReferenceColumn],
    columns: Sequence[NDArray[Any]],
    window: Window,
    limits: Limits,
    previous: DriftReport | None,
    entries: Mapping[str, Column],
    errors: list[CheckError],
    *,
    groups: Groups | None = None,
    pause: Pause = no_pause,
) -> JointDrift:
    """Judge a window's features together.

    Where that fails, ``errors`` gets an entry and the rest of the report stands.

    Args:
        entries: the features' own verdicts; one in error is left out.
        together: the reference's features, with the rows that the window is compared with; empty where these are few.
        previous: the report of the look before.
    """
    if not together:
        return not_run("the reference has too few rows at the window's weekday and hour")
    sound, left_out = _divide(entries, groups)
    wider = reference.inflations(window.rows)
    comparable = comparable_report(previous, reference)
    try:
        return joint_drift(
            [together[place] for place in sound],
            [columns[place] for place in sound],
            limits,
            start=to_rfc3339(window.predicted_at[0]),
            end=to_rfc3339(window.predicted_at[-1]),
            inflations=[wider[place] for place in sound],
            groups=None if groups is None else groups.window,
            left_out=left_out,
            before=comparable.get("multivariate") if comparable else None,
            pause=pause,
        )
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the features together, each was still judged
        reason = f"not compared: {describe_error(error)}"
        errors.append({"feature": None, "reason": f"joint drift {reason}"})
        return not_run(reason)


def _divide(entries: Mapping[str, Column], groups: Groups | None) -> tuple[list[int], list[str]]:
    """Give the places of the features that are tested jointly, and the names of the others.

    Those would blind the test: the classifier would find the feature whose rows depend on each other most, and its
    scores would be worth as little. Its null is several times as wide as that of the others. So does what names groups.
    """
    sound = [(place, name, entry) for place, (name, entry) in enumerate(entries.items()) if entry["status"] != "error"]
    judged = [entry["inflation"] for *_, entry in sound if entry["status"] in ("stable", "drift")]
    limit = _MAX_RELATIVE_INFLATION * max(float(np.median(judged)), 1.0) if judged else math.inf
    by = None if groups is None else groups.name
    kept = [place for place, name, entry in sound if entry["inflation"] <= limit and name != by]
    return kept, [name for place, name, _ in sound if place not in kept]


def not_run(reason: str) -> JointDrift:
    """Say why nothing was tested."""
    return _empty("not_run", reason)


def _empty(status: Literal["insufficient_data", "not_run"], reason: str) -> JointDrift:
    return {"test": _TEST, "auc": None, "p_value": None, "status": status, "reason": reason, "features": []}


def _reason(auc: float, p_value: float, material: float, alpha: float) -> str:
    chance = f"by chance, an AUC of {auc:.3f} has probability {p_value:.2g}, limit {alpha:.2g}"
    return f"{chance}; it matters from {material:.3f} on"
