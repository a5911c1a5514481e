"""Rules of one's own, and default rules as they are configured."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from app.alerting.rules.configured import RuleSet, known_figures, look_up, rule_set
from app.alerting.rules.drift import OTHER_SEVERITIES, severities
from app.config.settings import Alerts, Rule
from app.errors import ConfigError
from app.figures.drift import DRIFT_STATISTICS
from app.figures.performance import metrics_of
from app.monitoring.performance.metrics import metrics
from app.store.queries.alerts import Alert, Finding
from app.types import Feature, FeatureType, Json, Micros, ModelSchema, Report, Severity, Task
from tests.support.alerting.reports import drift_body, performance_body
from tests.support.processes import ROOT

DOCUMENTED = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")

SCHEMA = ModelSchema(
    "m",
    "1",
    Task.BINARY,
    (Feature("a", FeatureType.NUMERIC), Feature("b.c", FeatureType.NUMERIC)),
    ("no", "yes"),
    "yes",
)
SHARE = {"name": "mine", "metric": "drift.share", "warning": 0.2, "critical": 0.4, "hysteresis": 0.05}


def rules(*items: object) -> RuleSet:
    """The rules of a configuration over a model with the segment ``channel``."""
    return rule_set(Alerts.model_validate({"rules": items}).rules, SCHEMA, ("channel",))


def report(kind: str = "drift", status: str = "stable", **body: Any) -> Report:
    """A report."""
    cut: Any = body
    return Report("r", kind, "m", "1", Micros(1), status, cut)


def firing(severity: Severity) -> list[Alert]:
    """The rule ``mine`` fires."""
    return [Alert("a", "mine", "m", "1", "firing", Finding(severity, 0, 0, ""), Micros(0), Micros(0), 1, "r")]


def judged(item: Json, found: Report, before: list[Alert] | None = None) -> Any:
    """The verdict on one rule of one's own; ``KeyError`` where there is none."""
    return rules(item).judge(found, before or [], ("a",))["mine"]


@pytest.mark.parametrize(("share", "severity"), [(0.2, None), (0.21, "medium"), (0.4, "medium"), (0.41, "critical")])
def test_a_rule_crosses_its_limits(share: float, severity: str | None) -> None:
    """Beyond warning is medium, beyond critical is critical; at a limit it has not been crossed."""
    found = judged(SHARE, report(drift_share=share))

    assert (found and found.severity) == severity


@pytest.mark.parametrize(
    ("before", "share", "severity"),
    [
        ("medium", 0.16, "medium"),
        ("medium", 0.14, None),
        ("medium", 0.37, "medium"),
        ("critical", 0.37, "critical"),
        ("critical", 0.34, "medium"),
        ("critical", 0.16, "medium"),
        ("critical", 0.14, None),
    ],
)
def test_a_firing_rule_has_to_return_past_its_limit(before: Severity, share: float, severity: str | None) -> None:
    """Each severity lasts until the figure has come back by the hysteresis; what does not fire has no such grace."""
    found = judged(SHARE, report(drift_share=share), firing(before))

    assert (found and found.severity) == severity
    assert judged(SHARE, report(drift_share=0.16)) is None


def test_a_finding_says_what_it_has_found() -> None:
    """Figure, value and limit stand in the message; a figure of one feature names this feature as its cause."""
    rule = {"name": "mine", "metric": "drift.feature.b.c.psi", "critical": 0.25}
    found = judged(rule, report(features={"b.c": {"psi": 0.31}}))

    assert (found.message, found.causes) == ("drift.feature.b.c.psi is 0.31, above its limit 0.25", ("b.c",))
    assert (found.value, found.limit) == (0.31, 0.25)


