"""Raw requests, and what a connection answers to them: over the fast path in any pieces, or over ASGI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.support.connections import Scene
from tests.support.raw_client import Reply

FOLDER = Path(__file__).parents[2] / "server" / "corpus"
USUAL = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("usual/*.http"))}
"""One valid request each, after which the connection stays open."""
ODD = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("odd/*.http"))}
"""What is refused, ends the connection, is not whole, or is more than one request."""
CORPUS = {**USUAL, **ODD}
CLIENTS = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("clients/*.http"))}
"""What real clients send."""


class Exchange(NamedTuple):
    """The replies of a connection, without what is new each time, and whether the server ended it behind them."""

    replies: list[Reply]
    is_ended: bool


async def exchange(
    scene: Scene, pieces: Sequence[bytes], before: Sequence[bytes] = (), *, by_asgi: bool = False
) -> Exchange:
    """All replies of a new connection to bytes that come in these pieces, once some requests before are answered."""
    wire = scene.connect(by_asgi=by_asgi)
    for request in before:
        await wire.packets([request])
        await wire.settled_replies()
    await wire.packets([piece for piece in pieces if piece])
    replies = await wire.settled_replies()
    is_ended = wire.is_closing()
    wire.leave()
    return Exchange([without_ids(reply) for reply in replies], is_ended)


def cut(data: bytes, places: Sequence[float]) -> list[bytes]:
    """Bytes cut at some places between 0 and 1."""
    ends = [0, *sorted(int(place * len(data)) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def without_ids(reply: Reply) -> Reply:
    """A reply without the ids that are new each time."""
    headers = {name: value for name, value in reply.headers.items() if name != "x-request-id" or value == "mine"}
    return Reply(reply.status, headers, re.sub(rb'"prediction_id":"[0-9a-f-]{20,}"', b"", reply.body))
