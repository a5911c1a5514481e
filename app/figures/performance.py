"""The table of performance metrics: each metric that a performance report can have.

It is the one list of its kind: realised and estimated performance, degradation, ``/metrics``, the rules, the report
page and ``docs/performance.md`` read it, and ``tests/figures`` fails where an entry is missing in one of them.
The functions stand in ``app/monitoring/performance``, since the serving process reads this table and never loads SciPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

TaskName: TypeAlias = Literal["binary", "multiclass", "regression"]
"""A member of :class:`app.types.Task`; that module stands above this one."""


class PerformanceMetric(NamedTuple):
    """A metric of a model's performance.

    Attributes:
        name: its key under ``metrics`` in a performance report, and the label ``metric`` of ``ml_model_performance``.
        tasks: the tasks that have it.
        description: one sentence for the documentation and the report page.
        unit: what its value counts.
        better: which values are better; ``zero`` is worse to either side of the baseline.
        limit: what ``performance.degradation`` is a part of: points of the metric itself, a share of its baseline, or
            a share of the baseline's mean absolute error.
        needs_probabilities: whether it is missing where the model gives none.
        is_estimated: whether it is estimated before the outcomes come.
    """

    name: str
    tasks: tuple[TaskName, ...]
    description: str
    unit: str
    better: Literal["higher", "lower", "zero"] = "higher"
    limit: Literal["points", "share of the baseline", "share of the baseline's MAE"] = "points"
    needs_probabilities: bool = False
    is_estimated: bool = True

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.unit == "share"

    @property
    def tests(self) -> int:
        """Count its tests in the false-alarm budget: one for each side on which it can be worse."""
        return 2 if self.better == "zero" else 1


TARGET_UNIT = "the target's unit"
CLASSES: tuple[TaskName, ...] = ("binary", "multiclass")
NUMBER: tuple[TaskName, ...] = ("regression",)

PERFORMANCE_METRICS = (
    PerformanceMetric("accuracy", CLASSES, "The share of rows whose predicted class came true.", "share"),
    PerformanceMetric(
        "precision", CLASSES, "Of the rows predicted as the positive class, the share that were of it.", "share"
    ),
    PerformanceMetric("recall", CLASSES, "Of the rows of the positive class, the share predicted as it.", "share"),
    PerformanceMetric(
        "specificity", CLASSES, "Of the rows not of the positive class, the share not predicted as it.", "share"
    ),
    PerformanceMetric("f1", CLASSES, "The harmonic mean of precision and recall.", "share"),
    PerformanceMetric(
        "balanced_accuracy", CLASSES, "The mean recall of the classes that occur, each counting alike.", "share"
    ),
    PerformanceMetric(
        "roc_auc",
        CLASSES,
        "The chance that a row of the class is scored above a row of another one.",
        "share",
        needs_probabilities=True,
    ),
    PerformanceMetric(
        "average_precision",
        CLASSES,
        "The area under the precision-recall curve, by steps.",
        "share",
        needs_probabilities=True,
    ),
    PerformanceMetric(
        "log_loss",
        CLASSES,
        "The mean negative logarithm of the probability of the class that came.",
        "nats",
        better="lower",
        limit="share of the baseline",
        needs_probabilities=True,
    ),
    PerformanceMetric(
        "brier",
        CLASSES,
        "The mean squared distance of the probabilities from what came.",
        "squared probability",
        better="lower",
        limit="share of the baseline",
        needs_probabilities=True,
    ),
    PerformanceMetric(
        "calibration_error",
        CLASSES,
        "The mean gap between the share promised and the share that came, over ten bins of equal counts.",
        "share",
        better="lower",
        needs_probabilities=True,
        is_estimated=False,
    ),
    PerformanceMetric(
        "mae",
        NUMBER,
        "The mean absolute error.",
        TARGET_UNIT,
        better="lower",
        limit="share of the baseline",
    ),
    PerformanceMetric(
        "rmse",
        NUMBER,
        "The root of the mean squared error.",
        TARGET_UNIT,
        better="lower",
        limit="share of the baseline",
    ),
    PerformanceMetric(
        "mape",
        NUMBER,
        "The mean absolute error as a share of the outcome.",
        "share of the outcome",
        better="lower",
        limit="share of the baseline",
    ),
    PerformanceMetric(
        "r2",
        NUMBER,
        "The share of the outcomes' variance that is explained.",
        "share of the variance",
        is_estimated=False,
    ),
    PerformanceMetric(
        "bias",
        NUMBER,
        "The mean of prediction minus outcome.",
        TARGET_UNIT,
        better="zero",
        limit="share of the baseline's MAE",
    ),
)
METRIC: Mapping[str, PerformanceMetric] = {metric.name: metric for metric in PERFORMANCE_METRICS}
"""Each metric by its name."""


def metrics_of(task: str) -> tuple[PerformanceMetric, ...]:
    """List the metrics of a task.

    >>> [metric.name for metric in metrics_of("regression")]
    ['mae', 'rmse', 'mape', 'r2', 'bias']
    """
    return tuple(metric for metric in PERFORMANCE_METRICS if task in metric.tasks)