def test_below_a_limit_by_segment() -> None:
    """A rule over one segment's rows reads this segment's figure, and no other."""
    rule = {"name": "mine", "metric": "performance.realised.accuracy", "comparison": "less", "warning": 0.9}
    segment = performance_body(accuracy="ok")["realised"]
    body: Json = {"realised": {"metrics": {"accuracy": {"value": 0.95}}}, "segments": {"channel": {"web": segment}}}

    found = judged(rule | {"segment": "channel=web"}, report("performance", **body))

    assert found.message == "performance.realised.accuracy where channel = web is 0.84, below its limit 0.9"
    assert judged(rule, report("performance", **body)) is None


def test_absence() -> None:
    """A rule over absence holds while the report has no such figure, and any figure ends it."""
    rule = {"name": "mine", "metric": "performance.coverage", "comparison": "absent", "severity": "high"}

    assert judged(rule, report("performance")).severity == "high"
    assert rules(rule).judge(report("performance", "error"), [], ()) == {}
    assert judged(rule, report("performance", realised={"coverage": 0.0})) is None


@pytest.mark.parametrize("found", [report(), report("performance", drift_share=0.9), report(status="error")])
def test_a_figure_that_is_not_there_is_not_judged(found: Report) -> None:
    """A report of another kind, one that failed, or one without the figure, changes no rule over it."""
    assert rules(SHARE).judge(found, [], ()) == {}


def test_default_rules_are_changed_by_name() -> None:
    """One may be switched off, another get other checks and another severity; the rest stays as it is."""
    chosen = rules(
        "default",
        {"name": "feature_drift", "enabled": False},
        {"name": "drift_many", "severity": "low", "for": 3},
        SHARE,
    )
    found = Finding("high", 3, 3, "many")

    verdicts = chosen.change({"drift_many": found, "feature_drift": found, "joint_drift": found})

    assert {rule: finding and finding.severity for rule, finding in verdicts.items()} == {
        "drift_many": "low",
        "feature_drift": None,
        "joint_drift": "high",
    }
    assert (chosen.checks["drift_many"], chosen.checks["estimated_drop"]) == (3, 2)
    known = chosen.severities(Task.BINARY)
    assert set(severities(Task.BINARY)) - {name for name, _ in known} == {"feature_drift"}
    assert known[-2:] == [("mine", "critical"), ("mine", "medium")]


def test_rules_may_be_chosen_one_by_one() -> None:
    """Without ``default``, what is named holds and nothing else; ``rules: default`` is all of them."""
    assert rules("data_quality").severities(Task.BINARY) == [("data_quality", "medium")]
    usual, others = severities(Task.BINARY).items(), OTHER_SEVERITIES.items()
    assert RuleSet.of(Alerts().rules).severities(Task.BINARY) == [*usual, *others]
    assert Alerts.model_validate({"rules": "default"}) == Alerts()


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("acuracy_drop", "name: no default rule is called acuracy_drop; did you mean accuracy_drop?"),
        (SHARE | {"metric": "drift.shre"}, "metric: the reports have no drift.shre; did you mean drift.share?"),
        (SHARE | {"metric": "drift.feature.b.psi"}, "did you mean drift.feature.b.c.psi?"),
        (SHARE | {"metric": "performance.realised.mae"}, "metric: the reports have no performance.realised.mae"),
        (SHARE | {"name": "data_quality"}, "name: data_quality is a default rule; choose another name"),
        (SHARE | {"segment": "channel=web"}, "segment: only performance.realised.… is known by segment"),
        (
            SHARE | {"metric": "performance.realised.f1", "segment": "chanel=web"},
            "segment: performance.segments does not name chanel; did you mean channel?",
        ),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(item: object, expected: str) -> None:
    """A name that no report knows fails the start, and the error says which one was probably meant."""
    with pytest.raises(ConfigError, match=r"^alerts\.rules\.1\.") as caught:
        rules("default", item)

    assert expected in str(caught.value)


def test_all_wrong_names_are_said_at_once() -> None:
    """Two errors are two lines; the same name twice is one."""
    with pytest.raises(ConfigError) as caught:
        rules(SHARE, SHARE, "feature_drfit")

    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "alerts.rules.1.name",
        "alerts.rules.2.name",
    ]


