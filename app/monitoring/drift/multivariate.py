"""Joint drift: a domain classifier tells the window's rows from the reference's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from app.errors import describe_error
from app.monitoring.false_alarm_budget import Limits
from app.monitoring.reference.columns import MISSING, UNSEEN, ReferenceColumn, Subject, pool
from app.monitoring.reference.reference import Reference
from app.reports.drift import CheckError, Column, DriftReport, JointDrift
from app.statistics import FloatArray, IntArray, middle_ranks, rank_auc
from app.statistics.autocorrelation import Independence
from app.store.queries.windows import Window
from app.store.throttle import Pause, no_pause
from app.types import to_rfc3339

_TOP_CATEGORIES = 8
_MIN_INDICATOR_ROWS = 10
"""Rows that an indicator must differ in."""
_PRODUCTS = 10
_MAX_CORRELATION = 1 - 1e-6  # the largest that is told apart from 1


@dataclass(frozen=True, slots=True)
class DesignMatrix:
    """Columns of mean 0 and variance 1.

    Attributes:
        values: shape (rows, columns).
        owners: shape (features, columns), how much of a column belongs to each feature; every column adds up to 1.
        simple: how many of the first columns may be multiplied with each other.
        products: how many of the last columns are such products.
    """

    values: FloatArray
    owners: FloatArray
    simple: int
    products: int = 0

    @property
    def beside_products(self) -> NDArray[np.bool_]:
        """The columns of the features that have a part in a product."""
        features = self.owners[:, self.owners.shape[1] - self.products :].sum(axis=1) > 0
        return np.asarray(features @ self.owners > 0)

    def with_products(self, label: FloatArray, fitted: NDArray[np.bool_]) -> DesignMatrix:
        """Append the products of column pairs whose correlation differs most between the sides.

        They show what a marginal distribution cannot: a changed correlation, a rare combination.
        """
        x, is_window = self.values[fitted, : self.simple], label[fitted] == 1
        change = np.abs(_fisher(x[is_window]) - _fisher(x[~is_window]))
        variance = (x**2).T @ x**2 / len(x) - (x.T @ x / len(x)) ** 2
        error = np.sqrt(np.maximum(variance, 1.0) * (1 / np.sum(is_window) + 1 / np.sum(~is_window)))
        change[self.owners[:, : self.simple].T @ self.owners[:, : self.simple] > 0] = 0.0
        surprise = np.triu(change / error, 1).ravel()
        best = np.argsort(-surprise, kind="stable")[:_PRODUCTS]
        left, right = np.divmod(best[surprise[best] > noise_level(int(np.count_nonzero(surprise)))], self.simple)
        return DesignMatrix(
            np.hstack([self.values, self.values[:, left] * self.values[:, right]]),
            np.hstack([self.owners, (self.owners[:, left] + self.owners[:, right]) / 2]),
            self.simple,
            len(left),
        )


def _fisher(values: FloatArray) -> FloatArray:
    """Compute Fisher's z of all correlations; its error does not depend on their size.

    Reference: Fisher (1915), doi:10.1093/biomet/10.4.507.
    """
    centred = values - values.mean(axis=0)
    sums = np.sqrt((centred**2).sum(axis=0))
    scaled = centred / np.where(sums > 0, sums, np.inf)
    return np.asarray(np.arctanh(np.clip(scaled.T @ scaled, -_MAX_CORRELATION, _MAX_CORRELATION)), dtype=np.float64)


def noise_level(count: int) -> float:
    """About the largest of so many independent standard normal numbers: ``sqrt(2 ln count)``.

    Donoho and Johnstone (1994), doi:10.1093/biomet/81.3.425.

    >>> round(noise_level(190), 2)
    3.24
    """
    return math.sqrt(2 * math.log(max(count, 1)))


def design(subjects: Sequence[Subject], columns: Sequence[NDArray[Any]], pause: Pause = no_pause) -> DesignMatrix:
    """Turn encoded columns into normal scores, indicators and squared scores."""
    simple: list[tuple[int, FloatArray]] = []
    for place in range(len(columns)):
        pause()
        simple += [(place, column) for column in _columns(subjects[place], columns[place])]
    squares = [
        (place, scores**2)
        for place, scores in simple
        if subjects[place].categories is None and len(np.unique(scores[:_MIN_INDICATOR_ROWS])) > 2  # noqa: PLR2004 - no indicator
    ]
    listed = simple + squares
    values = np.column_stack([column for _, column in listed]) if listed else np.empty((len(columns[0]), 0))
    owners = np.zeros((len(columns), len(listed)))
    owners[[place for place, _ in listed], np.arange(len(listed))] = 1.0
    scale = values.std(axis=0)
    return DesignMatrix((values - values.mean(axis=0)) / np.where(scale > 0, scale, np.inf), owners, len(simple))


def _columns(subject: Subject, values: NDArray[Any]) -> Iterator[FloatArray]:
    if subject.categories is not None:
        yield from _indicators(values, [UNSEEN, MISSING, *_frequent(values)])
        return
    missing = np.isnan(values)
    yield from _indicators(missing, [True])
    if not missing.all():
        scores = np.zeros(len(values))
        scores[~missing] = special.ndtri(middle_ranks(values[~missing]) / (np.sum(~missing) + 1))
        yield scores


def _frequent(codes: NDArray[Any]) -> IntArray:
    counts = np.bincount(codes[codes >= 0].astype(np.int64))
    return np.argsort(-counts, kind="stable")[:_TOP_CATEGORIES]


def _indicators(values: NDArray[Any], wanted: Sequence[int]) -> Iterator[FloatArray]:
    for code in wanted:
        found = values == code
        if _MIN_INDICATOR_ROWS <= np.sum(found) <= len(found) - _MIN_INDICATOR_ROWS:
            yield found.astype(np.float64)


_MAX_ROWS = 5_000
"""Rows of each side that are used: of more, an even sample."""
_CHUNKS = 10
"""Runs of neighbouring rows that go into one fold together, lest neighbours in time give each other away."""
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
        shares: each column's part in the distance of the mean scores.
    """

    auc: float
    p_value: float
    effective_rows: float
    shares: FloatArray


