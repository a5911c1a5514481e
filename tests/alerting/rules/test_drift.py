"""The rules on report bodies."""

from __future__ import annotations

from typing import Any

import pytest

from app.alerting.rules.drift import judge_check, judge_drift, severities
from app.alerting.rules.performance import judge_coverage, judge_performance, judge_segments
from app.alerting.rules.service import judge_service
from app.store.queries.alerts import SEVERITIES
from app.types import Micros, Report, Task
from tests.support.alerting.reports import covered, drift_body, estimated_body, performance_body, service_body


def judged(body: Any, share: float = 0.3) -> dict[str, Any]:
    """The verdicts on a drift report."""
    return judge_drift(Task.BINARY, body, retrain_share=share)


def report(kind: str, status: str, body: Any) -> Report:
    """A stored report."""
    return Report("r", kind, "m", "1", Micros(0), status, body)


def test_degraded_accuracy_is_critical() -> None:
    """Accuracy below its limit fires accuracy_drop, with the three features of largest impact as causes."""
    drift = drift_body({"a": 0.1, "b": 0.4, "c": 0.2, "d": 0.3})

    found = judge_performance(Task.BINARY, performance_body(accuracy="degraded", f1="degraded"), drift)

    drop = found["accuracy_drop"]
    assert drop is not None
    assert (drop.severity, drop.value, drop.limit, drop.causes) == ("critical", 0.84, 0.9, ("b", "d", "c"))
    assert drop.message == (
        "accuracy 0.84 [0.81, 0.87] is below its limit 0.9, baseline 0.95, over 830 labelled rows; degraded too: f1"
    )
    assert found["metrics_drop"] is None


def test_another_degraded_metric_is_high() -> None:
    """Recall that fell while accuracy holds fires metrics_drop alone: where positives are rare, it matters most."""
    found = judge_performance(Task.BINARY, performance_body(accuracy="ok", recall="degraded"), None)

    assert found["accuracy_drop"] is None
    assert found["metrics_drop"] is not None
    assert found["metrics_drop"].severity == "high"


def test_an_alert_keeps_its_name_while_other_metrics_recover() -> None:
    """Accuracy is well again before recall: the alert on the same cause goes on, less severe, and no new one begins."""
    body = performance_body(accuracy="ok", recall="degraded")
    body["realised"]["metrics"]["recall"] |= {"value": 0.93, "last_degraded_at": "2026-11-30T09:09:54Z"}

    found = judge_performance(Task.BINARY, body, None, open_rules={"accuracy_drop"})

    assert found["metrics_drop"] is None
    assert found["accuracy_drop"] is not None
    assert found["accuracy_drop"].severity == "high"
    assert found["accuracy_drop"].message.startswith(
        "recall 0.93 [0.81, 0.87] is within its limit 0.9, baseline 0.95, and was below it until 2026-11-30T09:09:54Z"
    )


def test_regression_is_judged_by_its_error() -> None:
    """In regression the mean absolute error is the main metric, and worse is above its limit."""
    found = judge_performance(Task.REGRESSION, performance_body(mae="degraded", r2="ok"), None)

    assert found["mae_drop"] is not None
    assert "mae 0.84 [0.81, 0.87] is above its limit" in found["mae_drop"].message


@pytest.mark.parametrize("status", ["ok", "improved"])
def test_good_performance_resolves(status: str) -> None:
    """A metric that holds, or is better than its baseline, is judged and found well."""
    assert judge_performance(Task.BINARY, performance_body(accuracy=status), None) == {
        "accuracy_drop": None,
        "metrics_drop": None,
        "unknown_class": None,
    }


@pytest.mark.parametrize(
    "body",
    [
        {"status": "error", "errors": [{"feature": None, "reason": "no memory"}]},
        performance_body(accuracy="insufficient_data"),
        performance_body(),
        drift_body({}, features={}, prediction=None, data_quality={"status": "insufficient_data", "findings": []}),
    ],
)
def test_too_little_data_judges_nothing(body: Any) -> None:
    """A failed check, or one with too little data, has no verdict on any rule."""
    assert judge_performance(Task.BINARY, body, None) == {}
    assert judged(body) == {}


@pytest.mark.parametrize(
    ("drifted", "among", "rule"),
    [
        (1, 10, "feature_drift"),
        (2, 10, "feature_drift"),
        (3, 10, "drift_many"),
        (3, 100, "drift_many"),
        (1, 4, "feature_drift"),
        (2, 4, "drift_many"),
        (1, 1, "drift_many"),
    ],
)
def test_many_features_outrank_few(drifted: int, among: int, rule: str) -> None:
    """Three features, or the share for retraining, fire drift_many; fewer fire feature_drift; never both."""
    names = {f"f{place}": 0.1 + place for place in range(drifted)}

    found = judged(drift_body(names, among=among))

    assert [name for name, finding in found.items() if finding] == [rule]
    assert found[rule].severity == severities(Task.BINARY)[rule]


def test_no_drift_is_a_verdict() -> None:
    """A stable report judges all its rules and finds nothing."""
    rules = ("drift_many", "feature_drift", "prediction_drift", "data_quality", "traffic_drop")
    assert judged(drift_body({})) == dict.fromkeys(rules)


