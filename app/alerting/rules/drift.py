"""Rules on drift reports, as pure functions of the report's body."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

from app.reports.drift import Accepted, Column, DriftReport, QualityFinding, UnjudgedFeature
from app.reports.performance import PerformanceReport
from app.store.queries.alerts import Finding
from app.types import Report, Severity, Task

MANY_FEATURES = 3
"""Drifted features from which the model's world, rather than one of its inputs, has changed."""
MAX_CAUSES = 3
MIN_JUDGED_SHARE = 0.9
"""Share of the features with a verdict below which people are told, once it has lasted a day."""
UNJUDGED_FOR = timedelta(days=1)
MAIN_METRIC = {Task.BINARY: "accuracy", Task.MULTICLASS: "accuracy", Task.REGRESSION: "mae"}
OF_FEATURES = ("drift_many", "feature_drift")
"""Rules on the number of drifted features; at most one has an open alert."""
OTHER_SEVERITIES: Mapping[str, Severity] = {"drift_many": "low", "feature_drift": "high", "estimated_drop": "medium"}
"""Severities that default rules have beside their usual one."""
TRAFFIC = ("traffic", "freshness")
"""Kinds of data quality findings that are about rows that do not come."""
CHECKS: Mapping[str, int] = {
    "estimated_drop": 2,
    "error_rate": 2,
    "latency": 2,
    "label_coverage": 3,
    "drift_check_failing": 3,
    "performance_check_failing": 3,
}
"""Checks in a row in which a rule must hold before it fires, where one is not enough."""

Verdicts = dict[str, Finding | None]
"""Judged rule -> its finding, or None where it does not hold; a rule that could not be judged is not in it."""


def severities(task: Task) -> Mapping[str, Severity]:
    """Give every rule for a task with its severity.

    ``estimated_drop`` is milder where outcomes contradict it.
    """
    return {
        f"{MAIN_METRIC[task]}_drop": "critical",
        "error_rate": "critical",
        "store_unreachable": "critical",
        "no_check": "critical",
        "drift_check_failing": "critical",
        "performance_check_failing": "critical",
        "metrics_drop": "high",
        "estimated_drop": "high",
        **({} if task is Task.REGRESSION else {"unknown_class": "high"}),
        "segment_drop": "high",
        "rolled_back": "high",
        "drift_many": "high",
        "prediction_drift": "medium",
        "joint_drift": "medium",
        "latency": "medium",
        "traffic_drop": "medium",
        "data_quality": "medium",
        "label_coverage": "medium",
        "feature_drift": "low",
        "unjudged_features": "low",
    }


def held(body: DriftReport | PerformanceReport | None) -> frozenset[str]:
    """Give the keys of what was accepted as the new normal, and is as it was then."""
    return _accepted(body, "held")


def beyond_accepted(body: DriftReport | PerformanceReport, *keys: str) -> str:
    """Say of a finding that it is worse than a state that was accepted; else nothing."""
    exceeded = _accepted(body, "exceeded")
    return "; worse than the state that was accepted" if exceeded.intersection(keys) else ""


def _accepted(body: DriftReport | PerformanceReport | None, status: str) -> frozenset[str]:
    known: Sequence[Accepted] = body.get("accepted", []) if body else []
    return frozenset(part["what"] for each in known for part in each["parts"] if part["status"] == status)


def quality_key(finding: QualityFinding) -> str:
    """Give the key of a finding among what can be accepted."""
    return f"quality:{finding['feature'] or 'all rows'}:{finding.get('check', finding['kind'])}"


def playbook_section(rule: str) -> str:
    """The section of the playbook about a rule; those of one's own share one."""
    default = any(rule in severities(task) for task in Task)
    return rule.replace("_", "-") if default else "own-rules"


def judge_check(report: Report) -> Verdicts:
    """Judge the check itself: while it fails, nobody watches what it should."""
    rule = f"{report.kind}_check_failing"
    if report.status != "error":
        return {rule: None}
    reasons = "; ".join(error["reason"] for error in report.body["errors"])
    return {rule: Finding("critical", None, None, f"the {report.kind} check fails: {reasons}")}


