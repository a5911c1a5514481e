"""How often one look finds a drift of one feature among many, at a budget of false alarms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from app.monitoring.check_request import DRIFT_SHARE, Limits, alpha_per_look
from app.monitoring.drift.column_tests import Comparison, Evidence, compare
from app.monitoring.drift.verdict import adjust
from benchmarks.drift.draws import Draw, missing, reference_of

WINDOW, REFERENCE_ROWS, FEATURES, PER_REFERENCE = 1000, 10_000, 20, 10
BUDGET = 1e-3
DEFAULT = alpha_per_look(60, 30 * 86_400) * DRIFT_SHARE


def _fall(categories: int, share: float) -> Draw:
    rest = (1 - share) / (categories - 1)
    weights = np.array([share] + [rest] * (categories - 1))
    return lambda rng, rows: rng.choice(categories, rows, p=weights).astype(np.int32)


def _normal(shift: float, scale: float = 1.0) -> Draw:
    return lambda rng, rows: rng.normal(shift, scale, rows)


def drifts() -> dict[str, tuple[Draw, Draw, float | None]]:
    """Before, after, and the power that is asked for, by name."""
    return {
        "nothing": (_normal(0.0), _normal(0.0), None),
        "0.1 sigma": (_normal(0.0), _normal(0.1), None),
        "0.15 sigma": (_normal(0.0), _normal(0.15), 58),
        "0.2 sigma": (_normal(0.0), _normal(0.2), 94),
        "0.5 sigma": (_normal(0.0), _normal(0.5), None),
        "scale x 1.2": (_normal(0.0), _normal(0.0, 1.2), 97),
        "missing 1 to 3 %": (missing(0.01), missing(0.03), 90),
        "missing 1 to 5 %": (missing(0.01), missing(0.05), None),
        "share 30 to 21 %, 2 categories": (_fall(2, 0.30), _fall(2, 0.21), 95),
        "share 30 to 21 %, 5 categories": (_fall(5, 0.30), _fall(5, 0.21), 85),
        "share 30 to 21 %, 20 categories": (_fall(20, 0.30), _fall(20, 0.21), None),
    }


def power(name: str, looks: int) -> tuple[float, float]:
    """Share of windows in which the drift is found: at the budget, and at the default configuration."""
    before, after, _ = drifts()[name]
    rng = np.random.default_rng(len(name))
    found = np.zeros(2)
    for _ in range(looks // PER_REFERENCE):
        reference = reference_of(before(rng, REFERENCE_ROWS))
        for _ in range(PER_REFERENCE):
            found += _found(compare(reference, after(rng, WINDOW)))
    return float(found[0]) / looks, float(found[1]) / looks


def _found(comparison: Comparison) -> NDArray[np.bool_]:
    """Judge it among numbers in which nothing has changed, at the budget and at the default."""
    quiet = Evidence(0.5, None, {})
    adjusted = adjust([comparison.evidence] + [quiet] * (FEATURES - 1))[0]
    material = comparison.effect >= Limits(alpha=0.0).material_psi
    return np.array([adjusted is not None and material and adjusted <= alpha for alpha in (BUDGET, DEFAULT)])


def table(results: Sequence[tuple[float, float]], looks: int) -> Iterator[str]:
    """Write the measured power as Markdown, in %."""
    yield (
        f"One look, windows of {WINDOW:,}, references of {REFERENCE_ROWS:,}, {FEATURES} features, one has moved, "
        f"{looks:,} windows a line; in %."
    )
    yield ""
    yield "| drift | one false alarm in 1,000 looks | asked for | default configuration |"
    yield "| --- | ---: | ---: | ---: |"
    for (name, (*_, asked)), (at_budget, at_default) in zip(drifts().items(), results, strict=True):
        wanted = "" if asked is None else f"{asked:g}"
        yield f"| {name} | {100 * at_budget:.1f} | {wanted} | {100 * at_default:.1f} |"
