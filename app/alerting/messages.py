"""Messages about alerts: figures, causes, links and the playbook's section."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from urllib.parse import urlencode

from app.alerting.rules.drift import playbook_section
from app.alerting.rules.service import OUTAGE_RULE
from app.store.queries.alerts import Alert
from app.types import SECOND, Json, Micros, Report, to_rfc3339

MAX_CAUSES_IN_MESSAGE = 3
_PART = re.compile(r"^\*\*([^*]+)\.\*\*\s+(.+?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_SENTENCE_END = re.compile(r"(?<=[.?])\s+(?=[A-Z`])")


@dataclass(frozen=True)
class Playbook:
    """The playbook's text in Markdown; without one, nothing is said."""

    text: str

    def causes(self, rule: str) -> list[str]:
        """The likely causes of an alert, each a sentence."""
        return _SENTENCE_END.split(self._part(rule, "Likely causes"))[:MAX_CAUSES_IN_MESSAGE]

    def actions(self, rule: str) -> str:
        """Give the playbook's advice about an alert."""
        return self._part(rule, "Actions")

    def _part(self, rule: str, name: str) -> str:
        return self._parts.get(playbook_section(rule).replace("-", " "), {}).get(name, "")

    @cached_property
    def _parts(self) -> Mapping[str, Mapping[str, str]]:
        sections = (section.partition("\n") for section in re.split(r"^## ", self.text, flags=re.MULTILINE)[1:])
        return {
            title.strip(): {name: _plain(paragraph) for name, paragraph in _PART.findall(body)}
            for title, _, body in sections
        }


def _plain(markdown: str) -> str:
    """A paragraph on one line, its links without their targets.

    >>> _plain("See [drift](#drift) first, by `GET /drift`.")
    'See drift first, by GET /drift.'
    """
    return _LINK.sub(r"\1", " ".join(markdown.split())).replace("`", "")


LASTS_S = 60.0
"""How long an Alertmanager shows it."""


def sample_message(address: str, *, now: Micros) -> Json:
    """A body that every channel takes, an Alertmanager too."""
    text = f"Alerts of the Plumbline service at {address} arrive here. There is nothing to do."
    alert = {
        "labels": {"alertname": "plumbline_test", "severity": "low", "service": "plumbline"},
        "annotations": {"summary": text},
        "startsAt": to_rfc3339(now),
        "endsAt": to_rfc3339(Micros(now + round(LASTS_S * SECOND))),
        "generatorURL": f"{address}/dashboard",
    }
    return {"title": "[TEST] Plumbline", "text": text, "kind": "info", "key": "plumbline-test", "alerts": [alert]}


KINDS = {"critical": "failure", "high": "failure", "medium": "warning", "low": "warning"}
"""Severity -> how channels that know colours or urgencies shall take it."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Hold the address of links and the playbook."""

    address: str
    playbook: Playbook

    def report(self, report_id: str) -> str:
        """A report's page."""
        return f"{self.address}/reports/{report_id}.html"

    def alert(self, alert: Alert) -> str:
        """An alert on the dashboard."""
        query = urlencode({"id": alert.alert_id, "version": alert.model_version})
        return f"{self.address}/dashboard/alerts?{query}"

    def section(self, rule: str) -> str:
        """A rule's section of the playbook."""
        return f"{self.address}/docs/playbook.md#{playbook_section(rule)}"


def compose(
    event: Literal["firing", "resolved"], alert: Alert, report: Report | None, pages: Pages, because: str = ""
) -> Json:
    """Compose the body of a message: ``title``, ``text``, ``kind`` and ``key``.

    Both messages of an alert share the key.

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
    """Give the key by which a receiver knows an alert.

    It is the alert's id, or the rule where each replica sends for itself.
    """
    return f"{alert.model_name}/{alert.model_version}/{alert.rule}" if alert.rule == OUTAGE_RULE else alert.alert_id


def describe(alert: Alert, report: Report | None, pages: Pages) -> list[str]:
    """Describe an alert: what is known and what to do, a line each."""
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
                f"Alert: {pages.alert(alert)}",
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
        f"Alert: {pages.alert(alert)}",
        f"Last report in which it held: {pages.report(alert.report_id)}",
    ]


def _rows(report: Report | None) -> str:
    """Say how many rows a report is based on."""
    body = (report.performance or report.drift) if report else None
    rows = body.get("window", {}).get("rows") if body else None
    labelled = report.performance.get("realised", {}).get("labelled") if report and report.performance else None
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