def test_drift_of_the_probability_counts_as_prediction_drift() -> None:
    """Predictions that hold still while their probabilities move fire prediction_drift with the larger impact."""
    prediction = {"status": "stable", "impact": 0.0, "probability": {"status": "drift", "impact": 0.3}}

    found = judged(drift_body({"a": 0.2}, prediction=prediction))["prediction_drift"]

    assert (found.severity, found.value, found.limit, found.causes) == ("medium", 0.3, 0.01, ("a",))


def test_joint_drift_speaks_where_no_feature_does() -> None:
    """A combination that changed fires joint_drift by itself; where a feature drifted too, that is said once."""
    parts = [{"feature": name, "share": 0.3} for name in ("a", "b", "c", "d")]
    joint = {"status": "drift", "auc": 0.71, "material_auc": 0.55, "features": parts}
    alone, beside = (judged(drift_body(drifted, multivariate=joint)) for drifted in ({}, {"a": 0.2}))

    found = alone["joint_drift"]
    assert (found.severity, found.value, found.limit, found.causes) == ("medium", 0.71, 0.55, ("a", "b", "c"))
    assert "AUC of 0.71, limit 0.55, most of all by a, b, c and 1 more" in found.message
    assert (beside["joint_drift"], beside["feature_drift"] is None) == (None, False)
    assert judged(drift_body({}, multivariate={"status": "stable"}))["joint_drift"] is None
    assert "joint_drift" not in judged(drift_body({}, multivariate={"status": "insufficient_data"}))


def test_joint_drift_that_goes_on_says_that_features_drifted_too() -> None:
    """An alert that was open before does not go on saying that no feature drifted."""
    joint = {"status": "drift", "auc": 0.71, "material_auc": 0.55, "features": [{"feature": "a", "share": 0.3}]}
    body = drift_body({"a": 0.2}, multivariate=joint)

    found = judge_drift(Task.BINARY, body, retrain_share=0.3, open_rules={"joint_drift"})["joint_drift"]

    assert found is not None
    assert found.message.startswith("features drifted, and their combination did:")


def test_withheld_predictions_are_not_judged() -> None:
    """Where the reference is in-sample, the drift of predictions is withheld and its alert left as it is."""
    withheld = {"status": "withheld", "probability": {"status": "withheld"}}

    assert "prediction_drift" not in judged(drift_body({}, prediction=withheld))


def test_traffic_that_drops_is_not_broken_input() -> None:
    """Rows that do not come have a rule of their own, beside the findings about those that do."""
    findings = [
        {"feature": "age", "kind": "constant", "value": 1.0, "limit": 0.1, "message": "stands still"},
        {"feature": None, "kind": "traffic", "value": 0.7, "limit": 0.5, "message": "70 % fewer rows"},
    ]

    found = judged(drift_body({}, data_quality={"status": "warning", "findings": findings}))

    assert (found["data_quality"].message, found["data_quality"].causes) == ("age: stands still", ("age",))
    assert (found["traffic_drop"].message, found["traffic_drop"].value) == ("70 % fewer rows", 0.7)


def test_one_cause_is_one_alert() -> None:
    """An imbalance of the answers is no second alert beside the drift of the same answers; alone it is one."""
    imbalance = {"feature": None, "kind": "class_imbalance", "value": 0.9, "limit": 0.7, "message": "90 % are good"}
    quality = {"status": "warning", "findings": [imbalance]}
    drifted = {"status": "drift", "impact": 0.4, "probability": None}

    assert judge_drift(Task.BINARY, drift_body({}, data_quality=quality), retrain_share=0.3)["data_quality"]
    beside = judge_drift(Task.BINARY, drift_body({}, data_quality=quality, prediction=drifted), retrain_share=0.3)
    assert beside["prediction_drift"]
    assert beside["data_quality"] is None


def test_data_quality_names_the_worst_finding() -> None:
    """The finding that exceeds its limit most speaks for the others, and the features in them are the causes."""
    findings = [
        {"feature": "age", "kind": "missing_share", "value": 0.05, "limit": 0.03, "message": "5 % are missing"},
        {"feature": "income", "kind": "missing_share", "value": 0.5, "limit": 0.03, "message": "50 % are missing"},
        {"feature": None, "kind": "duplicates", "value": 0.2, "limit": 0.1, "message": "20 % repeat"},
    ]

    found = judged(drift_body({}, data_quality={"status": "warning", "findings": findings}))["data_quality"]

    assert (found.value, found.limit, found.causes) == (0.5, 0.03, ("income", "age"))
    assert found.message == "income: 50 % are missing; and 2 more findings"


