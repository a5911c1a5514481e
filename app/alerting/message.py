"""An alert in words, for somebody who is woken by it: what, how much, since when, why perhaps, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.alerting.outage import RULE
from app.alerting.playbook import Playbook
from app.alerting.rules import playbook_section
from app.store.alerts import Alert
from app.types import Json, Micros, Report, to_rfc3339

KINDS = {"critical": "failure", "high": "failure", "medium": "warning", "low": "warning"}
"""Severity -> how channels that know colours or urgencies shall take it."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Where links lead, and the playbook."""

    address: str
    playbook: Playbook

    def report(self, report_id: str) -> str:
        """A report's page."""
        return f"{self.address}/reports/{report_id}.html"

    def section(self, rule: str) -> str:
        """A rule's section of the playbook."""
        return f"{self.address}/docs/playbook.md#{playbook_section(rule)}"


def compose(
    event: Literal["firing", "resolved"], alert: Alert, report: Report | None, pages: Pages, because: str = ""
) -> Json:
    """The body of a message: ``title``, ``text``, ``kind``, and the ``key`` that both messages of an alert share.

    Args:
        report: the last one in which the rule held; None where alert and report could not be stored.
        because: why the alert has ended.
    """
    tag = alert.finding.severity.upper() if event == "firing" else "RESOLVED"
    lines = _firing(alert, report, pages) if event == "firing" else _resolved(alert, pages, because)
    return {
        "title": f"[{tag}] {alert.model_name} {alert.model_version}: {alert.rule}",
        "text": "\n".join(lines),
        "kind": KINDS[alert.finding.severity] if event == "firing" else "success",
        "key": incident(alert),
    }


def incident(alert: Alert) -> str:
    """What receivers that know keys know an alert by: its id, but the rule where each replica tells for itself."""
    return f"{alert.model_name}/{alert.model_version}/{alert.rule}" if alert.rule == RULE else alert.alert_id


def describe(alert: Alert, report: Report | None, pages: Pages) -> list[str]:
    """What is known, and what to do about it: a line each."""
    finding = alert.finding
    rows = _rows(report)
    causes = pages.playbook.causes(alert.rule)
    actions = pages.playbook.actions(alert.rule)
    return [
        *([f"Value: {_number(finding.value)}, limit {_number(finding.limit)}"] if finding.value is not None else []),
        f"Since: {_time(alert.since)}, {alert.held} {'check' if alert.held == 1 else 'checks'} in a row",
        *([f"Rows: {rows}"] if rows else []),
        *([f"Look at: {', '.join(finding.causes)}"] if finding.causes else []),
        *(["Likely causes:", *(f"- {cause}" for cause in causes)] if any(causes) else []),
        *([f"What to do: {actions}"] if actions else []),
    ]


def _firing(alert: Alert, report: Report | None, pages: Pages) -> list[str]:
    return [
        alert.finding.message,
        "",
        *describe(alert, report, pages),
        "",
        *(
            [
                f"Report: {pages.report(alert.report_id)}",
                f"I am on it: POST {pages.address}/alerts/{alert.alert_id}/acknowledge",
            ]
            if report
            else []
        ),
        f"Playbook: {pages.section(alert.rule)}",
    ]


def _resolved(alert: Alert, pages: Pages, because: str) -> list[str]:
    return [
        f"{because} The alert said: {alert.finding.message}",
        "",
        f"From {_time(alert.since)} to {_time(alert.changed_at)}",
        f"Last report in which it held: {pages.report(alert.report_id)}",
    ]


def _rows(report: Report | None) -> str:
    """How much a report stands on."""
    body = report.body if report else {}
    rows, labelled = body.get("window", {}).get("rows"), (body.get("realised") or {}).get("labelled")
    counts = ((rows, "in the window"), (labelled, "with their outcome"))
    return ", ".join(f"{count} {what}" for count, what in counts if count is not None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _time(moment: Micros) -> str:
    """A moment to the second, as people read it.

    >>> _time(Micros(1_790_000_000_123_456))
    '2026-09-21 14:13:20 UTC'
    """
    return f"{to_rfc3339(moment)[:19].replace('T', ' ')} UTC"
