"""Is an ONNX file whole and by itself? Read from its bytes alone, before onnxruntime may open any file it names.

Protocol Buffers are walked by hand: to import ``onnx`` costs more than to start the service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.errors import BundleError

# The messages of onnx.proto3 in which a tensor can be, by the numbers of the fields that lead there.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# A tree's attributes are long lists of numbers, each with its key: these are passed over in one step.
_NUMBERS = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f]|\x3d.{4})++", re.DOTALL)
_LONGEST_VARINT = 10


def check_self_contained(data: bytes, what: str) -> None:
    """Refuse an ONNX model that is cut off, or that keeps tensors in other files, wherever they lie.

    Args:
        data: the whole file.
        what: names the file in errors.

    Raises:
        BundleError: it is refused; one line says why.
    """
    try:
        external = any(_external(data))
    except (IndexError, ValueError):
        raise BundleError(f"{what}: is not a whole ONNX model; export it again") from None
    if external:
        raise BundleError(
            f"{what}: keeps tensors in other files; save it as one file (onnx.save without external data)"
        )


def _external(data: bytes) -> Iterator[bool]:
    """For each field of each tensor, whether it points out of the file."""
    if not data:
        raise ValueError("empty")
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        inside = _INSIDE[message]
        for field, kind, first, last in _fields(data, start, end, skip=message == "attribute"):
            if field in inside and kind == _BYTES:
                waiting.append((inside[field], first, last))
            elif message == "tensor":
                yield field == _EXTERNAL_DATA or (field == _DATA_LOCATION and data[first:last] != b"\x00")


def _fields(data: bytes, start: int, end: int, *, skip: bool) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message between two places: number, wire type, and the places of the content."""
    while start < end:
        if skip and (numbers := _NUMBERS.match(data, start, end)):
            start = numbers.end()
            continue
        key, start = _varint(data, start)
        kind = key & 7
        if kind == _BYTES:
            length, first = _varint(data, start)
            last = first + length
        elif kind == _VARINT:
            first, (_, last) = start, _varint(data, start)
        elif kind in (_FIXED64, _FIXED32):
            first, last = start, start + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError("no such wire type")
        if last > end:
            raise ValueError("cut off")
        yield key >> 3, kind, first, last
        start = last


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A number of variable length, and the place behind it."""
    value = 0
    for shift in range(_LONGEST_VARINT):
        byte = data[start + shift]
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
            return value, start + shift + 1
    raise ValueError("too long a number")
