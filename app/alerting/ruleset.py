"""The rules that hold here: the default ones, as the configuration changes them, and those of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.alerting.catalogue import feature_of, kind_of, look_up
from app.alerting.rules import CHECKS, Verdicts, severities
from app.configalerts import Rule
from app.store.alerts import SEVERITIES, Alert, Finding
from app.types import Report, Severity, Task

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
        default = [(rule, self._severity(rule, usual)) for rule, usual in severities(task).items() if self.is_on(rule)]
        return default + [(rule.name, severity) for rule in self.own for severity in _severities(rule)]

    def is_on(self, rule: str) -> bool:
        """Whether a default rule holds here."""
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
    """Judge one rule; what fires with a severity returns past its limit by the hysteresis before that ends."""
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