@pytest.mark.parametrize("task", Task)
def test_every_rule_has_a_known_severity(task: Task) -> None:
    """Each rule that can fire is known from the start, with one of the four severities."""
    known = severities(task)
    body = performance_body(accuracy="degraded", mae="degraded") | estimated_body(accuracy="ok", mae="ok")
    drift = drift_body({}, multivariate={"status": "stable"}, unjudged=[], window={"to": "2026-11-30T12:00:00Z"})
    found = judge_drift(task, drift, retrain_share=0.3) | judge_performance(task, body, None)
    segments: Any = {"segments": {"channel": {"web": {"status": "ok", "labelled": 80, "metrics": {}}}}}
    found |= judge_segments(task, segments, None)
    found |= judge_coverage("medium", covered(0.9), [covered(0.9)])
    found |= judge_check(report("drift", "drift", {})) | judge_check(report("performance", "ok", {}))
    found |= judge_service(service_body([]))

    assert set(found) == set(known)
    assert set(known.values()) <= set(SEVERITIES)


@pytest.mark.parametrize(
    ("realised", "severity"),
    [({}, "high"), ({"accuracy": "insufficient_data"}, "high"), ({"accuracy": "ok"}, "medium")],
)
def test_an_estimate_is_believed_until_outcomes_contradict_it(realised: dict[str, str], severity: str) -> None:
    """A degraded estimate is high without outcomes, and medium where those that came say that the model holds."""
    body = performance_body(**realised) | estimated_body(accuracy="degraded")

    found = judge_performance(Task.BINARY, body, drift_body({"a": 0.1}))["estimated_drop"]

    assert found is not None
    assert (found.severity, found.value, found.limit, found.causes) == (severity, 0.84, 0.9, ("a",))
    assert found.message.startswith("estimated accuracy 0.84 [0.81, 0.87] is below its limit 0.9, baseline 0.95, over")
    assert ("contradict" in found.message) == (severity == "medium")


def test_realised_performance_speaks_for_the_estimate() -> None:
    """Once outcomes show the drop that was estimated, accuracy_drop is the one alert."""
    body = performance_body(accuracy="degraded") | estimated_body(accuracy="degraded")

    found = judge_performance(Task.BINARY, body, None)

    assert [rule for rule, finding in found.items() if finding] == ["accuracy_drop"]
    assert found["estimated_drop"] is None


def test_every_estimated_metric_can_raise_the_alert() -> None:
    """Where the estimate of another metric than the main one is degraded, the alert says which, at medium."""
    body = performance_body() | estimated_body(accuracy="ok", roc_auc="degraded", recall="degraded")

    found = judge_performance(Task.BINARY, body, None)["estimated_drop"]

    assert found is not None
    assert found.severity == "medium"
    assert found.message.startswith("estimated roc_auc 0.84")
    assert "degraded too: recall" in found.message


def test_other_metrics_are_judged_where_the_main_one_is_withheld() -> None:
    """Outcomes that do not tell accuracy, but tell a lost precision, raise the alert on other metrics."""
    body = performance_body(accuracy="insufficient_data", precision="degraded")

    found = judge_performance(Task.BINARY, body, None)

    assert found["metrics_drop"] is not None
    assert "accuracy_drop" not in found


@pytest.mark.parametrize(("coverage", "holds"), [(0.39, True), (0.41, False), (0.9, False)])
def test_labels_that_stay_away_are_a_finding(coverage: float, *, holds: bool) -> None:
    """Label coverage below half of the best at the same hour before is found; smaller falls are not."""
    found = judge_coverage("medium", covered(coverage), [covered(0.1), covered(0.8), covered(None)])["label_coverage"]

    assert (found is not None) == holds
    assert found is None or (found.value, found.limit) == (coverage, 0.4)


@pytest.mark.parametrize(
    ("now", "before"), [(0.1, []), (0.1, [None]), (0.1, [0.0]), (None, [0.8])], ids=["first", "none", "zero", "young"]
)
def test_coverage_without_comparison_is_not_judged(now: float | None, before: list[float | None]) -> None:
    """Windows whose labels are still to come, and services without a past, have no verdict on coverage."""
    assert judge_coverage("medium", covered(now), list(map(covered, before))) == {}


def without_verdict(since: str, *, count: int = 1) -> dict[str, Any]:
    """A drift report of five features, of which some have had no verdict since a moment."""
    unjudged = [{"feature": f"x{place}", "because": "few", "since": since} for place in range(count)]
    features = {f"x{place}": {"status": "stable"} for place in range(5)}
    window = {"to": "2026-11-30T12:00:00Z"}
    return {"features": features, "drifted_features": [], "unjudged": unjudged, "window": window}


@pytest.mark.parametrize(
    ("since", "count", "fires"),
    [("2026-11-29T12:00:00Z", 1, True), ("2026-11-30T11:00:00Z", 5, False), ("2026-11-29T12:00:00Z", 0, False)],
)
def test_features_without_a_verdict_for_a_day_are_told(since: str, count: int, fires: bool) -> None:
    """The rule fires where a tenth of the features or more have had no verdict for a day, and not before."""
    found = judged(without_verdict(since, count=count))["unjudged_features"]

    assert (found is not None) == fires
    if found is not None:
        assert (found.severity, found.value, found.limit, found.causes) == ("low", 0.8, 0.9, ("x0",))
        assert "1 of 5 features have had no drift verdict for a day: x0" in found.message
