"""The tasks that deliver, put together."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from app.alerting.channels import Channel
from app.alerting.delivery import Deliverer
from app.alerting.exported import DeliveryMetrics
from app.alerting.feed import AlertmanagerFeed
from app.alerting.message import Pages
from app.alerting.notify import Route, alertmanagers, told_once
from app.alerting.polling import Delivery
from app.store.journal import Journal
from app.store.readers import Readers


def set_up_delivery(
    routes: Sequence[Route],
    pages: Pages,
    journal: Journal,
    readers: Readers,
    series: CollectorRegistry,
    *,
    more: Sequence[Channel] = (),
) -> Delivery:
    """A task for each route, and for each further channel that messages are stored to."""
    metrics = DeliveryMetrics(series)
    channels = [*(route.channel for route in told_once(routes)), *more]
    return Delivery(
        [
            *(Deliverer(channel, journal, readers, metrics) for channel in channels),
            *(AlertmanagerFeed(channel, severities, readers, pages) for channel, severities in alertmanagers(routes)),
        ]
    )
