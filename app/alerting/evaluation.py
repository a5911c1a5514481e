"""From a saved report to alerts and advice."""

from __future__ import annotations

from collections.abc import Mapping

from app.alerting.performance_rules import judge_coverage, judge_performance
from app.alerting.rules import CHECKS, Verdicts, judge_check, judge_drift, ranked_causes, severities
from app.store import reports
from app.store.engine import Connection
from app.store.transitions import Change, record
from app.types import SECOND, Json, Micros, Report, Task

HOUR = 3600 * SECOND
DAY = 24 * HOUR


def evaluate(connection: Connection, report: Report, *, task: Task, retrain_share: float) -> list[Change]:
    """Bring the alerts up to date with a report, in the transaction that saves it.

    A check that failed says nothing but that, and one that had too little data says nothing about any rule over it.

    Returns:
        what somebody must be told.
    """
    if report.kind == "performance":
        drift = reports.latest(connection, "drift", report.model_name, report.model_version)
        verdicts = judge_performance(task, report.body, drift.body if drift else None)
        verdicts |= _coverage(connection, report, task)
    else:
        verdicts = judge_drift(task, report.body, retrain_share=retrain_share)
    return record(connection, report, verdicts | judge_check(report), CHECKS)


def _coverage(connection: Connection, report: Report, task: Task) -> Verdicts:
    """Judge label coverage against the reports of a day and of a week ago: labels may come at fixed hours."""
    starts = (Micros(report.checked_at - days * DAY) for days in (1, 7))
    version = (report.model_name, report.model_version)
    earlier = [
        found.body
        for start in starts
        for found in reports.history(
            connection, "performance", *version, start=start, end=Micros(start + HOUR), failed=False, limit=1
        )
    ]
    return judge_coverage(severities(task)["label_coverage"], report.body, earlier)


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
