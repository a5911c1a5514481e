"""How many labels a drop needs: ``python -m benchmarks.performance.labels_needed``.

Accuracy falls from 0.9 to 0.8, and nothing is drawn. A window of n labels shows the drop if its hits are few enough for
the service's own comparison with a baseline of 10,000 rows; the chance of so few hits is binomial.
"""

from __future__ import annotations

from scipy.stats import binom

from app.monitoring.check_request import PERFORMANCE_SHARE, alpha_per_look
from app.monitoring.performance.degradation import GROUPS, Margin
from app.monitoring.performance.scoring import Measured
from app.statistics.intervals import Share
from benchmarks.results.table import table

BEFORE, AFTER, BASELINE_ROWS, METRICS, POWER = 0.9, 0.8, 10_000, 11, 0.9
MONTH_S = 30 * 86_400
LOOKS = {"every minute": 60, "every hour": 3_600, "every day": 86_400}
LABELS = (50, 100, 150, *range(200, 5_001, 25))


def measured(hits: int, rows: int) -> Measured:
    """Make the accuracy of some rows."""
    return Measured(hits / rows, Share(hits, rows))


def power(rows: int, allowed: float, level: float) -> float:
    """Give the chance that a window of so many labels shows the drop, at a one-sided level."""
    baseline, margin = measured(round(BEFORE * BASELINE_ROWS), BASELINE_ROWS), Margin(-1, 1.0, allowed)
    low, high = -1, rows
    while high - low > 1:
        middle = (low + high) // 2
        found = margin.exceeded(measured(middle, rows), baseline, 1 - 2 * level)
        low, high = (middle, high) if found else (low, middle)
    return float(binom.cdf(low, rows, AFTER))


def levels() -> dict[str, float]:
    """Give the level of one metric: 1 %, and by the default budget at three paces of looks."""
    budgets = {name: alpha_per_look(every, MONTH_S) * PERFORMANCE_SHARE for name, every in LOOKS.items()}
    return {"1 %, one metric": 0.01} | {name: alpha / (GROUPS * METRICS) for name, alpha in budgets.items()}


def main() -> None:
    """Print a line for each level and allowed degradation."""
    lines = []
    for name, level in levels().items():
        for allowed in (0.0, 0.05):
            enough = next((rows for rows in LABELS if power(rows, allowed, level) >= POWER), None)
            at_200 = f"{100 * power(200, allowed, level):.1f}"
            lines.append((name, f"{allowed:g}", f"{level:.1e}", at_200, "more" if enough is None else f"{enough:,}"))
    print(table(("look", "allowed", "level", "found with 200 labels, %", "labels for 90 %"), lines))


if __name__ == "__main__":
    main()
