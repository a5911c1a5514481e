"""Rules from the configuration: the catalogue of figures, the set, and its check."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from app.alerting.rules.drift import CHECKS, OTHER_SEVERITIES, Verdicts, severities
from app.config.settings import Rule
from app.errors import ConfigError
from app.figures.drift import DRIFT_STATISTICS, DRIFT_SUMMARIES, DriftStatistic, DriftSummary
from app.figures.performance import metrics_of
from app.store.queries.alerts import SEVERITIES, Alert, Finding
from app.types import ModelSchema, Report, Severity, Task

_STATISTICS: Mapping[str, DriftStatistic] = {statistic.name: statistic for statistic in DRIFT_STATISTICS}
_SUMMARIES: Mapping[str, DriftSummary] = {f"drift.{summary.name}": summary for summary in DRIFT_SUMMARIES}
_PLACES: Mapping[str, tuple[str, ...]] = {
    "drift.share": ("drift_share",),
    "drift.judged_share": ("judged_share",),
    "drift.prediction.psi": ("prediction", "psi"),
    "drift.joint.auc": ("multivariate", "auc"),
    "data_quality.findings": ("data_quality", "findings"),
    "performance.coverage": ("realised", "coverage"),
    "performance.labelled": ("realised", "labelled"),
    "performance.value_sum": ("business", "value_sum"),
    "performance.value_mean": ("business", "value_mean"),
    "service.error_rate": ("service", "error_rate"),
    "service.p99_seconds": ("service", "p99_seconds"),
    "service.latency_p50": ("service", "p50_seconds"),
    "service.latency_p95": ("service", "p95_seconds"),
    "service.latency_p99": ("service", "p99_seconds"),
    "service.rows": ("service", "rows"),
    "service.refused": ("service", "refused"),
}
"""Where each figure stands in the body of its report."""
_FEATURE = "drift.feature."
SEGMENTED = "performance.realised."
"""The figures that are known by segment too."""


def known_figures(schema: ModelSchema) -> Iterator[str]:
    """Every figure of a model's reports."""
    yield from (*_PLACES, *_SUMMARIES)
    for feature in schema.feature_names:
        yield from (f"{_FEATURE}{feature}.{statistic}" for statistic in _STATISTICS)
    for basis in ("realised", "estimated"):
        yield from (f"performance.{basis}.{metric.name}" for metric in metrics_of(schema.task))


def kind_of(figure: str) -> str:
    """The kind of report that has a figure; data quality is judged with drift."""
    return figure.split(".", 1)[0].replace("data_quality", "drift")


def feature_of(figure: str) -> str | None:
    """The feature that a figure speaks of; its name may hold dots."""
    return figure.removeprefix(_FEATURE).rpartition(".")[0] if figure.startswith(_FEATURE) else None


def look_up(figure: str, report: Report, segment: str | None = None) -> float | None:
    """Read a figure from a report, or of one segment where one is named.

    None means that the report has none.
    """
    if figure in _SUMMARIES:
        return _SUMMARIES[figure].value_in(report.body)
    found: Any = report.body
    for key in _place(figure, segment):
        found = found.get(key) if isinstance(found, dict) else None
    return float(len(found)) if isinstance(found, list) else found


def _place(figure: str, segment: str | None) -> tuple[str, ...]:
    if figure in _PLACES:
        return _PLACES[figure]
    *_, basis, last = figure.split(".")
    feature = feature_of(figure)
    if feature is not None:
        return ("features", feature, *_STATISTICS[last].place, last)
    part = ("segments", *segment.split("=", 1)) if segment else (basis,)
    return (*part, "metrics", last, "value")


