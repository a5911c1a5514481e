"""Evaluate the rules on a report: alerts open and close, messages and actions are queued."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.alerting.channels.routes import Route, told_once
from app.alerting.messages import Pages, compose
from app.alerting.retraining import Retraining
from app.alerting.rules.configured import RuleSet
from app.alerting.rules.drift import Verdicts, judge_check, judge_drift, ranked_causes, severities
from app.alerting.rules.performance import judge_coverage, judge_performance, judge_segments
from app.alerting.rules.service import judge_service
from app.store.database import Connection
from app.store.queries import alerts, outbox, reports
from app.store.queries.alerts import SEVERITIES, Alert, Change, aloud, record, resolve_others
from app.store.queries.replicas import database_now
from app.types import SECOND, Json, Micros, Report, Severity, Task

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


class Notifier:
    """Stores a message of each change for each channel that is told of its severity.

    What a channel has heard of an alert stands in the outbox. So of one that grows worse it is told again, of one that
    grows milder it is not, and one that was told of to others is told to a channel that is new. Who was told that an
    alert fires is told of its end, whatever its severity is by then.
    """

    def __init__(self, routes: Sequence[Route], pages: Pages) -> None:
        self._routes = told_once(routes)
        self._pages = pages

    def __call__(self, connection: Connection, changes: Sequence[Change], *, now: Micros) -> None:
        """Store the messages; the same change twice is one message."""
        for change in changes:
            alert = change.alert
            channels = [route.channel.name for route in self._routes if _hears(connection, route, change)]
            if not channels:
                continue
            body = compose(change.event, alert, reports.get(connection, alert.report_id), self._pages, change.because)
            key = _key(alert, alert.finding.severity) if change.event == "firing" else alert.alert_id
            for channel in channels:
                outbox.enqueue(
                    connection,
                    channel=channel,
                    event=change.event,
                    key=key,
                    body=body,
                    alert_id=alert.alert_id,
                    now=now,
                )


def _hears(connection: Connection, route: Route, change: Change) -> bool:
    """Whether a change is for a channel, which has not heard of a beginning that was as bad."""
    alert = change.alert
    severity = alert.finding.severity
    concerned = severity in route.severities
    if change.event == "resolved":
        return concerned or _has_heard(connection, route, alert, SEVERITIES)
    return concerned and not _has_heard(connection, route, alert, SEVERITIES[: SEVERITIES.index(severity) + 1])


def _has_heard(connection: Connection, route: Route, alert: Alert, severities: Sequence[Severity]) -> bool:
    """Whether a channel was told that an alert fires with one of these severities."""
    keys = [_key(alert, severity) for severity in severities]
    return outbox.is_stored(connection, channel=route.channel.name, event="firing", keys=keys)


def _key(alert: Alert, severity: Severity) -> str:
    return f"{alert.alert_id}/{severity}"


@dataclass(frozen=True, slots=True)
class Reaction:
    """Puts rules, messages and requests together."""

    rules: RuleSet
    tell: Notifier
    retraining: Retraining
    retrain_share: float

    def on_report(self, connection: Connection, report: Report, task: Task, *, is_active: bool) -> None:
        """Bring alerts up to date; only the version that answers is retrained."""
        at = report.checked_at
        changes = evaluate(connection, report, task=task, retrain_share=self.retrain_share, rules=self.rules)
        self.tell(connection, changes, now=at)
        self.tell(connection, aloud(connection, report.model_name, report.model_version, now=at), now=at)
        if is_active:
            self.retraining(connection, report, task)

    def on_turn(self, connection: Connection, name: str, watched: Collection[str]) -> None:
        """End the alerts of versions that nobody watches any more, and tell of the others who has not heard yet."""
        now = database_now(connection)
        self.tell(connection, resolve_others(connection, name, watched, now=now), now=now)
        for version in watched:
            self.tell(connection, aloud(connection, name, version, now=now), now=now)
