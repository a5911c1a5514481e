"""What must be told while the store is away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from app.alerting.channels.alertmanager import LASTS_S
from app.alerting.channels.routes import Route, open_channels
from app.alerting.delivery import DirectNotifier
from app.alerting.messages import Pages, Playbook, compose
from app.config.settings import Alerts
from app.store.queries.alerts import Alert, Finding
from app.store.queries.outbox import Message
from app.types import SECOND, Micros, to_rfc3339
from tests.support.receivers import Webhook, webhook

FINDING = Finding("critical", 12.0, 10.0, "the store cannot be reached for 12 s")
ALERT = Alert("a1", "store_unreachable", "m", "1", "firing", FINDING, Micros(0), Micros(0), 1, "")
PAGES = Pages("http://service", Playbook(""))


def routes(*items: object) -> Sequence[Route]:
    """The channels of these items of the configuration."""
    return open_channels(Alerts.model_validate({"notify": list(items)}).notify)


def test_channels_are_told_without_a_store() -> None:
    """Those that hear of its severity are, an Alertmanager too; there is no link to what was not stored.

    The caller does not wait for them.
    """

    async def scenario(receiver: Webhook, manager: Webhook, other: Webhook) -> int:
        address = f"alertmanager+http://127.0.0.1:{manager.port}"
        direct = DirectNotifier(routes(receiver.url, address, {"url": other.url, "severities": ["high"]}), PAGES)
        direct.begin(ALERT)
        tried = receiver.tried + manager.tried
        for told in (receiver, manager):
            await asyncio.to_thread(told.wait_for, 1)
        await direct.stop()
        return tried

    with webhook() as receiver, webhook() as manager, webhook() as other:
        tried = asyncio.run(scenario(receiver, manager, other))

    assert receiver.titles == ["[CRITICAL] m 1: store_unreachable"]
    assert "/reports/" not in receiver.taken[0]["message"]
    assert [alert["labels"]["alertname"] for alert in manager.taken[0]] == ["store_unreachable"]
    assert other.taken == []
    assert tried == 0


def test_a_refusal_is_tried_again() -> None:
    """A channel that refuses once hears it after the pause, once."""

    async def scenario(receiver: Webhook) -> None:
        direct = DirectNotifier(routes(receiver.url), PAGES, pause=lambda message: 0.01 * message.tries)
        direct.begin(ALERT)
        await asyncio.to_thread(receiver.wait_for, 1)
        await direct.stop()

    with webhook() as receiver:
        receiver.answers = [500]
        asyncio.run(scenario(receiver))

    assert (receiver.titles, receiver.tried) == (["[CRITICAL] m 1: store_unreachable"], 2)


def test_after_the_end_nothing_is_sent() -> None:
    """A channel that refused until the outage was over hears of the end alone, which the outbox sends."""

    async def scenario(receiver: Webhook) -> None:
        tried = asyncio.Event()

        def pause(_message: Message) -> float:
            tried.set()
            return 0.01

        direct = DirectNotifier(routes(receiver.url), PAGES, pause=pause)
        direct.begin(ALERT)
        await tried.wait()
        direct.end()
        await asyncio.wait(all_but_this())

    with webhook() as receiver:
        receiver.answers = [500]
        asyncio.run(scenario(receiver))

    assert (receiver.titles, receiver.tried) == ([], 1)


def all_but_this() -> set[asyncio.Task[Any]]:
    """The other tasks of the loop."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


def test_an_alertmanager_is_told_until_the_end() -> None:
    """It forgets what it does not hear again: each time the alert lasts for so long from then on."""
    clock = iter((1000.0, 1060.0))

    async def scenario(manager: Webhook) -> None:
        address = f"alertmanager+http://127.0.0.1:{manager.port}"
        direct = DirectNotifier(routes(address), PAGES, clock=lambda: next(clock, 1120.0), again_s=0.01)
        direct.begin(ALERT)
        await asyncio.to_thread(manager.wait_for, 2)
        await direct.stop()

    with webhook() as manager:
        asyncio.run(scenario(manager))

    ends = [alert["endsAt"] for [alert] in manager.taken[:2]]
    assert ends == [to_rfc3339(Micros(round((at + LASTS_S) * SECOND))) for at in (1000, 1060)]


def test_replicas_tell_of_one_incident() -> None:
    """A receiver that knows keys sees one incident, whichever replica tells of it or of its end; else one an alert."""
    keys = {compose("firing", replace(ALERT, alert_id=alert_id), None, PAGES)["key"] for alert_id in ("a1", "a2")}
    assert keys == {compose("resolved", replace(ALERT, alert_id="a3"), None, PAGES)["key"]}
    assert compose("firing", replace(ALERT, rule="drift_many"), None, PAGES)["key"] == "a1"
