"""What a channel is: somewhere that messages are sent to, and that may fail."""

from __future__ import annotations

from typing import Protocol

from app.types import Json


class ChannelFailed(Exception):
    """A message was not taken; it will be sent again.

    Args:
        reason: what went wrong, without the channel's URL or any other secret.
        retry_after_s: when the channel asked to be left alone for so long.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Channel(Protocol):
    """Sends messages, each in a thread of the channel's own, one at a time."""

    @property
    def name(self) -> str:
        """Its name in the outbox, in logs and in results; it reveals nothing of its URL but the scheme."""

    def send(self, body: Json, *, timeout_s: float) -> None:
        """Send one message and return once it was taken.

        Raises:
            ChannelFailed: it was not.
        """
