"""What a large body holds, seen from its bytes before anything is built of them.

A value of two bytes becomes an object of a hundred. So a large body is first reduced to its brackets, commas and
colons. It is done piece by piece: one long call would keep every other thread from Python.
"""

from __future__ import annotations

import re

_PIECE_BYTES = 65_536
TEXT = rb'"(?:[^"\\]++|\\.)*+"'
_ONE_TEXT = re.compile(TEXT, re.DOTALL)
_TEXTS = re.compile(rb'(?:[^"]{0,%d}+%b){1,500}+' % (_PIECE_BYTES, TEXT), re.DOTALL)
_FLAT = re.compile(rb"[\[{][,:]*+[\]}]")
_OTHER = tuple(byte for byte in range(256) if byte not in b"[]{},:")
MAX_DEPTH = 4
"""Most objects and arrays in each other: a body, its list and a row of it; one more is to be refused by its name."""
WINDOW_BYTES = 8192
FREE_ITEMS = 100_000
"""Items that are not counted one by one: unread, they take 7 MiB."""


def structure(body: bytes) -> bytes:
    """The brackets, commas and colons of JSON, without those inside texts.

    >>> structure(b'{"a,b": [1, 2, "]"]}')
    b'{:[,,]}'
    """
    other, place = bytes(_OTHER), 0
    parts: list[bytes] = []
    while place < len(body):
        texts = _TEXTS.match(body, place)
        if texts is not None:
            parts.append(_ONE_TEXT.sub(b"", texts[0]).translate(None, other))
            place = texts.end()
            continue
        end = min(len(body), place + _PIECE_BYTES)
        quote = body.find(b'"', place, end)  # of a text without an end: nothing behind it is JSON
        parts.append(body[place : end if quote < 0 else quote].translate(None, other))
        place = end if quote < 0 else len(body)
    return b"".join(parts)


def outline(part: bytes) -> bytes | None:
    """The commas and colons of the outermost object or array alone.

    None where it is nested too deeply.

    >>> outline(b'{"instances": [[1, 2], [3, 4]], "context": {"a": 1}}')
    b':,:'
    """
    left = structure(part)[1:-1]
    for _ in range(MAX_DEPTH - 1):
        left = _FLAT.sub(b"", left)
    return None if left.translate(None, b",:") else left


def is_long(part: bytes, most: int) -> bool:
    """Whether a list has more than so many items, or is nested too deeply.

    A short one is not looked at.
    """
    if part.count(b",") <= FREE_ITEMS:
        return False
    items = outline(part)
    return items is None or items.count(b",") >= most


def containers(body: bytes, most: int) -> int:
    """Count the objects and arrays.

    Brackets inside texts count too, as long as that is not more than ``most``.
    """
    found = body.count(b"[") + body.count(b"{")
    if found <= most:
        return found
    marks = structure(body)
    return marks.count(b"[") + marks.count(b"{")


def count_values(part: bytes, most: int) -> int:
    """Count the values of a part of a body, wherever in it.

    Commas inside texts count too, as long as that is less than ``most``.

    >>> count_values(b'["a,b,c", 2]', 9), count_values(b'["a,b,c", 2]', 2)
    (4, 2)
    """
    commas = part.count(b",")
    return 1 + (commas if commas < most else structure(part).count(b","))


def may_have_wide_text(body: bytes) -> bool:
    """Whether a long text may take four times its bytes once it is built.

    No where all is ASCII, or each few thousand bytes have a quotation mark.
    """
    if body.isascii() and b"\\u" not in body:
        return False
    places = range(0, len(body) - WINDOW_BYTES, WINDOW_BYTES)
    return any(body.find(b'"', place, place + WINDOW_BYTES) < 0 for place in places)
