"""HTTP without I/O: requests come out whole and in turn, and what can be read in two ways is refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from httptools import HttpRequestParser
from hypothesis import given
from hypothesis import strategies as some

from app.api.coalescing import HotRoutes
from app.api.http import BrokenBody, Reply
from app.server.http_connection import (
    MAX_SKIP_BYTES,
    BadRequest,
    ChunkedBody,
    HttpConnection,
    OtherRequest,
    PartialRequest,
    PlainRequest,
    SizedBody,
)
from app.server.http_head import MAX_HEAD_BYTES
from tests.support.connections import hot_endpoint
from tests.support.http.exchanges import CORPUS, USUAL, cut
from tests.support.raw_client import BODY, LIVE, post

MAX_BODY_BYTES = 100_000
HEAD = post().removesuffix(BODY)
OUTCOME = USUAL["outcome"]
REPLY = Reply(200, b"{}")
PLACES = some.lists(some.floats(0, 1), max_size=6)


def new_connection() -> HttpConnection:
    """A connection with two hot endpoints, which nothing is asked of here."""
    routes: HotRoutes = {(b"POST", path): hot_endpoint(path.decode()) for path in (b"/predict", b"/outcome")}
    return HttpConnection(routes, MAX_BODY_BYTES)


class Found(NamedTuple):
    """What came out of a connection: paths, headers and bodies of plain requests, the target of another, a mistake."""

    requests: list[tuple[str, dict[bytes, bytes], bytes]]
    other: bytes | None = None
    mistake: str | None = None


def read_all(connection: HttpConnection, pieces: Iterable[bytes]) -> Found:
    """All that comes out of a connection where each plain request is answered at once, up to the first other one."""
    found = Found([])
    for piece in pieces:
        connection.receive(piece, 0.0)
        while event := connection.next_event():
            if isinstance(event, OtherRequest):
                found = found._replace(other=event.head.target)
            elif isinstance(event, BadRequest):
                found = found._replace(mistake=event.detail)
            elif isinstance(event, PlainRequest):
                found.requests.append((event.endpoint.path, dict(event.headers), event.body))
                connection.send(REPLY, "id")
    return found


class Recorder:
    """What httptools finds in whole requests: targets, headers and bodies."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[tuple[str, dict[bytes, bytes], bytes]] = []
        self._request: tuple[bytes, dict[bytes, bytes], bytes] = (b"", {}, b"")
        HttpRequestParser(self).feed_data(data)

    def on_message_begin(self) -> None:
        """Begin with nothing."""
        self._request = (b"", {}, b"")

    def on_url(self, part: bytes) -> None:
        """Note the target."""
        self._request = (self._request[0] + part, *self._request[1:])

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header, without the blanks around its value, of which httptools keeps some."""
        self._request[1][name.lower()] = value.strip(b" \t")

    def on_body(self, part: bytes) -> None:
        """Note a part of the body."""
        self._request = (*self._request[:2], self._request[2] + part)

    def on_message_complete(self) -> None:
        """Note the request."""
        target, headers, body = self._request
        self.requests.append((target.decode(), headers, body))


PLAIN = [data for data in USUAL.values() if b"http://" not in data and read_all(new_connection(), [data]).requests]
SOUP = some.lists(some.sampled_from(list(CORPUS.values())) | some.binary(max_size=60), min_size=1, max_size=5)


@given(SOUP, PLACES)
def test_pieces_do_not_matter(parts: list[bytes], places: list[float]) -> None:
    """However the bytes are cut, the same requests come out, and the same mistakes."""
    data = b"".join(parts)
    expected = read_all(new_connection(), [data])
    assert read_all(new_connection(), cut(data, places)) == expected


@given(some.lists(some.sampled_from(PLAIN), min_size=1, max_size=5), PLACES)
def test_plain_requests_are_what_httptools_reads(parts: list[bytes], places: list[float]) -> None:
    """A parser that shares no line with ours finds the same paths, headers and bodies."""
    data = b"".join(parts)
    assert read_all(new_connection(), cut(data, places)).requests == Recorder(data).requests


@given(some.lists(some.sampled_from(PLAIN), max_size=4), SOUP)
def test_known_heads_do_not_matter(before: list[bytes], parts: list[bytes]) -> None:
    """A connection that remembers heads reads what comes as a new one does."""
    data = b"".join(parts)
    connection = new_connection()
    assert len(read_all(connection, before).requests) == len(before)
    assert read_all(connection, [data]) == read_all(new_connection(), [data])


@pytest.mark.parametrize("around", [HEAD[:-2] + b"x: ", post(post())[: -len(post())]], ids=["header", "body"])
def test_a_known_head_within_another_request_is_none(around: bytes) -> None:
    """Bytes that would be a request are part of another one where they come in its midst, in a packet of their own."""
    known = new_connection()
    read_all(known, [post()])

    found = read_all(known, [around, post()])
    assert found == read_all(new_connection(), [around + post()])
    assert BODY not in [body for _, _, body in found.requests]


@pytest.mark.parametrize("piece_bytes", [1, 7, 64, 1000])
def test_a_plain_request(piece_bytes: int) -> None:
    """Head and body may come in any pieces; nothing comes out before the last one."""
    data = post(BODY, b"X-Api-Key: k")
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    connection = new_connection()
    for piece in pieces[:-1]:
        connection.receive(piece, 0.0)
        assert not isinstance(connection.next_event(), PlainRequest)
    connection.receive(pieces[-1], 0.0)

    event = connection.next_event()
    assert isinstance(event, PlainRequest)
    assert (event.endpoint.path, event.headers[b"x-api-key"], event.body) == ("/predict", b"k", BODY)


def test_requests_wait_for_the_reply_to_the_one_before() -> None:
    """Of many requests in one packet each comes out once the one before is answered."""
    connection = new_connection()
    connection.receive(post() + OUTCOME + LIVE, 0.0)
    first = connection.next_event()
    assert isinstance(first, PlainRequest)
    assert connection.next_event() is None
    assert connection.send(REPLY, "one").startswith(b"HTTP/1.1 200 OK\r\n")
    second = connection.next_event()
    assert isinstance(second, PlainRequest)
    assert [first.endpoint.path, second.endpoint.path] == ["/predict", "/outcome"]
    connection.send(REPLY, "two")
    other = connection.next_event()
    assert isinstance(other, OtherRequest)
    assert other.head.target == b"/health/live"


@pytest.mark.parametrize(
    "name",
    [
        "get", "query", "escaped-target", "live", "chunked", "expect", "expect-other", "empty-body", "close",
        "http-1.0", "http-1.0-keep-alive", "upgrade-h2c", "unknown-path-body",
    ],
)  # fmt: skip
def test_what_is_special_is_another_request(name: str) -> None:
    """Whatever is valid and no plain request goes to the application over ASGI."""
    found = read_all(new_connection(), [post(), CORPUS[name]])
    assert (len(found.requests), found.mistake) == (1, None)
    assert found.other is not None


@pytest.mark.parametrize(
    "name",
    [
        "length-and-chunked", "identity-coding", "length-twice", "length-plus", "length-huge", "lf-only",
        "lf-at-the-end", "lf-before", "folded-length", "folded", "space-before-colon", "tls", "garbage",
        "nul-in-header", "two-hosts", "no-host", "http-0.9", "connect", "http-2-preface", "chunked-twice",
        "target-fragment", "absolute-user",
    ],
)  # fmt: skip
def test_what_is_ambiguous_is_a_mistake(name: str) -> None:
    """It is refused, and nothing behind it is read."""
    found = read_all(new_connection(), [post(), CORPUS[name] + post()])
    assert (len(found.requests), found.other) == (1, None)
    assert found.mistake


@pytest.mark.parametrize("name", ["upgrade-h2c-body", "absolute-target"])
def test_an_upgrade_and_an_absolute_target_are_plain(name: str) -> None:
    """What clients send without a need is read as if they had not."""
    assert [path for path, _, _ in read_all(new_connection(), [CORPUS[name] * 2]).requests] == ["/predict"] * 2


def test_a_large_body_is_no_plain_request() -> None:
    """A body above the limit is refused by its head."""
    allowed, refused = (post(b" " * size) for size in (MAX_BODY_BYTES, MAX_BODY_BYTES + 1))
    assert len(read_all(new_connection(), [allowed]).requests) == 1
    assert read_all(new_connection(), [refused[: -MAX_BODY_BYTES - 1]]).other == b"/predict"


def test_a_request_without_its_body_is_told_once() -> None:
    """Whoever asks for the key has its chance before the body is kept."""
    connection = new_connection()
    connection.receive(HEAD + BODY[:3], 0.0)
    event = connection.next_event()
    assert isinstance(event, PartialRequest)
    assert (event.endpoint.path, event.body_bytes) == ("/predict", len(BODY))
    connection.receive(BODY[3:5], 0.0)
    assert connection.next_event() is None
    connection.receive(BODY[5:], 0.0)
    assert isinstance(connection.next_event(), PlainRequest)


@pytest.mark.parametrize(("size", "stays"), [(100, True), (MAX_SKIP_BYTES + 1, False)])
def test_a_body_that_is_refused_is_passed_over(size: int, *, stays: bool) -> None:
    """A short one is dropped when it comes; behind a long one the connection ends, and nothing of it is a request."""
    connection = new_connection()
    data = post(post() * (size // len(post()) + 1))
    connection.receive(data[:150], 0.0)
    event = connection.next_event()
    assert isinstance(event, PartialRequest)
    connection.pass_over(event.body_bytes)
    assert (b"connection: close" in connection.send(REPLY, "id")) is not stays
    assert connection.is_cut is not stays
    if stays:
        assert len(read_all(connection, [data[150:], post()]).requests) == 1


@pytest.mark.parametrize("piece_bytes", [1000, MAX_HEAD_BYTES * 2])
@pytest.mark.parametrize("begin", [HEAD[:-2] + b"x-long: ", b"\r\n" * MAX_HEAD_BYTES], ids=["header", "empty lines"])
def test_a_head_without_end_is_refused(begin: bytes, piece_bytes: int) -> None:
    """The memory for the begin of a head is bounded."""
    data = begin + b"y" * MAX_HEAD_BYTES
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    assert read_all(new_connection(), pieces[: MAX_HEAD_BYTES // piece_bytes + 1]).mistake is not None


@pytest.mark.parametrize(
    ("pieces", "times"),
    [
        ([post()], [0]),
        ([post()[:10], post()[10:]], [0]),
        ([HEAD, BODY[:5], BODY[5:]], [0]),
        ([post() + post()], [0, 0]),
        ([post() + post()[:10], post()[10:]], [0, 0]),
        ([post()[:10], post()[10:] + post()], [0, 1]),
        ([post(), post()], [0, 1]),
        ([post()[:10], post()[10:] + post()[:10], post()[10:] + LIVE], [0, 1, 2]),
    ],
)
def test_a_request_begins_with_its_first_byte(pieces: Sequence[bytes], times: list[float]) -> None:
    """The time of a request is that at which its first byte came, also behind another request."""
    connection = new_connection()
    found = []
    for now, piece in enumerate(pieces):
        connection.receive(piece, now)
        while event := connection.next_event():
            if isinstance(event, PlainRequest | OtherRequest):
                found.append(event.received_at)
                connection.send(REPLY, "id")
    assert found == times


def test_a_time_is_that_of_the_bytes_that_wait() -> None:
    """What comes while a request is answered is dated when it comes, not when it is looked at."""
    connection = new_connection()
    connection.receive(post(), 1.0)
    assert connection.next_event() is not None
    connection.receive(post()[:10], 2.0)
    connection.receive(post()[10:], 3.0)
    connection.send(REPLY, "id")
    event = connection.next_event()
    assert isinstance(event, PlainRequest)
    assert event.received_at == 2.0


def test_the_last_reply_says_that_it_is_the_last() -> None:
    """A connection that should end answers what has arrived, and tells the caller with the last reply."""
    connection = new_connection()
    connection.receive(post() + post(), 0.0)
    connection.next_event()
    connection.is_closing = True
    assert b"connection: close" not in connection.send(REPLY, "one")
    connection.next_event()
    assert not connection.is_ended
    assert b"connection: close\r\n" in connection.send(REPLY, "two")
    assert connection.is_ended


@given(some.lists(some.binary(max_size=40), max_size=5))
def test_no_bytes_raise(pieces: list[bytes]) -> None:
    """Bytes that mean nothing are a mistake, or not whole."""
    assert read_all(new_connection(), pieces).requests == []


@pytest.mark.parametrize("data", CORPUS.values(), ids=CORPUS)
def test_the_corpus_byte_by_byte(data: bytes) -> None:
    """Each request of the corpus, known before or not, gives the same whole and in single bytes."""
    expected = read_all(new_connection(), [data])
    assert read_all(new_connection(), [bytes([byte]) for byte in data]) == expected
    known = new_connection()
    for _ in range(2):
        if known.is_idle and (found := read_all(known, [data])):
            assert found == expected


def read_body(body: SizedBody | ChunkedBody, pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """The body in these pieces, and what is behind it."""
    found, rest = b"", b""
    for piece in pieces:
        rest += piece
        while rest and not body.is_whole:
            before = len(rest)
            part, rest = body.read(rest)
            found += part
            if len(rest) == before:
                break
    assert body.is_whole
    return found, rest


@given(some.lists(some.binary(min_size=1, max_size=50), max_size=5), PLACES)
def test_chunks_in_any_pieces(parts: list[bytes], places: list[float]) -> None:
    """The body is what its chunks hold; extensions and trailers are none of it, and what is behind stays unread."""
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (len(part), part) for part in parts)
    data = chunks + b"0\r\nx-api-key: k\r\n\r\n" + LIVE
    assert read_body(ChunkedBody(), cut(data, places)) == (b"".join(parts), LIVE)
    assert read_body(SizedBody(len(chunks)), cut(data, places)) == (chunks, data[len(chunks) :])


@pytest.mark.parametrize(
    "data",
    [
        b"0\r\n" + b"x: y\r\n" * 20_000, b"0\r\nx: " + b"y" * 20_000, b"1;" + b"a" * 20_000,
        b"1;aaaaaaaa\r\nx\r\n" * 10_000, b"x\r\n", b"1\nx", b"1 \r\nx", b"1\r\nxy", b"1\r\nx\n", b"0\r\n x: y\r\n",
        b"0\r\nx\r\n", b"-1\r\n", b"0x1\r\n", b"\r\n", b";a\r\n", b"1;\0", b"f" * 16 + b"\r\n",
    ],
)  # fmt: skip
def test_broken_chunks_are_refused(data: bytes) -> None:
    """So are trailers and extensions without end: they count as a head does."""
    with pytest.raises(BrokenBody):
        read_body(ChunkedBody(), [data[start : start + 5000] for start in range(0, len(data), 5000)])
