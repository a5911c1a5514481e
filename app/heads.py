"""Heads of requests that were read before: a client repeats its head, to the byte, with every request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from app.api.together import Together

MOST_HEADS = 256
MOST_BYTES = 2048
"""Longest head that is kept."""
END = b"\r\n\r\n"
SECRET = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"x-api-key"))
"""Headers that are not kept for longer than their request."""


class Head(NamedTuple):
    """What a head said.

    Attributes:
        size: its bytes, with the empty line behind it.
        length: the bytes of the body that follows.
    """

    endpoint: Together
    headers: Mapping[bytes, bytes]
    size: int
    length: int


class Heads:
    """What the parser found in the heads of plain requests; the same bytes at a request's begin say the same again."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def find(self, data: bytes) -> Head | None:
        """The head at the begin of one whole request; None where it is unknown, or ``data`` is anything else."""
        head = self._known.get(data[: data.find(END) + len(END)])
        return head if head is not None and head.size + head.length == len(data) else None

    def keep(self, data: bytes, endpoint: Together, headers: Mapping[bytes, bytes], length: int) -> None:
        """Keep the head of one whole request, as ``data`` is where it ends with a body of this length."""
        size = data.find(END) + len(END)
        if size + length != len(data) or size > MOST_BYTES or not SECRET.isdisjoint(headers):
            return
        if len(self._known) >= MOST_HEADS:  # heads that are never the same, such as those with a trace
            self._known.clear()
        self._known[data[:size]] = Head(endpoint, headers, size, length)
