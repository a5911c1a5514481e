"""Evaluate the rules on a report: alerts open and close, messages and actions are queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

import structlog

from app.alerting.channels.routes import Route, outbox_routes
from app.alerting.messages import Pages, compose
from app.alerting.retraining import Retraining
from app.alerting.rules.acceptance import ACCEPTABLE, Item, Look, clear_windows, compare, items_of
from app.alerting.rules.configured import RuleSet
from app.alerting.rules.drift import Verdicts, judge_check, judge_drift, ranked_causes, severities
from app.alerting.rules.performance import judge_coverage, judge_performance, judge_segments
from app.alerting.rules.service import judge_service
from app.errors import Conflict, NotFound
from app.reports.drift import Accepted, AcceptedPart, DriftReport
from app.reports.performance import PerformanceReport
from app.store.database import Connection
from app.store.queries import alerts, outbox, reports
from app.store.queries.alerts import SEVERITIES, Alert, Change, firing_unsilenced, record, resolve_others
from app.store.queries.keys import add_audit
from app.store.queries.replicas import database_now
from app.store.queries.reports import Acceptance
from app.store.queries.versions import read_activation
from app.types import (
    SECOND,
    Json,
    Micros,
    Report,
    ServedVersions,
    Severity,
    Task,
    from_datetime,
    new_id,
    to_rfc3339,
)

HOUR, DAY = 3600 * SECOND, 86_400 * SECOND


def evaluate(
    connection: Connection, report: Report, *, task: Task, retrain_share: float, rules: RuleSet | None = None
) -> list[Change]:
    """Bring the alerts up to date with a report, in the transaction that saves it.

    A check that failed changes the alert of failed checks alone. A check with too little data changes no alert of a
    rule over its figures. A rule that is no longer among ``rules`` (by default the default rules) does not hold.

    Returns:
        the changes that must be sent to channels.
    """
    rules = rules or RuleSet()
    report = note(connection, report)
    version = (report.model_name, report.model_version)
    latest = report if report.kind == "drift" else reports.latest(connection, "drift", *version)
    drift = latest.drift if latest else None
    before = alerts.still_open(connection, *version)
    known = {rule for rule, _ in rules.severities(task)}
    verdicts: Verdicts = {alert.rule: None for alert in before if alert.rule not in known}
    verdicts |= rules.change(_default(connection, report, task, drift, retrain_share, before))
    verdicts |= rules.judge(report, before, ranked_causes(drift))
    return record(connection, report, verdicts, rules.checks)


def evaluate_service(connection: Connection, report: Report, rules: RuleSet) -> Verdicts:
    """Evaluate the rules on a service report, which is stored only if an alert changes."""
    before = alerts.still_open(connection, report.model_name, report.model_version)
    return rules.change(_of_service(report)) | rules.judge(report, before, ())


def _default(
    connection: Connection,
    report: Report,
    task: Task,
    drift: DriftReport | None,
    retrain_share: float,
    before: Sequence[Alert],
) -> Verdicts:
    """Evaluate the default rules.

    Args:
        drift: the body of the latest drift report.
        before: the open alerts of the version.
    """
    if report.kind == "service":
        return _of_service(report)
    verdicts: Verdicts = {}
    firing = {alert.rule: alert for alert in before if alert.state == "firing"}
    if body := report.performance:
        verdicts |= judge_performance(task, body, drift, open_rules=firing) | judge_segments(task, body, drift)
        verdicts |= _coverage(connection, report, body, task)
    elif report.drift:
        verdicts |= judge_drift(task, report.drift, retrain_share=retrain_share, open_rules=firing)
        if verdicts.get("data_quality", True) is None and _overlaps(connection, firing, report.drift):
            del verdicts["data_quality"]
    return verdicts | judge_check(report)


def _overlaps(connection: Connection, firing: Mapping[str, Alert], body: DriftReport) -> bool:
    """Whether the window still has rows of the last one that had a finding of data quality.

    A share near its limit is found in one look and not in the next, though nothing has changed.
    """
    alert, start = firing.get("data_quality"), body.get("window", {}).get("from")
    last = None if alert is None else reports.get(connection, alert.report_id)
    return last is not None and start is not None and last.checked_at >= from_datetime(datetime.fromisoformat(start))


def _of_service(report: Report) -> Verdicts:
    return judge_service(report.service) if report.service else {}


def _coverage(connection: Connection, report: Report, body: PerformanceReport, task: Task) -> Verdicts:
    """Evaluate label coverage against the reports of a day and a week ago.

    Labels may come at fixed hours or weekdays.
    """
    starts = (Micros(report.checked_at - days * DAY) for days in (1, 7))
    version = (report.model_name, report.model_version)
    earlier = [
        found.performance
        for start in starts
        for found in reports.history(
            connection, "performance", *version, start=start, end=Micros(start + HOUR), failed=False, limit=1
        )
        if found.performance
    ]
    return judge_coverage(severities(task)["label_coverage"], body, earlier)


def accept(connection: Connection, alert: Alert, *, reason: str, by: str | None, now: Micros) -> Acceptance:
    """Store the state behind a firing alert as the new normal, and note it in the latest report.

    Raises:
        Conflict: the alert is not about a state of the data, or no report shows that state any more.
    """
    if alert.rule not in ACCEPTABLE:
        raise Conflict(f"{alert.rule} cannot become normal: repair its cause, silence it, or change the rule")
    kind, keys = ACCEPTABLE[alert.rule]
    latest = reports.latest(connection, kind, alert.model_name, alert.model_version)
    report, look, items = _last_that_shows(keys, latest, reports.get(connection, alert.report_id))
    parts = {
        item.key: {"found": item.found, "state": item.state, "needed": clear_windows(item), "seen": look.end}
        for item in items
    }
    _take_from_earlier(connection, report, parts, now)
    made = Acceptance(
        new_id(now * 1000),
        alert.alert_id,
        alert.model_name,
        alert.model_version,
        alert.rule,
        kind,
        report.report_id,
        now,
        by,
        reason,
        {"reference": look.reference, "parts": parts},
    )
    reports.add_acceptance(connection, made)
    note(connection, latest or report)
    return made


def _last_that_shows(keys: tuple[str, ...], *candidates: Report | None) -> tuple[Report, Look, list[Item]]:
    """Take the first report that shows what an alert is about.

    An alert lasts over looks that hardly miss its limit.
    """
    for report in candidates:
        look = Look.of(report) if report else None
        if report is None or look is None:
            continue
        items = [item for item in items_of(report) if item.key.startswith(keys) and (item.found or item.near)]
        if any(item.found for item in items):
            return report, look, items
    raise Conflict("no report shows this state any more")


def _take_from_earlier(connection: Connection, report: Report, parts: Json, now: Micros) -> None:
    """Leave each part to its latest acceptance."""
    for earlier in reports.acceptances_in_force(connection, report.kind, report.model_name, report.model_version):
        left = {key: part for key, part in earlier.body["parts"].items() if key not in parts}
        if len(left) < len(earlier.body["parts"]):
            _change(connection, earlier, left, now)


def note(connection: Connection, report: Report) -> Report:
    """Compare a report with what was accepted, and store the result in it: ``accepted``.

    To be called in the transaction that saves the report, so that nobody sees it without. A report that shows nothing
    changes nothing.
    """
    known = reports.acceptances_in_force(connection, report.kind, report.model_name, report.model_version)
    look = Look.of(report) if known else None
    if look is None:
        return report
    items = {item.key: item for item in items_of(report)}
    shown = []
    for each in known:
        parts: dict[str, Json] = {}
        if each.body["reference"] == look.reference:
            shares = replace(look, alpha=look.alpha / max(len(each.body["parts"]), 1))
            compared = {key: compare(key, part, items, shares) for key, part in each.body["parts"].items()}
            parts = {key: part for key, part in compared.items() if part is not None}
        if parts != each.body["parts"]:
            _change(connection, each, parts, report.checked_at)
        if any(part["found"] for part in parts.values()):
            shown.append(_shown(each, parts, look))
    noted = replace(report, body=cast("DriftReport", {**report.body, "accepted": shown}))
    reports.note_accepted(connection, noted)
    return noted


def _change(connection: Connection, each: Acceptance, parts: Mapping[str, Json], at: Micros) -> None:
    """Store the parts that are left; an acceptance ends with the last one that was a finding."""
    ended = None if any(part["found"] for part in parts.values()) else at
    reports.change_acceptance(connection, each.acceptance_id, each.body | {"parts": dict(parts)}, ended_at=ended)


def _shown(each: Acceptance, parts: Mapping[str, Json], look: Look) -> Accepted:
    """Show an acceptance in a report, as its rule and its readers need it."""
    listed: list[AcceptedPart] = [
        {
            "what": key,
            "value": part["state"].get("value"),
            "status": "exceeded" if look.start <= part.get("exceeded", "") else "held",
            "was_found": part["found"],
        }
        for key, part in parts.items()
    ]
    return {
        "alert_id": each.alert_id,
        "rule": each.rule,
        "accepted_at": to_rfc3339(each.accepted_at),
        "accepted_by": each.accepted_by,
        "reason": each.reason,
        "report_id": each.report_id,
        "parts": listed,
    }


class Notifier:
    """Stores a message for each change and each channel that gets alerts of its severity.

    The outbox holds what a channel got before. So a channel gets an alert again when it grows worse, but not when it
    grows milder, and a new channel gets the alerts that fire already. A channel that got the begin of an alert gets its
    end too, also after its severity has changed.
    """

    def __init__(self, routes: Sequence[Route], pages: Pages) -> None:
        self._routes = outbox_routes(routes)
        self._pages = pages

    def enqueue(self, connection: Connection, changes: Sequence[Change], *, now: Micros) -> None:
        """Store the messages; the same change twice is one message."""
        for change in changes:
            alert = change.alert
            channels = [route.channel.name for route in self._routes if _gets(connection, route, change)]
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


def _gets(connection: Connection, route: Route, change: Change) -> bool:
    """Whether a channel gets a change.

    It gets a begin only if it has not got one of the same severity or a worse one before.
    """
    alert = change.alert
    severity = alert.finding.severity
    concerned = severity in route.severities
    if change.event == "resolved":
        return concerned or _has_got(connection, route, alert, SEVERITIES)
    return concerned and not _has_got(connection, route, alert, SEVERITIES[: SEVERITIES.index(severity) + 1])


def _has_got(connection: Connection, route: Route, alert: Alert, severities: Sequence[Severity]) -> bool:
    """Whether a channel has got the begin of an alert with one of these severities."""
    keys = [_key(alert, severity) for severity in severities]
    return outbox.is_stored(connection, channel=route.channel.name, event="firing", keys=keys)


def _key(alert: Alert, severity: Severity) -> str:
    return f"{alert.alert_id}/{severity}"


@dataclass(frozen=True, slots=True)
class AlertUpdater:
    """Updates alerts after a report and at each tick, in the writer thread, from a snapshot."""

    rules: RuleSet
    notifier: Notifier
    retraining: Retraining
    retrain_share: float

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Bring the alerts of a version up to date; request retraining of the active version."""
        version, at = report.model_version, report.checked_at
        schema = served.schemas.get(version)
        if schema is None or version not in _versions_with_alerts(connection, served):
            return
        before = alerts.still_open(connection, report.model_name, version)
        changes = evaluate(connection, report, task=schema.task, retrain_share=self.retrain_share, rules=self.rules)
        log_changes(before, alerts.still_open(connection, report.model_name, version))
        self.notifier.enqueue(connection, changes, now=at)
        firing = firing_unsilenced(connection, report.model_name, version, now=at)
        self.notifier.enqueue(connection, firing, now=at)
        if version == served.active.version:
            self.retraining.request_if_needed(connection, report, schema.task)

    def accept(self, connection: Connection, alert_id: str, *, reason: str, by: str | None) -> Alert:
        """Make the state behind a firing alert the new normal; receivers hear of its end.

        Raises:
            NotFound: no alert has this id.
            Conflict: the alert does not fire, or is about nothing that can be normal.
        """
        alert = alerts.get(connection, alert_id)
        if alert is None:
            raise NotFound("no alert has this id")
        if alert.state != "firing":
            raise Conflict(f"only a firing alert can be accepted, this one is {alert.state}")
        now = Micros(max(database_now(connection), alert.changed_at))
        made = accept(connection, alert, reason=reason, by=by, now=now)
        audited = {"alert_id": alert_id, "rule": alert.rule, "reason": reason, "report_id": made.report_id}
        add_audit(connection, "alert_accepted", by, audited)
        if change := alerts.end_alert(connection, now, alert):
            because = f"Accepted as the new normal{f' by {by}' if by else ''}: {reason}."
            self.notifier.enqueue(connection, [replace(change, because=because)], now=now)
        return alerts.get(connection, alert_id) or alert

    def on_tick(self, connection: Connection, served: ServedVersions) -> None:
        """End the alerts of other versions; send firing alerts to channels that lack them."""
        now, name = database_now(connection), served.active.name
        versions = _versions_with_alerts(connection, served)
        log_changes(alerts.unwatched(connection, name, versions), ())
        self.notifier.enqueue(connection, resolve_others(connection, name, versions, now=now), now=now)
        for version in versions:
            self.notifier.enqueue(connection, firing_unsilenced(connection, name, version, now=now), now=now)


