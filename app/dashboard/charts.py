"""Charts: numbers, scales and histograms as the templates show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from app.reports.drift import Histogram
from app.reports.performance import Metric

NONE = "-"


def number(value: float | None) -> str:
    """Three significant digits.

    >>> number(0.04567), number(1234567.8), number(12345), number(2e-9), number(None)
    ('0.0457', '1.2e+06', '12,345', '2.0e-09', '-')
    """
    if not isinstance(value, int | float):
        return NONE
    if float(value).is_integer() and abs(value) < 1e15:  # noqa: PLR2004 - whole numbers that floats hold exactly
        return f"{value:,.0f}"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:  # noqa: PLR2004 - beyond these, an exponent is shorter
        return f"{value:.1e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"  # noqa: PLR2004 - whole from here on


def share(value: float | None) -> str:
    """A share in per cent.

    >>> share(0.123), share(0.0123), share(1), share(None)
    ('12 %', '1.2 %', '100 %', '-')
    """
    return f"{100 * value:.{1 if 0 < value < 0.1 else 0}f} %" if isinstance(value, int | float) else NONE  # noqa: PLR2004 - small ones


def duration(seconds: float | None) -> str:
    """A duration in the unit in which it is a small number.

    >>> duration(90), duration(7200), duration(259200), duration(None)
    ('90 s', '2 h', '3 days', '-')
    """
    if not isinstance(seconds, int | float):
        return NONE
    for unit, length, end in (("s", 1, 120), ("min", 60, 7200), ("h", 3600, 172800)):
        if seconds < end:
            return f"{number(round(seconds / length, 1 if seconds < length else 0))} {unit}"
    return f"{number(round(seconds / 86400))} days"


def period(text: str | None) -> str:
    """A period of ISO 8601 in days or seconds, as the reports write them.

    >>> period("P30D"), period("PT5400S")
    ('30 days', '90 min')
    """
    if not text:
        return NONE
    amount = float(text.strip("PTDS"))
    return duration(amount * 86400 if text.endswith("D") else amount)


def moment(text: str | None) -> str:
    """A time of RFC 3339, to the second.

    >>> moment("2026-11-20T10:00:00.123456Z")
    '2026-11-20 10:00:00 UTC'
    """
    return NONE if not text else f"{text[:10]} {text[11:19]} UTC"


def words(name: str) -> str:
    """A word of the reports as text.

    >>> words("insufficient_data")
    'insufficient data'
    """
    return name.replace("_", " ")


def listed(names: list[str], most: int = 3) -> str:
    """The first names of a list, and how many more there are.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


_MARGIN = 0.06


@dataclass(frozen=True, slots=True)
class Scale:
    """Places on a line from 0 to 100; None where there is no such figure."""

    value: float
    low: float
    high: float
    baseline: float | None
    limit: float | None


def scale(metric: Metric) -> Scale | None:
    """Lay out a metric of a performance report; None where it has no interval.

    >>> scale({"value": 0.8, "low": 0.7, "high": 0.9, "baseline": None, "limit": 0.7})
    Scale(value=50.0, low=5.36, high=94.64, baseline=None, limit=5.36)
    """
    value, low, high = metric.get("value"), metric.get("low"), metric.get("high")
    if value is None or low is None or high is None:
        return None
    baseline, limit = metric.get("baseline"), metric.get("limit")
    known = [low, value, high, *(figure for figure in (baseline, limit) if figure is not None)]
    room = (max(known) - min(known)) * _MARGIN or 1.0
    start, width = min(known) - room, max(known) - min(known) + 2 * room

    def place(figure: float) -> float:
        return float(round(100 * (figure - start) / width, 2))

    return Scale(
        place(value),
        place(low),
        place(high),
        None if baseline is None else place(baseline),
        None if limit is None else place(limit),
    )


WIDTH, HEIGHT = 480.0, 96.0
"""The chart's size, in units of its own."""
_GAP = 0.2
_CHARACTER = 6.2
_MAX_LABEL_CHARACTERS = 14


@dataclass(frozen=True, slots=True)
class Bin:
    """Hold one bin as drawn: position, width, both heights, and its labels."""

    x: float
    width: float
    reference: float
    current: float
    label_x: float
    label: str
    title: str


def bars(reference: Histogram, current: Histogram) -> Sequence[Bin]:
    """Lay out two histograms over the same bins.

    Bins that are apart and empty in both are left out.

    >>> chart = bars({"categories": ["a", "b"], "counts": [1, 3]}, {"categories": ["a", "b"], "counts": [2, 2]})
    >>> [(one.label, one.current, one.reference) for one in chart], chart[0].title
    ([('a', 64.0, 32.0), ('b', 64.0, 96.0)], 'a: 50 % of the window, 25 % of the reference')
    """
    labels, counts = _labels(reference), list(zip(reference["counts"], current["counts"], strict=True))
    apart = [
        ("other", (reference.get("other", 0), current.get("other", 0))),
        ("unseen", (reference.get("unseen", 0), current.get("unseen", 0))),
        ("missing", (reference.get("missing", 0), current.get("missing", 0))),
    ]
    labels += [(name, name) for name, pair in apart if any(pair)]
    counts += [pair for _, pair in apart if any(pair)]
    totals = [max(sum(side), 1) for side in zip(*counts, strict=True)]
    shares = [(ours / totals[0], theirs / totals[1]) for ours, theirs in counts]
    highest = max((max(pair) for pair in shares), default=0.0) or 1.0
    step = WIDTH / max(len(counts), 1)
    edges = 0 if "categories" in reference else len(reference["edges"])
    return [
        Bin(
            x=round(step * (place + _GAP / 2), 1),
            width=round(step * (1 - _GAP) / 2, 1),
            reference=round(HEIGHT * ours / highest, 1),
            current=round(HEIGHT * theirs / highest, 1),
            label_x=round(step * (place + (1.0 if place < edges else 0.5)), 1),
            label=_cut(labels[place][0], step),
            title=f"{labels[place][1]}: {share(theirs)} of the window, {share(ours)} of the reference",
        )
        for place, (ours, theirs) in enumerate(shares)
    ]


def _labels(histogram: Histogram) -> list[tuple[str, str]]:
    """Each bin's words below, for numbers its upper edge, and on hover."""
    if "categories" in histogram:
        names = [number(name) if isinstance(name, float) else str(name) for name in histogram["categories"]]
        return [(name, name) for name in names]
    edges = [number(edge) for edge in histogram["edges"]]
    if not edges:
        return [("", "any value")] * len(histogram["counts"])
    inner = [(above, f"{below} to {above}") for below, above in pairwise(edges)]
    return [(edges[0], f"up to {edges[0]}"), *inner, ("", f"above {edges[-1]}")]


def _cut(name: str, room: float) -> str:
    """As much of a name as fits below its bin."""
    most = min(int(room / _CHARACTER), _MAX_LABEL_CHARACTERS)
    if len(name) <= most:
        return name
    return f"{name[: most - 1]}…" if most > 2 else ""  # noqa: PLR2004 - less says nothing