def separate(
    subjects: Sequence[Subject],
    reference: Sequence[NDArray[Any]],
    window: Sequence[NDArray[Any]],
    *,
    ordered: bool = False,
    inflation: float = 1.0,
    pause: Pause = no_pause,
) -> Separation:
    """Fit a domain classifier on one half of the rows and test it on the other, both ways round.

    The classifier is a ridge regression of the side on normal scores, squares, indicators and products
    (:func:`design`), of those that differ in the fitted half. Each half's AUC is Mann and Whitney's statistic
    (1947), doi:10.1214/aoms/1177730491, whose null holds, since the scores of one half depend on the
    other half alone: no bias of pooled folds enters. The two z-values depend on each other, at worst perfectly, so
    their mean is taken as one z-value. After Lopez-Paz and Oquab (2017), arXiv:1610.06545.

    Args:
        reference, window: encoded columns in the order of ``subjects``, rows of the window in order of time.
        ordered: whether the reference's rows are in order of time too; only then do they tell their autocorrelation.
        inflation: variance of a window relative to sampling noise, at least 1.
    """
    sampled = [_even(column) for column in reference], [_even(column) for column in window]
    sides = len(sampled[0][0]), len(sampled[1][0])
    table = design(subjects, [pool(*pair) for pair in zip(*sampled, strict=True)], pause)
    label = np.repeat([0.0, 1.0], sides)
    fold = np.concatenate([np.arange(rows) * _CHUNKS // rows % 2 for rows in sides])
    halves = []
    for half in (0, 1):
        pause()
        halves.append(_test(table, label, fold == half, ordered=ordered))
    z = float(np.mean([half.z for half in halves])) / np.sqrt(inflation)
    shares = np.maximum(np.sum([half.contributions for half in halves], axis=0), 0.0)
    whole = float(shares.sum())
    return Separation(
        auc=float(np.mean([half.auc for half in halves])),
        p_value=float(special.ndtr(-z)),
        effective_rows=sum(half.effective_rows for half in halves),
        shares=shares / whole if whole else shares,
    )


@dataclass(frozen=True, slots=True)
class _Half:
    auc: float
    z: float
    effective_rows: float
    contributions: FloatArray


def _test(table: DesignMatrix, label: FloatArray, fitted: NDArray[np.bool_], *, ordered: bool) -> _Half:
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
    worth = len(ours) * (Independence.of(ours).values if ordered else 1.0), len(theirs) * Independence.of(theirs).values
    contributions = extended.owners[:, chosen] @ (_mean_distances(tested, label[~fitted])[0] * weights)
    return _Half(*mann_whitney(ours, theirs, worth), worth[1], contributions)


def _mean_distances(values: FloatArray, label: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give each column's mean in the window above that in the reference, and its standard error."""
    ours, theirs = values[label == 0], values[label == 1]
    variance = values.var(axis=0)
    errors = np.sqrt(np.where(variance > 0, variance, np.inf) * (1 / len(ours) + 1 / len(theirs)))
    return theirs.mean(axis=0) - ours.mean(axis=0), errors


def mann_whitney(ours: FloatArray, theirs: FloatArray, worth: tuple[float, float]) -> tuple[float, float]:
    """Compute the AUC and its z-value, with ties at their middle rank."""
    ranks = middle_ranks(np.concatenate([ours, theirs]))
    error = float(np.std(ranks / len(ranks), ddof=1)) * np.sqrt(1 / worth[0] + 1 / worth[1])
    auc = rank_auc(ranks, np.arange(len(ranks)) >= len(ours))
    return auc, (auc - 0.5) / error if error > _ROUNDING else 0.0


def _even(column: NDArray[Any]) -> NDArray[Any]:
    places = np.linspace(0, len(column) - 1, min(len(column), _MAX_ROWS)).round().astype(np.int64)
    return column[places]


_MIN_AUC = 0.55
"""That of one feature moved by 0.18 standard deviations."""
_TEST = "domain-classifier"
_MAX_FEATURES = 10
_FOLDS = 2


def joint_drift(
    watched: Sequence[ReferenceColumn],
    window: Sequence[NDArray[Any]],
    limits: Limits,
    *,
    start: str,
    end: str,
    inflations: Sequence[float] = (),
    before: JointDrift | None = None,
    pause: Pause = no_pause,
) -> JointDrift:
    """Judge joint drift: whether any combination of features gives the window away.

    The verdict opens and closes as a feature's does.

    Args:
        start, end: times of the window's first and last row.
        inflations: how much more than chance each feature varies between blocks of the reference; the largest widens
            the null, since the classifier would find that very feature.
        before: ``multivariate`` of the report of the look before, against the same reference.
    """
    rows = min(len(window[0]), len(watched[0].values)) if window else 0
    if len(watched) < 2:  # noqa: PLR2004 - joint drift is of several features
        return not_run("a single feature has no joint drift")
    if rows < _FOLDS * limits.min_rows:
        reason = f"{_FOLDS * limits.min_rows} rows are needed on both sides, {rows} are there"
        return _empty("insufficient_data", reason)
    found = separate(
        [column.subject for column in watched],
        [column.values for column in watched],
        window,
        ordered=watched[0].ordered,
        inflation=max(inflations, default=1.0),
        pause=pause,
    )
    if found.effective_rows < limits.min_rows:
        return _empty("insufficient_data", f"the window is worth {found.effective_rows:.0f} independent rows: too few")
    names = [column.subject.name for column in watched]
    return _judged(found, names, limits, start=start, end=end, before=before)


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
    wider = reference.inflations(window.rows)
    sound = [place for place, entry in enumerate(entries.values()) if entry["status"] != "error"]
    comparable = comparable_report(previous, reference)
    try:
        return joint_drift(
            [together[place] for place in sound],
            [columns[place] for place in sound],
            limits,
            start=to_rfc3339(window.predicted_at[0]),
            end=to_rfc3339(window.predicted_at[-1]),
            inflations=[wider[place] for place in sound],
            before=comparable.get("multivariate") if comparable else None,
            pause=pause,
        )
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the features together, each was still judged
        reason = f"not compared: {describe_error(error)}"
        errors.append({"feature": None, "reason": f"joint drift {reason}"})
        return not_run(reason)


def comparable_report(previous: DriftReport | None, reference: Reference) -> DriftReport | None:
    """Take the report of the look before, where it had the same reference."""
    about = previous.get("reference") if previous else None
    return previous if about and about["sha256"] == reference.sha256 else None


def not_run(reason: str) -> JointDrift:
    """Say why nothing was tested."""
    return _empty("not_run", reason)


def _empty(status: Literal["insufficient_data", "not_run"], reason: str) -> JointDrift:
    return {"test": _TEST, "auc": None, "p_value": None, "status": status, "reason": reason, "features": []}


def _reason(auc: float, p_value: float, material: float, alpha: float) -> str:
    chance = f"by chance, an AUC of {auc:.3f} has probability {p_value:.2g}, limit {alpha:.2g}"
    return f"{chance}; it matters from {material:.3f} on"
