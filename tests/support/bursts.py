"""Requests as they may come in packets: usual and odd ones, behind one another, cut anywhere."""

from __future__ import annotations

import re
from itertools import pairwise

from tests.support.connections import Wire
from tests.support.raw_client import BODY, LIVE, Reply, post

SPACED = b'{"features":\r\n\r\n[0.1, 0.2, 0.3]}'
LONGER = b'{"features": [0.25, 0.25, 0.35]}'
OUTCOME = post(b'{"prediction_id": "nobody", "outcome": "yes"}', target=b"/outcome")
USUAL = [
    post(),
    post(LONGER),
    post(SPACED),
    post(b"{"),
    post(b""),
    post(BODY, b"x-api-key: k"),
    post(BODY, b"x-request-id: mine"),
    post().replace(b"host", b"HOST"),
    post(BODY, b"content-encoding: br"),
    post().replace(b"POST", b"GET"),
    post(target=b"/predict?"),
    post(BODY, b"connection: keep-alive, x"),
    b"\r\n" + post(),
    b"\n" + post(),
    LIVE,
    OUTCOME,
]
ODD = [
    *USUAL,
    post(BODY, b"transfer-encoding: chunked"),
    post(BODY, b"transfer-encoding: identity"),
    post(BODY, b"content-length: %d" % len(BODY)),
    post(BODY, b"content-length: 1"),
    post(BODY, b"x-folded: one\r\n two"),
    post(BODY, b"x-spaced : one"),
    post(BODY, b"connection: close"),
    post(version=b"1.0"),
    post().replace(b"\r\n", b"\n"),
    post().replace(b"content-length: ", b"content-length: +"),
    b"\r\n\r\n" + post(),
]


async def all_replies(wire: Wire, bursts: list[tuple[list[bytes], list[float]]]) -> tuple[Reply | bool, ...]:
    """The answers to bursts of requests, each burst cut at some places, and whether the connection has ended."""
    found: list[Reply] = []
    for requests, cuts in bursts:
        data = b"".join(requests)
        places = [0, *sorted(int(cut * len(data)) for cut in cuts), len(data)]
        await wire.packets([data[start:end] for start, end in pairwise(places) if start < end])
        found += await wire.replies(len(requests))
    ended = wire.is_closing()
    wire.leave()
    return *map(_without_ids, found), ended


def _without_ids(reply: Reply) -> Reply:
    """The answer without what is different each time."""
    headers = {name: value for name, value in reply.headers.items() if name != "x-request-id" or value == "mine"}
    return Reply(reply.status, headers, re.sub(rb'"prediction_id":"[0-9a-f-]{20,}"', b"", reply.body))
