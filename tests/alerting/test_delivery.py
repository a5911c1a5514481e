"""Messages on their way through a real store to a real web server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event

import pytest

from app.alerting.channels.base import ChannelFailed
from app.alerting.delivery import EXPIRY_S, pause_s
from app.store.queries.outbox import Message
from app.types import Json, Micros
from tests.support.alerting.deliverer import Clock, channel_to, office
from tests.support.deadlines import DEADLINE_S, until
from tests.support.receivers import Webhook, webhook


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty SQLite store."""
    return f"sqlite:///{tmp_path / 'store.db'}"


def test_a_message_arrives_once(store_url: str) -> None:
    """It is sent, counted and never sent again; what fires and its end arrive in order."""

    async def scenario(receiver: Webhook) -> dict[str, float]:
        async with office(store_url, channel_to(receiver)) as posted:
            await posted.put("a")
            await posted.put("b")
            await posted.live(10)
            await posted.put("a", "resolved")
            await posted.live(600, step_s=60)
            return posted.results()

    with webhook() as receiver:
        results = asyncio.run(scenario(receiver))

    assert receiver.titles == ["firing a", "firing b", "resolved a"]
    assert [body["type"] for body in receiver.taken] == ["failure"] * 3
    assert results == {"delivered": 3, "retried": 0, "expired": 0}


@pytest.mark.parametrize("status", [500, 429])
def test_a_channel_that_refuses_is_tried_again(url: str, status: int) -> None:
    """After three refusals the message arrives, once, and other messages did not wait for it."""

    async def scenario(receiver: Webhook) -> dict[str, float]:
        async with office(url, channel_to(receiver)) as posted:
            receiver.answers = [status] * 3
            await posted.put("a")
            await posted.live(400)
            return posted.results()

    with webhook() as receiver:
        results = asyncio.run(scenario(receiver))

    assert (receiver.titles, receiver.tried) == (["firing a"], 4)
    assert results == {"delivered": 1, "retried": 3, "expired": 0}


def test_a_channel_that_is_asked_too_often_is_left_alone(url: str) -> None:
    """After a 429 no message is tried before the pause is over, and then one; when that is taken, so are the others."""

    async def scenario(receiver: Webhook) -> list[int]:
        tried = []
        async with office(url, channel_to(receiver)) as posted:
            receiver.answers = [429, 429]
            for alert in "abcd":
                await posted.put(alert)
            for _ in range(5):
                await posted.live(30)
                tried.append(receiver.tried)
            return tried

    with webhook() as receiver:
        tried = asyncio.run(scenario(receiver))

    assert tried == [1, 1, 2, 2, 6]
    assert sorted(receiver.titles) == [f"firing {alert}" for alert in "abcd"]


def test_a_channel_down_for_an_hour(url: str) -> None:
    """What fires still arrives once, within the longest pause; what began and ended meanwhile is one message."""
    clock = Clock()

    async def scenario(receiver: Webhook) -> float:
        async with office(url, channel_to(receiver), clock=clock) as posted:
            receiver.answers = [503] * 1000
            await posted.put("lasting")
            await posted.put("passing")
            await posted.live(1800, step_s=20)
            await posted.put("passing", "resolved")
            await posted.live(1800, step_s=20)
            receiver.answers.clear()
            up = clock.now
            while len(receiver.taken) < 2:
                await posted.live(20, step_s=20)
            seconds = (clock.now - up) / 1e6
            await posted.live(3600, step_s=60)
            return seconds

    with webhook() as receiver:
        seconds = asyncio.run(scenario(receiver))

    assert sorted(receiver.titles) == ["firing lasting", "resolved passing"]
    assert seconds <= 900 * 1.25 + 40
    assert receiver.tried < 40


def test_old_messages_expire(url: str) -> None:
    """A channel that is down for a day loses the message; that is counted, and it is not tried for ever."""

    async def scenario(receiver: Webhook) -> dict[str, float]:
        async with office(url, channel_to(receiver)) as posted:
            receiver.answers = [500] * 1000
            await posted.put("a")
            await posted.live(EXPIRY_S + 1000, step_s=500)
            receiver.answers.clear()
            await posted.live(5000, step_s=500)
            return posted.results()

    with webhook() as receiver:
        results = asyncio.run(scenario(receiver))

    assert (receiver.titles, results["expired"], results["delivered"]) == ([], 1, 0)


class Hanging:
    """A channel that never answers until it is let go."""

    name = "hanging"

    def __init__(self) -> None:
        self.tried = 0
        self.free = Event()

    def send(self, body: Json, *, timeout_s: float) -> None:  # noqa: ARG002 - a channel that minds neither
        """Hang."""
        self.tried += 1
        self.free.wait()