def judge_drift(
    task: Task, body: DriftReport, *, retrain_share: float, open_rules: Collection[str] = frozenset()
) -> Verdicts:
    """Judge drift of features and predictions, and the quality of the input.

    Args:
        retrain_share: share of the features from which many have drifted.
        open_rules: rules whose alerts are open: one cause keeps the alert that it has.
    """
    levels = severities(task)
    verdicts = _feature_drift(levels, body, retrain_share, open_rules)
    verdicts |= _unjudged_features(levels["unjudged_features"], body)
    verdicts |= _prediction_drift(levels["prediction_drift"], body)
    verdicts |= _joint_drift(levels["joint_drift"], body, is_open="joint_drift" in open_rules)
    quality = body.get("data_quality", {})
    if quality.get("status") in ("ok", "warning"):
        told = {"class_imbalance"} if _has_moved(body) else set()  # the same thing by another name
        findings = [finding for finding in quality["findings"] if finding["kind"] not in told]
        findings = [finding for finding in findings if quality_key(finding) not in held(body)]
        for rule, those in _of_rows_and_traffic(findings).items():
            verdicts[rule] = _worst(levels[rule], those, beyond_accepted(body, *map(quality_key, those)))
    return verdicts


def lasting_unjudged(body: DriftReport) -> Sequence[UnjudgedFeature]:
    """List the features that have had no verdict for a day."""
    end = body["window"]["to"]
    if end is None:
        return []
    limit = datetime.fromisoformat(end) - UNJUDGED_FOR
    return [each for each in body.get("unjudged", []) if datetime.fromisoformat(each.get("since", end)) <= limit]


def _unjudged_features(severity: Severity, body: DriftReport) -> Verdicts:
    """Judge whether too many features have had no verdict for a day."""
    features = body.get("features", {})
    if not features or "unjudged" not in body or body["window"]["to"] is None:
        return {}
    known = held(body)
    lasting = [each for each in lasting_unjudged(body) if f"unjudged:{each['feature']}" not in known]
    share = 1 - len(lasting) / len(features)
    if share >= MIN_JUDGED_SHARE:
        return {"unjudged_features": None}
    names = [each["feature"] for each in lasting]
    message = (
        f"{len(names)} of {len(features)} features have had no drift verdict for a day: {listed(names)}; "
        f"{names[0]}: {lasting[0]['because']}"
    )
    return {"unjudged_features": Finding(severity, share, MIN_JUDGED_SHARE, message, tuple(names[:MAX_CAUSES]))}


def ranked(drift: DriftReport | None) -> Sequence[str]:
    """The drifted features of a drift report, the largest impact first; none without a report."""
    if drift is None:
        return []
    features = drift.get("features", {})
    return sorted(drift.get("drifted_features", []), key=lambda name: -impact(features[name]))


def impact(entry: Column) -> float:
    """The impact of one column's drift; 0 where it is not known."""
    return 0.0 if entry["status"] == "error" else entry.get("impact") or 0.0


def ranked_causes(drift: DriftReport | None) -> tuple[str, ...]:
    """The drifted features that most likely stand behind a finding."""
    return tuple(ranked(drift)[:MAX_CAUSES])


def _feature_drift(
    levels: Mapping[str, Severity], body: DriftReport, retrain_share: float, open_rules: Collection[str]
) -> Verdicts:
    """Judge the number of drifted features.

    From :data:`MANY_FEATURES` features or the share ``retrain_share`` on, a new alert is ``drift_many``, below it
    ``feature_drift``. An open one keeps its name when the number changes; its severity is that of the number.
    """
    judged = [entry for entry in body.get("features", {}).values() if entry["status"] != "error"]
    if not judged:
        return {}
    many = min(MANY_FEATURES, max(math.ceil(round(retrain_share * len(judged), 9)), 1))
    names = not_accepted(body)
    verdicts: Verdicts = dict.fromkeys(OF_FEATURES)
    if names:
        message = f"{len(names)} of {len(judged)} features drifted: {listed(names)}"
        if accepted := len(body["drifted_features"]) - len(names):
            message += f", beside {accepted} whose state was accepted"
        message += beyond_accepted(body, *(f"feature:{name}" for name in names))
        rule, value, limit = ("drift_many", len(names), many) if len(names) >= many else _largest(body, names[0])
        name = next((each for each in OF_FEATURES if each in open_rules), rule)
        verdicts[name] = Finding(levels[rule], value, limit, message, tuple(names[:MAX_CAUSES]))
    return verdicts


