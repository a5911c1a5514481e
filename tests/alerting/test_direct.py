"""What must be told while the store is away."""

from __future__ import annotations

import asyncio
import time

from app.alerting.direct import DirectTelling
from app.alerting.message import Pages
from app.alerting.notify import open_channels
from app.alerting.playbook import Playbook
from app.configalerts import Alerts
from app.store.alerts import Alert, Finding
from app.types import Micros
from tests.receivers import Webhook, webhook

FINDING = Finding("critical", 12.0, 10.0, "the store cannot be reached for 12 s")
ALERT = Alert("a1", "store_unreachable", "m", "1", "firing", FINDING, Micros(0), Micros(0), 1, "")


def tell(*items: object) -> float:
    """Tell the channels of the alert; the seconds until the caller goes on."""

    async def scenario() -> float:
        direct = DirectTelling(
            open_channels(Alerts.model_validate({"notify": list(items)}).notify), Pages("http://service", Playbook(""))
        )
        started = time.monotonic()
        direct(ALERT)
        seconds = time.monotonic() - started
        await asyncio.gather(*direct._sending)
        await direct.stop()
        return seconds

    return asyncio.run(scenario())


def test_channels_are_told_without_a_store() -> None:
    """Those that hear of its severity do, an Alertmanager too; there is no link to what was not stored."""
    with webhook() as receiver, webhook() as manager, webhook() as other:
        seconds = tell(
            receiver.url,
            f"alertmanager+http://127.0.0.1:{manager.port}",
            {"url": other.url, "severities": ["high"]},
        )

    assert receiver.titles == ["[CRITICAL] m 1: store_unreachable"]
    assert "/reports/" not in receiver.taken[0]["message"]
    assert [alert["labels"]["alertname"] for alert in manager.taken[0]] == ["store_unreachable"]
    assert other.taken == []
    assert seconds < 0.5


def test_a_refusal_is_tried_again() -> None:
    """A channel that refuses once hears it after the pause, once."""

    async def scenario(receiver: Webhook) -> None:
        routes = open_channels(Alerts.model_validate({"notify": [receiver.url]}).notify)
        direct = DirectTelling(routes, Pages("", Playbook("")), pause=lambda message: 0.01 * message.tries)
        direct(ALERT)
        await asyncio.to_thread(receiver.wait_for, 1)
        await direct.stop()

    with webhook() as receiver:
        receiver.answers = [500]
        asyncio.run(scenario(receiver))

    assert (receiver.titles, receiver.tried) == (["[CRITICAL] m 1: store_unreachable"], 2)
