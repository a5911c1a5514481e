"""A channel's own thread: whatever hangs in it delays nobody, not even the end of the process."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread

from app.alerting.channels import Channel, ChannelFailed
from app.types import Json

TIMEOUT_S = 30.0
"""How long a channel may take for one message."""


class SendingThread:
    """Sends one message at a time, in a daemon thread: at the end of the process nobody waits for it."""

    def __init__(self, channel: Channel, *, timeout_s: float = TIMEOUT_S) -> None:
        self._channel = channel
        self._timeout_s = timeout_s
        self._thread: Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a message is being sent, or still hangs after its time-out."""
        return self._thread is not None and self._thread.is_alive()

    async def send(self, body: Json) -> None:
        """Send a message; call it only while not :attr:`busy`.

        Raises:
            ChannelFailed: it was not taken, or not in time.
        """
        loop = asyncio.get_running_loop()
        sent: asyncio.Future[None] = loop.create_future()

        def settle(failure: ChannelFailed | None) -> None:
            if sent.done():
                return
            if failure is None:
                sent.set_result(None)
            else:
                sent.set_exception(failure)

        def run() -> None:
            failure = self._send(body)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(settle, failure)

        self._thread = Thread(target=run, name=f"plumbline-{self._channel.name}", daemon=True)
        self._thread.start()
        try:
            await asyncio.wait_for(sent, self._timeout_s)
        except TimeoutError:
            raise ChannelFailed(f"no answer within {self._timeout_s:g} s") from None

    def _send(self, body: Json) -> ChannelFailed | None:
        """Send here and now; the failure, and of an unexpected one only its kind: its text may hold the URL."""
        try:
            self._channel.send(body, timeout_s=self._timeout_s)
        except ChannelFailed as failure:
            return failure
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the message is sent again
            return ChannelFailed(f"{type(error).__name__} in the channel")
        return None
