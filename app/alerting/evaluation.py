"""From a saved report to alerts."""

from __future__ import annotations

from app.alerting.performance_rules import judge_coverage, judge_performance
from app.alerting.rules import Verdicts, judge_check, judge_drift, ranked_causes, severities
from app.alerting.ruleset import RuleSet
from app.alerting.segment_rule import judge_segments
from app.alerting.service_rules import judge_service
from app.store import alerts, reports
from app.store.engine import Connection
from app.store.transitions import Change, record
from app.types import SECOND, Json, Micros, Report, Task

HOUR = 3600 * SECOND
DAY = 24 * HOUR


def evaluate(
    connection: Connection, report: Report, *, task: Task, retrain_share: float, rules: RuleSet | None = None
) -> list[Change]:
    """Bring the alerts up to date with a report, in the transaction that saves it.

    A check that failed says nothing but that, and one that had too little data says nothing about any rule over it.
    A rule that is no longer among ``rules`` (by default those of the house) does not hold.

    Returns:
        what somebody must be told.
    """
    rules = rules or RuleSet()
    version = (report.model_name, report.model_version)
    latest = report if report.kind == "drift" else reports.latest(connection, "drift", *version)
    drift = latest.body if latest else {}
    before = alerts.still_open(connection, *version)
    known = {rule for rule, _ in rules.severities(task)}
    verdicts: Verdicts = {alert.rule: None for alert in before if alert.rule not in known}
    verdicts |= rules.change(_default(connection, report, task, drift, retrain_share))
    verdicts |= rules.judge(report, before, ranked_causes(drift))
    return record(connection, report, verdicts, rules.checks)


def judge_beats(connection: Connection, report: Report, rules: RuleSet) -> Verdicts:
    """Judge a service report that is not stored, and will not be if it says nothing new."""
    before = alerts.still_open(connection, report.model_name, report.model_version)
    return rules.change(judge_service(report.body)) | rules.judge(report, before, ())


def _default(connection: Connection, report: Report, task: Task, drift: Json, retrain_share: float) -> Verdicts:
    """Judge the rules of the house; ``drift`` is the body of the latest drift report."""
    if report.kind == "service":
        return judge_service(report.body)
    if report.kind == "performance":
        verdicts = judge_performance(task, report.body, drift) | judge_segments(task, report.body, drift)
        verdicts |= _coverage(connection, report, task)
    else:
        verdicts = judge_drift(task, report.body, retrain_share=retrain_share)
    return verdicts | judge_check(report)


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
