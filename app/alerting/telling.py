"""From what has changed to messages, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Sequence

from app.alerting.message import Pages, compose
from app.alerting.notify import Route, told_once
from app.store import outbox, reports
from app.store.alerts import SEVERITIES, Alert
from app.store.engine import Connection
from app.store.transitions import Change
from app.types import Micros, Severity


class Telling:
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
