"""Data quality of a window: missing, out of range, unseen, constant, repeated, imbalanced."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import describe_error
from app.figures.drift import NUMBERS, UNREADABLE, WINDOW_CHECKS, checks_of
from app.monitoring.check_request import Limits
from app.monitoring.quality.traffic import Rule, freshness_findings, make_finding, quality_tests, traffic_findings
from app.monitoring.reference.columns import MISSING, ROUNDING, UNSEEN, ReferenceColumn
from app.monitoring.reference.reference import Reference
from app.reports.drift import DataQuality, QualityFinding
from app.statistics import FloatArray
from app.statistics.autocorrelation import Independence, Inflation
from app.store.database import Pause, no_pause
from app.store.queries.windows import Arrivals
from app.types import Feature, FeatureType, ModelSchema

_FENCE = 3.0
"""Interquartile ranges beyond the quartiles from which a value is far out: Tukey (1977), Exploratory Data Analysis."""
_FROZEN_SHARE = 0.1
_MAX_DISTINCT_OF_CODES = 100
"""Values that are looked at before all are: most numbers with fractions show one among them."""
_RARE = 0.05  # a value of at most this share in the reference does not repeat by itself


@dataclass(frozen=True)
class Columns:
    """One feature on both sides, as its checks look at it.

    Attributes:
        window: the window's column, in order of time.
        rule: for shares of the feature's values; ``gaps`` for those of its missing values.
        in_sample: whether the reference are rows that the model was fitted on.
    """

    feature: Feature
    reference: ReferenceColumn
    window: NDArray[Any]
    rule: Rule
    gaps: Rule
    in_sample: bool

    @classmethod
    def of(
        cls,
        feature: Feature,
        ours: ReferenceColumn,
        theirs: NDArray[Any],
        rule: Rule,
        *,
        in_sample: bool,
        inflation: float = 1.0,
    ) -> Columns:
        """Let each rule ask how much its rows resemble their neighbours, at most once."""

        @cache
        def null() -> Inflation:
            return Independence.of(theirs).inflation(rule.m, ours.independence, rule.n)

        values, gaps = (lambda: null().values * inflation), (lambda: null().gaps * inflation)
        return cls(
            feature, ours, theirs, replace(rule, inflation=values), replace(rule, inflation=gaps), in_sample=in_sample
        )

    @cached_property
    def present(self) -> NDArray[Any]:
        """The window's values without the missing ones."""
        return self.window[~self.missing(self.window)]

    def missing(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        """Tell which values of a column are missing."""
        gaps = column == MISSING if self.feature.type is FeatureType.CATEGORICAL else np.isnan(column)
        return np.asarray(gaps, dtype=np.bool_)

    def compare(self, kind: str, ours: int, theirs: int, what: str) -> Iterator[QualityFinding]:
        """Compare two counts of values; see :meth:`Rule.finding`."""
        return self.rule.finding(self.feature.name, kind, ours, theirs, what)


def feature_findings(
    feature: Feature,
    ours: ReferenceColumn,
    theirs: NDArray[Any],
    rule: Rule,
    *,
    in_sample: bool,
    inflation: float = 1.0,
) -> Iterator[QualityFinding]:
    """Yield what is wrong with a feature of the window, in order of time.

    ``inflation`` is how many times the column varies more from window to window than sampling explains.
    """
    columns = Columns.of(feature, ours, theirs, rule, in_sample=in_sample, inflation=inflation)
    nothing_known = not len(ours.present)
    kinds: set[str] = set()
    for check in checks_of(feature.type):
        if check.unless in kinds or (check.types == NUMBERS and nothing_known):
            continue
        for finding in FEATURE_TESTS[check.name](columns):
            kinds.add(finding["kind"])
            yield finding if check.name == finding["kind"] else finding | {"check": check.name}


def _missing(columns: Columns) -> Iterator[QualityFinding]:
    gone, lost = (int(columns.missing(each).sum()) for each in (columns.reference.values, columns.window))
    yield from columns.gaps.finding(columns.feature.name, "missing_share", gone, lost, "have no value")


def _constant(columns: Columns) -> Iterator[QualityFinding]:
    present = columns.present
    if columns.feature.type is FeatureType.CATEGORICAL and (present == UNSEEN).any():
        return  # values that the schema does not know share a code: nothing says whether they are one value or many
    if len(present) and (present == present[0]).all():
        same = int((columns.reference.values == present[0]).sum())
        yield from columns.compare("constant", same, len(present), "have one and the same value")


def _unseen(columns: Columns) -> Iterator[QualityFinding]:
    """Compare with the reference's rate of novelty.

    That is the share of its own unseen rows. Where it has none, its categories may be known because the schema was made
    of it: then the share of rows whose category occurs once, Good (1953), doi:10.1093/biomet/40.3-4.237. A schema that
    was made of this reference and left categories out says nothing about novelty.
    """
    ours = columns.reference.values
    new = int((ours == UNSEEN).sum())
    if new and columns.in_sample:
        return
    singles = int((np.bincount(ours[ours >= 0]) == 1).sum())
    unseen = int((columns.window == UNSEEN).sum())
    each = ": each value is new" if unseen and unseen == len(columns.present) else ""
    what = f"have a category that the schema does not know{each}"
    yield from columns.compare("unseen_category", new or singles, unseen, what)


def _frozen(columns: Columns) -> Iterator[QualityFinding]:
    """Find a number that varied and now stands still.

    The last rows repeat one value that is rare in the reference.

    A run of length L has the probability ``share^(L - 1)``, the share being that of the value in the reference.
    """
    theirs, rule = columns.window, columns.rule
    last = theirs[-1]
    if np.isnan(last) or (theirs == last).all():
        return
    run = int((theirs[::-1] != last).argmax())
    share = (_between(columns.reference.present, last, last) + 1) / (rule.n + 1)
    if share > _RARE:
        return
    limit = max(1 + math.ceil(math.log(rule.alpha) / math.log(share)), _FROZEN_SHARE * rule.m) / rule.m
    if run / rule.m >= limit:
        message = f"the latest {run} rows, {run / rule.m:.2%}, have one and the same value; limit {limit:.2%}"
        yield make_finding(columns.feature.name, "frozen", run / rule.m, limit, message)


def _below_range(columns: Columns) -> Iterator[QualityFinding]:
    """Test each bound by itself.

    One side's test is exact also where the bound is the reference's own extreme. A value that differs from a bound by
    rounding to 32 bits lies on it.
    """
    ours, low = columns.reference.present, columns.feature.low
    if low is not None:
        low -= ROUNDING * abs(low)
        outside = len(ours) - _between(ours, low, np.inf), int((columns.present < low).sum())
        yield from columns.compare("out_of_range", *outside, f"lie below {low:g}")


def _above_range(columns: Columns) -> Iterator[QualityFinding]:
    ours, high = columns.reference.present, columns.feature.high
    if high is not None:
        high += ROUNDING * abs(high)
        outside = len(ours) - _between(ours, -np.inf, high), int((columns.present > high).sum())
        yield from columns.compare("out_of_range", *outside, f"lie above {high:g}")


def _outliers(columns: Columns) -> Iterator[QualityFinding]:
    ours, theirs = columns.reference.present, columns.present
    first, third = ours[len(ours) // 4], ours[3 * len(ours) // 4]
    low, high = first - _FENCE * (third - first), third + _FENCE * (third - first)
    if low < high:
        outside = len(ours) - _between(ours, low, high), int(((theirs < low) | (theirs > high)).sum())
        yield from columns.compare("outlier_share", *outside, f"lie far outside the usual, [{low:g}, {high:g}]")


def _fractions(columns: Columns) -> Iterator[QualityFinding]:
    ours, theirs = columns.reference.present, columns.present
    if _is_whole(ours[:_MAX_DISTINCT_OF_CODES]) and _is_whole(ours):
        fractions = int((theirs != np.floor(theirs)).sum())
        yield from columns.compare("type_change", 0, fractions, "have a fraction")


def _is_whole(values: FloatArray) -> bool:
    return bool((values == np.floor(values)).all())


def _between(values: FloatArray, low: float, high: float) -> int:
    """Count the sorted values in [low, high]."""
    return int(np.searchsorted(values, high, "right") - np.searchsorted(values, low, "left"))


FEATURE_TESTS: Mapping[str, Callable[[Columns], Iterator[QualityFinding]]] = {
    "missing_share": _missing,
    "constant": _constant,
    "unseen_category": _unseen,
    "frozen": _frozen,
    "below_range": _below_range,
    "above_range": _above_range,
    "outlier_share": _outliers,
    "type_change": _fractions,
}
"""What each of :data:`app.figures.drift.FEATURE_CHECKS` does; they run in the order of that list."""

_IMBALANCE = 0.1
"""Smallest rise of the largest class's share that matters; drift of the prediction sees smaller ones."""


def data_quality(
    schema: ModelSchema,
    reference: Reference | None,
    columns: Sequence[NDArray[Any]],
    limits: Limits,
    *,
    predictions: NDArray[Any] | None = None,
    season: Sequence[ReferenceColumn] | None = None,
    inflations: Sequence[float] | None = None,
    arrivals: Arrivals | None = None,
    pause: Pause = no_pause,
) -> DataQuality:
    """Judge a window's encoded columns, in order of time: ``data_quality`` of ``GET /drift``.

    A share is a finding when it exceeds the reference's by ``limits.material_share`` and by more than chance: the exact
    test of :func:`share_p_values` at ``limits.quality_alpha``, divided by the number of tests. ``limit`` is the value
    from which on both hold. Without a reference nothing says what is normal, and every share passes.

    Args:
        predictions: the window's answers, encoded; a class that takes over is then found.
        season: the reference's features and answers with the rows of the window's season; by default all rows.
        inflations: of features and answers beyond autocorrelation; by default what the reference's blocks show.
        arrivals: when rows came; traffic that drops or ends is then found.
    """
    alpha = limits.quality_alpha / quality_tests(len(schema.features))
    findings: list[QualityFinding] = []
    samples = None
    if reference is not None:
        ours = season or [*reference.features, *reference.answers]
        wider = inflations or reference.inflations(len(columns[0]))
        rule = Rule(alpha, limits.material_share, reference.rows, len(columns[0]))
        sound = []
        for place, (feature, theirs) in enumerate(zip(schema.features, columns, strict=True)):
            pause()
            own = replace(rule, n=len(ours[place].values))
            yielded = feature_findings(
                feature, ours[place], theirs, own, in_sample=reference.in_sample, inflation=wider[place]
            )
            found = _read(feature.name, yielded)
            findings += found
            if not found:
                sound.append(place)
        answer = Answers(ours[len(columns)], predictions, wider[len(columns)])
        samples = Samples(schema, reference, [columns[place] for place in sound], sound, answer, rule)
    look = Look(alpha, samples, arrivals)
    for check in WINDOW_CHECKS:
        if check.unless not in {finding["kind"] for finding in findings}:
            findings += WINDOW_TESTS[check.name](look)
    return {"status": "warning" if findings else "ok", "findings": findings}


@dataclass(frozen=True, slots=True)
class Answers:
    """The model's answers on both sides.

    ``inflation`` is how many times they vary more from window to window than sampling explains.
    """

    reference: ReferenceColumn
    window: NDArray[Any] | None
    inflation: float


@dataclass(frozen=True, slots=True)
class Samples:
    """Window and reference, as the checks of whole rows look at them.

    Attributes:
        sound: places of the features without a finding of their own, and ``columns`` the window's values of these.
    """

    schema: ModelSchema
    reference: Reference
    columns: Sequence[NDArray[Any]]
    sound: Sequence[int]
    answers: Answers
    rule: Rule


@dataclass(frozen=True, slots=True)
class Look:
    """All that the checks of a whole window may need; ``samples`` is None without a reference."""

    alpha: float
    samples: Samples | None
    arrivals: Arrivals | None


def _read(feature: str | None, findings: Iterator[QualityFinding]) -> list[QualityFinding]:
    """List the findings; data that cannot be read are a finding as well, and stop nothing else."""
    try:
        return list(findings)
    except (TypeError, ValueError, IndexError) as error:
        return [QualityFinding(feature=feature, kind=UNREADABLE, value=None, limit=None, message=describe_error(error))]


def _duplicates(look: Look) -> Iterator[QualityFinding]:
    """Compare repeated rows with those among as many reference rows.

    Repeats grow with the number of rows.

    Looks at the columns without a finding of their own: where one went missing or stands still, rows coincide in the
    rest.
    """
    found = look.samples
    if found is None:
        return
    size = min(found.rule.n, found.rule.m)
    same_size = replace(found.rule, n=size, m=size)
    expected = _repeats([_evenly(found.reference.features[place].values, size) for place in found.sound])
    repeated = _repeats([_evenly(theirs, size) for theirs in found.columns])
    yield from same_size.finding(None, "duplicates", expected, repeated, "repeat another row")


def _imbalance(look: Look) -> Iterator[QualityFinding]:
    """Compare the share of the window's most frequent answer with the reference's.

    The test accounts for the choice among all classes.
    """
    found = look.samples
    if found is None or found.answers.window is None or not found.schema.classes or found.reference.in_sample:
        return
    ours, theirs, rule = found.answers.reference, found.answers.window, found.rule
    largest = int(np.bincount(theirs[theirs >= 0], minlength=1).argmax())
    counts = int((ours.values == largest).sum()), int((theirs == largest).sum())

    def inflation() -> float:
        return found.answers.inflation * Independence.of(theirs).inflation(rule.m, ours.independence, rule.n).values

    rule = replace(
        rule,
        alpha=rule.alpha / len(found.schema.classes),
        material=_IMBALANCE,
        n=len(ours.values),
        inflation=inflation,
    )
    what = f"are answered with {found.schema.classes[largest]}"
    yield from rule.finding(None, "class_imbalance", *counts, what)


def _freshness(look: Look) -> Iterator[QualityFinding]:
    return freshness_findings(look.arrivals, look.alpha) if look.arrivals is not None else iter(())


def _traffic(look: Look) -> Iterator[QualityFinding]:
    return traffic_findings(look.arrivals, look.alpha) if look.arrivals is not None else iter(())


WINDOW_TESTS: Mapping[str, Callable[[Look], Iterator[QualityFinding]]] = {
    "duplicates": _duplicates,
    "class_imbalance": _imbalance,
    "freshness": _freshness,
    "traffic": _traffic,
}
"""What each of :data:`app.figures.drift.WINDOW_CHECKS` does; they run in the order of that list."""


def _evenly(column: NDArray[Any], size: int) -> NDArray[np.float64]:
    """Take ``size`` rows, evenly.

    Unknown categories share a code, and count as different ones.
    """
    # Adding zero turns -0.0 into 0.0: rows are compared by their bytes.
    taken = column[np.arange(size) * len(column) // size].astype(np.float64) + 0.0
    return taken if column.dtype.kind == "f" else np.where(taken == UNSEEN, UNSEEN - 1.0 - np.arange(size), taken)


def _repeats(columns: Sequence[NDArray[np.float64]]) -> int:
    """Count the rows that are equal to an earlier one."""
    if not columns:
        return 0
    matrix = np.column_stack(columns)
    return len(matrix) - len({row.tobytes() for row in matrix})
