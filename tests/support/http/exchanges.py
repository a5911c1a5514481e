"""Raw requests, and what a connection answers to them: over the fast path in any pieces, or by uvicorn one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from tests.support.connections import Scene, Wire
from tests.support.raw_client import Reply

FOLDER = Path(__file__).parents[2] / "server" / "corpus"
USUAL = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("usual/*.http"))}
"""One valid request each, after which the connection stays open."""
ODD = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("odd/*.http"))}
"""What is refused, ends the connection, is not whole, or is more than one request."""
CORPUS = {**USUAL, **ODD}
NO_HTTP = b"Invalid HTTP request received."


class Exchange(NamedTuple):
    """The replies of a connection, without what is new each time, and whether the server ended it behind them.

    Attributes:
        is_ended: None where part of a request came last: it may be refused before the rest is there.
    """

    replies: list[Reply]
    is_ended: bool | None

    def is_like(self, expected: Exchange) -> bool:
        """Whether this exchange went as expected, or as uvicorn has it where something behind it is no HTTP.

        It answers 400 as soon as it reads that, and ends the connection: replies to requests that came in the same
        moment are lost.
        """
        if not (self.replies and self.replies[-1].body == NO_HTTP and expected.is_ended):
            return self.replies == expected.replies and expected.is_ended in (None, self.is_ended)
        *earlier, _ = self.replies
        return bool(self.is_ended) and earlier == expected.replies[: len(earlier)]


class _Ends:
    """Where the requests in some bytes end."""

    def __init__(self, data: bytes) -> None:
        self.found = [0]
        self._place = 0
        parser = HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        with suppress(HttpParserError):
            for self._place in range(1, len(data) + 1):
                with suppress(HttpParserUpgrade):
                    parser.feed_data(data[self._place - 1 : self._place])

    def on_message_complete(self) -> None:
        """Note the place."""
        self.found.append(self._place)


def split_requests(data: bytes) -> list[bytes]:
    """The whole requests in these bytes and, at the end, what is none; empty where nothing is left."""
    ends = [*_Ends(data).found, len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


async def exchange_by_uvicorn(scene: Scene, data: bytes) -> Exchange:
    """What uvicorn answers to the requests in these bytes where each comes after the reply to the one before."""
    wire = scene.connect(by_uvicorn=True)
    *requests, rest = split_requests(data)
    replies: list[Reply] = []
    for request in requests:
        await wire.packets([request])
        replies += await wire.replies(1)
    await wire.packets([rest])
    replies += await wire.replies(1) if wire.is_closing() else []
    found = _end(wire, replies)
    return found._replace(is_ended=None) if rest and not found.is_ended else found


async def exchange(scene: Scene, pieces: Sequence[bytes], number: int) -> Exchange:
    """So many replies of a new connection, to bytes that come in these pieces."""
    wire = scene.connect()
    await wire.packets([piece for piece in pieces if piece])
    return _end(wire, await wire.replies(number))


async def exchange_behind(scene: Scene, before: Sequence[bytes], data: bytes, number: int) -> Exchange:
    """So many replies to bytes that come once some requests before them are answered."""
    wire = scene.connect()
    for request in before:
        await wire.packets([request])
        await wire.replies(1)
    await wire.packets([data])
    return _end(wire, await wire.replies(number))


def cut(data: bytes, places: Sequence[float]) -> list[bytes]:
    """Bytes cut at some places between 0 and 1."""
    ends = [0, *sorted(int(place * len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def _end(wire: Wire, replies: list[Reply]) -> Exchange:
    is_ended = wire.is_closing()
    wire.leave()
    return Exchange([_without_ids(reply) for reply in replies], is_ended)


def _without_ids(reply: Reply) -> Reply:
    headers = {name: value for name, value in reply.headers.items() if name != "x-request-id" or value == "mine"}
    return Reply(reply.status, headers, re.sub(rb'"prediction_id":"[0-9a-f-]{20,}"', b"", reply.body))