def test_a_hanging_channel_holds_nobody_up(url: str) -> None:
    """After its time-out the message waits; nothing is sent beside what still hangs, and stopping waits for nothing."""
    channel = Hanging()

    async def scenario() -> float:
        async with office(url, channel, timeout_s=0.5) as posted, asyncio.timeout(DEADLINE_S):
            await posted.put("a")
            await posted.deliverer.turn()
            await posted.live(1200, step_s=20)
            posted.deliverer.task.start()
            await posted.deliverer.task.stop()
            return posted.results()["retried"]

    retried = asyncio.run(scenario())
    tried = channel.tried
    channel.free.set()

    assert (tried, retried) == (1, 1)


def test_the_end_does_not_wait_for_a_message_under_way(url: str) -> None:
    """The task ends while its channel hangs, long before the channel's time is over."""
    channel = Hanging()

    async def scenario() -> bool:
        async with office(url, channel, timeout_s=10 * DEADLINE_S) as posted, asyncio.timeout(DEADLINE_S):
            await posted.put("a")
            posted.deliverer.task.start()
            await until(lambda: channel.tried)
            await posted.deliverer.task.stop()
            return posted.deliverer.task.alive

    alive = asyncio.run(scenario())
    channel.free.set()

    assert not alive


class Broken:
    """A channel whose library raises an error that holds the URL."""

    name = "broken"

    def send(self, body: Json, *, timeout_s: float) -> None:  # noqa: ARG002 - a channel that minds neither
        """Fail."""
        raise RuntimeError("https://token@secret.example")


def test_an_unexpected_error_keeps_its_text(url: str) -> None:
    """What a library raises is a failure like any other, and of its text, which may hold the URL, nothing is kept."""

    async def scenario() -> str:
        async with office(url, Broken()) as posted:
            await posted.put("a")
            await posted.live(4)
            [error] = await posted.readers.run(lambda c: c.exec_driver_sql("SELECT error FROM outbox").scalars().all())
            return str(error)

    assert asyncio.run(scenario()) == "RuntimeError in the channel"


def test_killed_between_claim_and_delivery(url: str) -> None:
    """Who dies after the claim leaves the message to the next, which sends it when the claim has run out."""
    clock = Clock()

    async def first(receiver: Webhook) -> None:
        async with office(url, channel_to(receiver), clock=clock) as posted:
            await posted.put("a")
            message, _ = await posted.journal.run(posted.deliverer.claim)
            assert message is not None

    async def second(receiver: Webhook) -> list[int]:
        counts = []
        async with office(url, channel_to(receiver), clock=clock) as posted:
            for _ in range(6):
                await posted.live(30)
                counts.append(len(receiver.taken))
        return counts

    with webhook() as receiver:
        asyncio.run(first(receiver))
        counts = asyncio.run(second(receiver))

    assert counts == [0, 0, 0, 1, 1, 1]


def test_the_task_delivers_by_itself(url: str) -> None:
    """Started, it delivers what is stored when woken, and ends when told to."""

    async def scenario(receiver: Webhook) -> tuple[bool, bool]:
        async with office(url, channel_to(receiver)) as posted:
            posted.deliverer.task.start()
            await posted.put("a")
            posted.deliverer.task.wake()
            await asyncio.to_thread(receiver.wait_for, 1)
            alive = posted.deliverer.task.alive
            await posted.deliverer.task.stop()
            return alive, posted.deliverer.task.alive

    with webhook() as receiver:
        assert asyncio.run(scenario(receiver)) == (True, False)
    assert receiver.titles == ["firing a"]


def test_pauses_double_and_differ() -> None:
    """From about five seconds to about a quarter of an hour; a channel that asks for more gets it, up to a day."""
    pauses = [pause_s(Message("a/firing/x", "x", "firing", {}, Micros(0), tries)) for tries in range(1, 40)]
    nominal = [min(5 * 2.0 ** (tries - 1), 900) for tries in range(1, 40)]
    message = Message("a/firing/x", "x", "firing", {}, Micros(0), 1)

    assert all(0.75 * each <= pause <= 1.25 * each for pause, each in zip(pauses, nominal, strict=True))
    assert len(set(pauses)) == len(pauses)
    assert [pause_s(message, 600.0), pause_s(message, 1e12)] == [600.0, EXPIRY_S]
    assert ChannelFailed("why", 3.0).retry_after_s == 3.0
