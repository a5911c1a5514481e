"""From what has changed to messages, in the transaction of the change."""

from __future__ import annotations

from collections.abc import Sequence

from app.alerting.message import Pages, compose
from app.alerting.notify import Route, told_once
from app.store import outbox, reports
from app.store.engine import Connection
from app.store.transitions import Change
from app.types import Micros


class Telling:
    """Stores a message of each change for each channel that is told of its severity.

    Who was told that an alert fires is told of its end, whatever its severity is by then; of an alert that grows worse
    it is told once more, at most once at each severity.
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
            severity = f"/{alert.finding.severity}" if change.event == "firing" else ""
            for channel in channels:
                outbox.enqueue(
                    connection,
                    channel=channel,
                    event=change.event,
                    key=f"{alert.alert_id}{severity}",
                    body=body,
                    alert_id=alert.alert_id,
                    now=now,
                )


def _hears(connection: Connection, route: Route, change: Change) -> bool:
    if change.alert.finding.severity in route.severities:
        return True
    alert_id = change.alert.alert_id
    return change.event == "resolved" and outbox.was_told(connection, channel=route.channel.name, alert_id=alert_id)