@pytest.mark.parametrize(
    "item",
    [
        {"name": "mine", "warning": 0.5},
        {"name": "default", "enabled": False},
        SHARE | {"warning": 0.5},
        SHARE | {"comparison": "less"},
        SHARE | {"comparison": "absent"},
        SHARE | {"enabled": False},
        SHARE | {"severity": "low"},
        {"name": "mine", "metric": "drift.share"},
        {"name": "Mine"},
        SHARE | {"for": 0},
        SHARE | {"hysteresis": -0.1},
        SHARE | {"warning": float("nan")},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(item: Json) -> None:
    """Limits without a figure or in the wrong order, a default rule's keys on another: the configuration is wrong."""
    with pytest.raises(ValidationError):
        Rule.model_validate(item)


def test_the_examples_of_the_documentation() -> None:
    """Each is a configuration over a model with these names."""
    examples = re.findall(r"```yaml\n(.*?)```", DOCUMENTED, re.DOTALL)
    names = ("income", "channel", "mean_texture")
    features = tuple(Feature(name, FeatureType.NUMERIC) for name in names)
    chosen = [Alerts.model_validate(yaml.safe_load(example)["alerts"]).rules for example in examples]

    found = [rule_set(rules, replace(SCHEMA, features=features), ("channel",)) for rules in chosen]

    assert [[rule.name for rule in rules.own] for rules in found] == [
        ["texture_moves"],
        ["income_moves", "web_is_right", "no_outcomes"],
    ]


@pytest.mark.parametrize("task", Task)
def test_every_figure_is_documented(task: Task) -> None:
    """The documentation names each figure that a rule can watch: metrics and statistics in their families' lines."""
    for figure in known_figures(replace(SCHEMA, task=task)):
        family, _, last = figure.rpartition(".")
        assert f"`{figure}`" in DOCUMENTED or (f"`{last}`" in DOCUMENTED or f"NAME.{last}`" in DOCUMENTED), family


@pytest.mark.parametrize("task", Task)
def test_every_known_figure_can_be_looked_up(task: Task) -> None:
    """Whatever is offered has a place in its report, and reads a number from it."""
    schema = ModelSchema("m", "1", task, SCHEMA.features, ("no", "yes"))
    statistics = {statistic.name: 1.0 for statistic in DRIFT_STATISTICS if not statistic.place}
    feature = statistics | {"current": {"missing_share": 1.0}}
    measured = {"metrics": {metric.name: {"value": 1.0} for metric in metrics_of(task)}}
    figures = ("error_rate", "p50_seconds", "p95_seconds", "p99_seconds", "rows", "refused")
    body: Json = drift_body({}, features={"a": feature, "b.c": feature}, drift_share=1.0, prediction=feature) | {
        "drifted_features": ["a"],
        "judged_share": 1.0,
        "multivariate": {"auc": 1.0},
        "data_quality": {"findings": [{}]},
        "realised": measured | {"coverage": 1.0, "labelled": 1},
        "estimated": measured,
        "business": {"value_sum": 1.0, "value_mean": 1.0},
        "service": dict.fromkeys(figures, 1.0),
    }

    assert {look_up(figure, report(**body)) for figure in known_figures(schema)} == {1.0}


@pytest.mark.parametrize("task", Task)
def test_the_metrics_are_those_of_the_monitor(task: Task) -> None:
    """The metrics that rules know are those that a performance report has."""
    classes = ("no", "yes", "maybe")[: 3 if task is Task.MULTICLASS else 2]
    schema = ModelSchema("m", "1", task, (), classes, "yes")
    outcomes = np.arange(6) % len(classes)
    chances = np.full((6, len(classes)), 1 / len(classes))

    assert tuple(metrics(schema, outcomes, outcomes, chances)) == tuple(metric.name for metric in metrics_of(task))