def not_accepted(body: DriftReport | None) -> Sequence[str]:
    """The drifted features whose state nobody accepted, the largest impact first."""
    known = held(body)
    return [name for name in ranked(body) if f"feature:{name}" not in known]


def _largest(body: DriftReport, name: str) -> tuple[str, float, float]:
    entry = body["features"][name]
    effect = impact(entry) if entry["status"] == "error" else entry.get("effect", impact(entry))
    return "feature_drift", effect, body["limits"]["material_psi"]


def _prediction_drift(severity: Severity, body: DriftReport) -> Verdicts:
    prediction = body.get("prediction")
    watched: list[tuple[str, Column | None]] = [
        ("prediction", prediction),
        ("probability", prediction.get("probability") if prediction else None),
    ]
    judged = {key: entry for key, entry in watched if entry and entry["status"] in ("stable", "drift")}
    known = held(body)
    drifted = {key: entry for key, entry in judged.items() if entry["status"] == "drift" and key not in known}
    if not drifted:
        return {"prediction_drift": None} if judged else {}
    key, entry = max(drifted.items(), key=lambda item: impact(item[1]))
    limit = body["limits"]["material_psi"]
    what = "the predictions" if key == "prediction" else "the predicted probability"
    message = f"the distribution of {what} has moved: PSI {impact(entry):.3g} above its noise, limit {limit:g}"
    message += beyond_accepted(body, *drifted)
    return {"prediction_drift": Finding(severity, impact(entry), limit, message, ranked_causes(body))}


def _has_moved(body: DriftReport) -> bool:
    """Tell whether the predictions have drifted, accepted or not."""
    prediction = body.get("prediction")
    probability = prediction.get("probability") if prediction else None
    return any(entry is not None and entry["status"] == "drift" for entry in (prediction, probability))


def _joint_drift(severity: Severity, body: DriftReport, *, is_open: bool) -> Verdicts:
    """Judge joint drift.

    Where features drifted, their own rule speaks, and an alert that is open already goes on.
    """
    joint = body.get("multivariate", {})
    if joint.get("status") not in ("stable", "drift"):
        return {}
    worse = beyond_accepted(body, "joint")
    by_features = body["drifted_features"] and not is_open and not worse
    if joint["status"] == "stable" or by_features or "joint" in held(body):
        return {"joint_drift": None}
    names = [entry["feature"] for entry in joint["features"]]
    alone = "features drifted, and" if body["drifted_features"] else "no feature drifted by itself,"
    message = (
        f"{alone} their combination did: a classifier tells the window from the reference with "
        f"an AUC of {joint['auc']:.3g}, limit {joint['material_auc']:.3g}, most of all by {listed(names)}{worse}"
    )
    causes = tuple(names[:MAX_CAUSES])
    return {"joint_drift": Finding(severity, joint["auc"], joint["material_auc"], message, causes)}


def _of_rows_and_traffic(findings: Sequence[QualityFinding]) -> Mapping[str, Sequence[QualityFinding]]:
    """The findings of data quality by rule: rows that are broken, and rows that do not come."""
    missing = [finding for finding in findings if finding["kind"] in TRAFFIC]
    return {"data_quality": [finding for finding in findings if finding not in missing], "traffic_drop": missing}


def _worst(severity: Severity, findings: Sequence[QualityFinding], more_than: str) -> Finding | None:
    if not findings:
        return None
    worst = sorted(findings, key=lambda found: (found["limit"] or 0.0) - (found["value"] or 1.0))
    named = [found["feature"] for found in worst if found["feature"] is not None]
    about = f"{worst[0]['feature']}: " if worst[0]["feature"] is not None else ""
    more = f"; and {_counted(len(findings) - 1)}" if len(findings) > 1 else ""
    causes = tuple(dict.fromkeys(named))[:MAX_CAUSES]
    return Finding(
        severity, worst[0]["value"], worst[0]["limit"], about + worst[0]["message"] + more + more_than, causes
    )


def _counted(more: int) -> str:
    return "one more finding" if more == 1 else f"{more} more findings"


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - MAX_CAUSES
    return ", ".join(names[:MAX_CAUSES]) + (f" and {rest} more" if rest > 0 else "")
