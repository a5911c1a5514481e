"""The two sides of requests that are answered together: what does the work, and whose they are."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from app.api.wire import Call, Reply

Item = TypeVar("Item")
Done = TypeVar("Done")


class Batch(Protocol[Item, Done]):
    """What an endpoint does with many requests at once."""

    @property
    def most(self) -> int:
        """Most requests that it takes at this moment."""

    def read(self, calls: Sequence[Call]) -> list[Item | None]:
        """What is in each request; None for one that has to go alone."""

    async def settle(self, calls: Sequence[Call], items: Sequence[Item]) -> Done:
        """Do what they ask for, begun before anything else happens in the event loop.

        Raises:
            Unavailable: nothing of it was done, and all are told so.
            Exception: nothing of it was done; each goes alone, so that only the guilty fails.
        """

    def replies(self, calls: Sequence[Call], done: Done) -> list[Reply]:
        """The replies, in order; what fails now fails for all, since done is done and must not be done again."""


class Caller(Protocol):
    """One whole request on its connection."""

    call: Call

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its connection."""

    @property
    def neighbours(self) -> int:
        """How many connections there are; each has one request under way at most."""

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """What the server waits for when it ends."""

    def reply(self, reply: Reply) -> None:
        """Answer it."""

    def go_alone(self) -> None:
        """Leave it to a task of its own."""
