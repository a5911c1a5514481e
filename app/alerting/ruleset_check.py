"""What is wrong with configured rules, all at once: names that a model's reports do not know, with the nearest one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence

from app.alerting.catalogue import SEGMENTED, known_figures
from app.alerting.rules import severities
from app.alerting.ruleset import DEFAULT, RuleSet
from app.configalerts import Rule
from app.errors import ConfigError
from app.types import ModelSchema, Task


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
