"""The interface of channels, and the thread that sends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import Protocol

import structlog

from app.types import Json


class ChannelFailed(Exception):
    """The channel did not take a message; it will be sent again.

    Args:
        reason: what went wrong, without the channel's URL or any other secret.
        retry_after_s: the pause that the channel asked for.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """Sends messages to a receiver, one at a time."""

    @property
    def name(self) -> str:
        """Give the channel's name in the outbox, in logs and in results.

        Of its URL it shows the scheme alone.
        """

    def send(self, body: Json, *, timeout_s: float) -> None:
        """Send one message and return once the receiver has taken it.

        Raises:
            ChannelFailed: the receiver did not take it.
        """


TIMEOUT_S = 30.0
"""How long a channel may take for one message."""
GIVEN_UP = 10.0
"""After so many time-outs a thread that hangs no longer keeps the next message waiting."""
MAX_HANGING_MESSAGES = 10
"""Most threads that may hang for ever; with so many the channel stays busy."""


class SendingThread:
    """Send one message at a time in a daemon thread.

    The end of the process does not wait for it.
    """

    def __init__(
        self, channel: Channel, *, timeout_s: float = TIMEOUT_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._clock = clock
        self._began: dict[object, float] = {}

    @property
    def busy(self) -> bool:
        """Tell whether a message is being sent, or hangs after its time-out and is not given up yet."""
        latest = self._clock() - GIVEN_UP * self._timeout_s
        hanging = list(self._began.values())
        return len(hanging) >= MAX_HANGING_MESSAGES or any(began > latest for began in hanging)

    async def send(self, body: Json) -> None:
        """Send a message; call it only while not :attr:`busy`.

        Raises:
            ChannelFailed: the receiver did not take it, or not in time.
        """
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[None] = loop.create_future()

        def finish(failure: ChannelFailed | None) -> None:
            if sent.done():
                return
            if failure is None:
                sent.set_result(None)
            else:
                sent.set_exception(failure)

        this = object()

        def run() -> None:
            failure = self._send(body)
            del self._began[this]
            with suppress(RuntimeError):  # the loop is closed, so that nothing waits any more
                loop.call_soon_threadsafe(finish, failure)

        if self._began:
            hanging = len(self._began)
            structlog.get_logger("delivery").error("channel_hangs", channel=self._channel.name, threads=hanging)
        self._began[this] = self._clock()
        Thread(target=run, name=f"plumbline-{self._channel.name}", daemon=True).start()
        try:
            async with asyncio.timeout(self._timeout_s):  # wait_for may lose a cancellation that meets the answer
                await sent
        except TimeoutError:
            raise ChannelFailed(f"no answer within {self._timeout_s:g} s") from None

    def _send(self, body: Json) -> ChannelFailed | None:
        """Send in this thread; the failure, if there is one.

        The text of an unexpected error is left out, since it may hold the URL.
        """
        try:
            self._channel.send(body, timeout_s=self._timeout_s)
        except ChannelFailed as failure:
            return failure
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the message is sent again
            return ChannelFailed(f"{type(error).__name__} in the channel")
        return None
