"""Streams of bytes that are nearly HTTP, made from a corpus of requests, and what a server may answer to them."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.support.deadlines import DEADLINE_S

TOKENS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"\xff", b"\r\n\r\n", b"0\r\n\r\n", b"%00", b"../",
    b"?", b"#", b"*", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"{", b"[", b'"',
    b"\\u0000", b"\x16\x03\x01\x02\x00",
)  # fmt: skip
LINES = (
    b"content-length: 5", b"content-length: 0", b"Content-Length: 99999999999999999999", b"content-length: -1",
    b"host: other.example", b"transfer-encoding: chunked", b"Transfer-Encoding: gzip, chunked",
    b"transfer-encoding: identity", b"content-encoding: gzip", b"connection: close",
    b"connection: keep-alive, upgrade", b"upgrade: h2c", b"Upgrade: websocket", b"expect: 100-continue",
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"trailer: x", b"te: trailers", b"range: bytes=0-1",
    b"x-request-id: \x01", b"authorization: Bearer x", b"x-api-key: ", b"origin: http://evil.example",
    b"accept-encoding: gzip", b"content-type: text/plain", b" folded", b"x" * 9000 + b": 1", b"x: " + b"y" * 70_000,
    b"nonsense", b": no name",
)  # fmt: skip
NUMBERS = (
    b"0",
    b"-1",
    b"1e9",
    b"0x10",
    b"2147483648",
    b"18446744073709551616",
    b"9" * 400,
    b"1.7976931348623157e309",
    b"NaN",
    b"",
)
CHUNK_ENDS = (b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"", b"0\r\n", b"00000000000\r\n\r\n", b"-1\r\n\r\n")
_NUMBER = re.compile(rb"\d+(?:\.\d+)?")
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_LENGTH = re.compile(rb"^content-length: (\d+)\r$", re.MULTILINE)
_CHUNK = re.compile(rb"([0-9a-f]+)\r\n")
MAX_ANSWER_BYTES = 16 * 2**20


class Stream(NamedTuple):
    """What one client sends: in these pieces, and how it ends."""

    pieces: Sequence[bytes]
    is_cut_off: bool


def stream(corpus: Sequence[bytes], seed: int) -> Stream:
    """One to four requests of a corpus behind each other with some mistakes in them: the same ones for a seed."""
    chance = random.Random(seed)
    data = b"".join(chance.choice(corpus) for _ in range(chance.randint(1, 4)))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 6))):
        data = chance.choice(MUTATIONS)(data, chance, corpus)
    ends = sorted(chance.randint(0, len(data)) for _ in range(chance.choice((0, 0, 1, 3, 8))))
    pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
    return Stream([piece for piece in pieces if piece], chance.random() < 0.1)


def _insert(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.choice(TOKENS) + data[place:]


def _line(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    places = [found.end() for found in re.finditer(rb"\r\n", data)] or [0]
    place = chance.choice(places)
    return data[:place] + chance.choice(LINES) + b"\r\n" + data[place:]


def _double(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    lines = data.split(b"\r\n")
    place = chance.randrange(len(lines))
    return b"\r\n".join([*lines[:place], *[lines[place]] * chance.choice((2, 2, 3, 200)), *lines[place + 1 :]])


def _remove(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + data[place + chance.choice((1, 1, 2, 8, 100)) :]


def _repeat(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(data))
    part = data[place : place + chance.choice((1, 4, 40))]
    return data[:place] + part * chance.choice((2, 3, 500)) + data[place:]


def _replace(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    place = chance.randint(0, len(data))
    return data[:place] + chance.randbytes(1) + data[place + 1 :]


def _number(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return data
    chosen = chance.choice(found)
    return data[: chosen.start()] + chance.choice(NUMBERS) + data[chosen.end() :]


def _truncate(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: chance.randint(0, len(data))]


def _cross(data: bytes, chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    other = chance.choice(corpus)
    return data[: chance.randint(0, len(data))] + other[chance.randint(0, len(other)) :]


def _chunk(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    """The last body in chunks, of which one says another size than it has."""
    head, end, body = data.rpartition(b"\r\n\r\n")
    size = chance.choice((1, 7, 1000))
    parts = [body[place : place + size] for place in range(0, len(body), size)] or [b""]
    wrong = chance.randrange(2 * len(parts))
    told = [b"%x" % (len(part) + (place == wrong)) for place, part in enumerate(parts)]
    chunks = b"".join(b"%b\r\n%b\r\n" % pair for pair in zip(told, parts, strict=True))
    head = re.sub(rb"(?i)content-length: \d+", b"transfer-encoding: chunked", head)
    return head + end + chunks + chance.choice(CHUNK_ENDS)


MUTATIONS: tuple[Callable[[bytes, random.Random, Sequence[bytes]], bytes], ...] = (
    *(_insert, _line, _line, _double, _remove, _repeat, _replace, _number, _truncate, _cross, _chunk),
)


async def answers(port: int, sent: Stream) -> list[int] | None:
    """The statuses that a server answers to a stream before it ends the connection.

    None where the stream was cut off, so that nobody read an answer. The client says when it has sent all, and reads
    on: a server that keeps the connection then, or whose last answer is not whole, fails.
    """
    connection = socket.socket()
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE_S):
        try:
            await loop.sock_connect(connection, ("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reading = asyncio.ensure_future(_read(connection))
            try:
                for piece in sent.pieces:
                    await loop.sock_sendall(connection, piece)
                if sent.is_cut_off:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    reading.cancel()
                    return None
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the server has had enough
            return statuses(await reading)
        finally:
            connection.close()


async def _read(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := await asyncio.get_running_loop().sock_recv(connection, 2**20):
            found += part
            assert len(found) < MAX_ANSWER_BYTES
    except ConnectionResetError:
        pass
    return found


def statuses(data: bytes) -> list[int]:
    """The statuses of whole answers that make up all these bytes; AssertionError where they are not.

    The answer to HEAD has a length and no body, and which answer is one's to HEAD is not known: both are tried.
    """
    waiting: list[tuple[int, list[int]]] = [(0, [])]
    while waiting:
        place, found = waiting.pop()
        if place == len(data):
            return found
        if head := _ANSWER.match(data, place):
            status = [*found, int(head[1])]
            waiting.append((head.end(), status))
            if length := _LENGTH.search(head[2]):
                waiting.append((head.end() + int(length[1]), status))
            elif b"transfer-encoding: chunked" in head[2] and (end := _end_of_chunks(data, head.end())):
                waiting.append((end, status))
    raise AssertionError(f"no whole answers: {data[:2000]!r}")


def _end_of_chunks(data: bytes, place: int) -> int | None:
    while chunk := _CHUNK.match(data, place):
        place = chunk.end() + int(chunk[1], 16) + len(b"\r\n")
        if int(chunk[1], 16) == 0:
            return place
    return None