DEFAULT = "default"
_LEVELS: Mapping[str, Severity] = {"critical": "critical", "warning": "medium"}
"""Limits of a rule, the worst first, with the severity of what crosses them."""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules in force.

    Attributes:
        default: whether the default rules hold that ``changes`` does not name.
        changes: default rules that are changed, by name.
        own: rules over figures.
    """

    default: bool = True
    changes: Mapping[str, Rule] = field(default_factory=dict)
    own: Sequence[Rule] = ()

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> RuleSet:
        """The rules as they are configured."""
        own = [rule for rule in rules if rule.metric is not None]
        named = {rule.name: rule for rule in rules if rule.metric is None}
        return cls(named.pop(DEFAULT, None) is not None, named, own)

    @property
    def checks(self) -> Mapping[str, int]:
        """Checks in a row in which a rule must hold before it fires, where one is not enough."""
        chosen = {rule.name: rule.checks for rule in (*self.changes.values(), *self.own) if rule.checks is not None}
        return {**CHECKS, **chosen}

    def severities(self, task: Task) -> Sequence[tuple[str, Severity]]:
        """Every rule that may fire, with each severity that it has, known before it fires."""
        usual = [*severities(task).items(), *OTHER_SEVERITIES.items()]
        default = [(rule, self._severity(rule, severity)) for rule, severity in usual if self.is_on(rule)]
        return list(dict.fromkeys(default)) + [
            (rule.name, severity) for rule in self.own for severity in _severities(rule)
        ]

    def is_on(self, rule: str) -> bool:
        """Tell whether a default rule applies here."""
        return self.changes[rule].enabled if rule in self.changes else self.default

    def change(self, verdicts: Verdicts) -> Verdicts:
        """The verdicts of default rules as they are configured; a rule that is off does not hold."""
        return {
            rule: replace(finding, severity=self._severity(rule, finding.severity))
            if finding is not None and self.is_on(rule)
            else None
            for rule, finding in verdicts.items()
        }

    def judge(self, report: Report, before: Sequence[Alert], causes: tuple[str, ...]) -> Verdicts:
        """Judge the rules of one's own over a report; ``before`` are the open alerts of its version.

        A figure that a report does not have says nothing, but to a rule over its absence.
        """
        if report.status == "error":
            return {}
        firing = {alert.rule: alert.finding.severity for alert in before if alert.state == "firing"}
        mine = [rule for rule in self.own if kind_of(str(rule.metric)) == report.kind]
        values = [look_up(str(rule.metric), report, rule.segment) for rule in mine]
        return {
            rule.name: _judge(rule, value, firing.get(rule.name), causes)
            for rule, value in zip(mine, values, strict=True)
            if value is not None or rule.comparison == "absent"
        }

    def _severity(self, rule: str, usual: Severity) -> Severity:
        return (self.changes[rule].severity if rule in self.changes else None) or usual


def _severities(rule: Rule) -> list[Severity]:
    if rule.comparison == "absent":
        return [rule.severity or "critical"]
    return [severity for level, severity in _LEVELS.items() if getattr(rule, level) is not None]


def _judge(rule: Rule, value: float | None, firing: Severity | None, causes: tuple[str, ...]) -> Finding | None:
    """Judge one rule.

    A firing rule ends only when the figure is past its limit by the hysteresis.
    """
    about = f"{rule.metric} where {rule.segment.replace('=', ' = ', 1)}" if rule.segment else str(rule.metric)
    named = feature_of(str(rule.metric))
    causes = causes if named is None else (named,)
    if value is None:
        return Finding(_severities(rule)[0], None, None, f"the report has no {about}", causes)
    if rule.comparison == "absent":
        return None
    side, sign = ("above", 1) if rule.comparison == "greater" else ("below", -1)
    for level, severity in _LEVELS.items():
        limit: float | None = getattr(rule, level)
        held = firing is not None and SEVERITIES.index(firing) <= SEVERITIES.index(severity)
        if limit is not None and sign * (value - limit) > (-rule.hysteresis if held else 0):
            beyond = f"{side} its limit {limit:.4g}" if sign * (value - limit) > 0 else f"hardly back at {limit:.4g}"
            return Finding(severity, value, limit, f"{about} is {value:.4g}, {beyond}", causes)
    return None


def rule_set(rules: Sequence[Rule], schema: ModelSchema, segments: Collection[str]) -> RuleSet:
    """The configured rules over the reports of a model, by these segments.

    Raises:
        ConfigError: a name is not known, or given twice.
    """
    default = {name for task in Task for name in severities(task)}
    figures = set(known_figures(schema))
    found = [
        f"alerts.rules.{place}.{problem}"
        for place, rule in enumerate(rules)
        for problem in _problems(rule, [other.name for other in rules[:place]], default, figures, segments)
    ]
    if found:
        raise ConfigError("\n".join(found))
    return RuleSet.of(rules)


def _problems(
    rule: Rule, before: Collection[str], default: set[str], figures: set[str], segments: Collection[str]
) -> Iterator[str]:
    if rule.name in before:
        yield f"name: {rule.name} is there twice"
    if rule.metric is None:
        if rule.name not in default | {DEFAULT}:
            hint = _nearest(rule.name, default | {DEFAULT})
            yield f"name: no default rule is called {rule.name}{hint}; a rule of your own needs a metric"
        return
    if rule.name in default | {DEFAULT}:
        yield f"name: {rule.name} is a default rule; choose another name for a rule of your own"
    if rule.metric not in figures:
        yield f"metric: the reports have no {rule.metric}{_nearest(rule.metric, figures)}"
    if rule.segment is not None:
        name = rule.segment.split("=", 1)[0]
        if not rule.metric.startswith(SEGMENTED):
            yield f"segment: only {SEGMENTED}… is known by segment"
        elif name not in segments:
            yield f"segment: performance.segments does not name {name}{_nearest(name, segments)}"


def _nearest(name: str, known: Collection[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
