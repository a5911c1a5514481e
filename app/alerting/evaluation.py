"""From a saved report to alerts and advice."""

from __future__ import annotations

from collections.abc import Mapping

from app.alerting.rules import judge_drift, judge_performance, ranked_causes
from app.store import alerts, reports
from app.store.engine import Connection
from app.types import Json, Report, Task


def evaluate(connection: Connection, report: Report, *, task: Task, retrain_share: float) -> None:
    """Bring the alerts up to date with a report, in the transaction that saves it.

    A check that failed, or had too little data, says nothing about any rule.
    """
    if report.kind == "performance":
        drift = reports.latest(connection, "drift", report.model_name, report.model_version)
        verdicts = judge_performance(task, report.body, drift.body if drift else None)
    else:
        verdicts = judge_drift(task, report.body, retrain_share=retrain_share)
    alerts.record(connection, report, verdicts)


def recommend(latest: Mapping[str, Report], *, retrain_share: float) -> list[Json]:
    """What to do, out of the latest reports; mending the input comes first, since a model learns what is broken."""
    drift = latest["drift"].body if "drift" in latest else {}
    findings = drift.get("data_quality", {}).get("findings", [])
    advice = []
    if findings:
        advice.append({"action": "fix_input", "because": f"the input is broken: {_kinds(findings)}"})
    reasons = _reasons_to_retrain(drift, latest.get("performance"), retrain_share)
    if reasons:
        advice.append({"action": "retrain", "because": " and ".join(reasons)})
    return advice


def _reasons_to_retrain(drift: Json, performance: Report | None, retrain_share: float) -> list[str]:
    reasons = []
    if performance is not None and performance.status == "degraded":
        metrics = performance.body["realised"]["metrics"]
        worse = [name for name, metric in metrics.items() if metric["status"] == "degraded"]
        more = f" and {len(worse) - 1} more of its metrics" if len(worse) > 1 else ""
        reasons.append(f"the model's {worse[0]}{more} fell behind the baseline")
    share = drift.get("drift_share")
    if share is not None and share >= retrain_share:
        names = ", ".join(ranked_causes(drift))
        reasons.append(f"{share:.0%} of the features drifted (limit {retrain_share:.0%}), {names} most of all")
    return reasons


def _kinds(findings: list[Json]) -> str:
    return ", ".join(dict.fromkeys(finding["kind"].replace("_", " ") for finding in findings))