def log_changes(before: Sequence[Alert], now: Sequence[Alert]) -> None:
    """Log each alert that has begun to fire, has grown worse or has ended, silenced or not."""
    log = structlog.get_logger("alerts")
    firing = {alert.alert_id: alert for alert in before if alert.state == "firing"}
    still = {alert.alert_id: alert for alert in now if alert.state == "firing"}
    for alert in still.values():
        known = firing.get(alert.alert_id)
        if known is None:
            log.warning("alert_firing", **describe_alert(alert))
        elif SEVERITIES.index(alert.finding.severity) < SEVERITIES.index(known.finding.severity):
            log.warning("alert_worse", **describe_alert(alert), was=known.finding.severity)
    for alert in firing.values():
        if alert.alert_id not in still:
            log.info("alert_resolved", **describe_alert(alert))


def describe_alert(alert: Alert) -> Mapping[str, Any]:
    """The fields of a log line about an alert.

    Its message stays out: it may name a category of a feature.
    """
    finding = alert.finding
    return {
        "rule": alert.rule,
        "severity": finding.severity,
        "value": finding.value,
        "limit": finding.limit,
        "causes": list(finding.causes),
        "model_name": alert.model_name,
        "model_version": alert.model_version,
        "alert_id": alert.alert_id,
        "report_id": alert.report_id,
    }


def _versions_with_alerts(connection: Connection, served: ServedVersions) -> set[str]:
    """The versions whose alerts are sent: the active one and the chosen one, no shadow.

    Another replica may have chosen a version that this one still loads.
    """
    chosen = read_activation(connection, served.active.name)
    return {served.active.version} | ({chosen.version} if chosen else set())
