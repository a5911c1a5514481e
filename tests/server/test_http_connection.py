"""HTTP without I/O: plain requests come out whole and in turn, everything else comes back as it was, byte by byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from hypothesis import given
from hypothesis import strategies as some

from app.api.coalescing import HotRoutes
from app.api.http import Reply
from app.server.http_connection import MAX_HEAD_BYTES, HttpConnection, PlainRequest, UnreadBytes
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
    """What came out of a connection: paths, headers and bodies of plain requests, and what was handed over."""

    requests: list[tuple[str, dict[bytes, bytes], bytes]]
    unread: bytes | None


def read_all(connection: HttpConnection, pieces: Iterable[bytes]) -> Found:
    """All that comes out of a connection where each request is answered at once."""
    found = Found([], None)
    for piece in pieces:
        if found.unread is not None:
            found = found._replace(unread=found.unread + piece)
            continue
        connection.receive(piece, 0.0)
        while event := connection.next_event():
            if isinstance(event, UnreadBytes):
                found = found._replace(unread=event.data)
                break
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
        """Note a header."""
        self._request[1][name.lower()] = value

    def on_body(self, part: bytes) -> None:
        """Note a part of the body."""
        self._request = (*self._request[:2], self._request[2] + part)

    def on_message_complete(self) -> None:
        """Note the request."""
        target, headers, body = self._request
        self.requests.append((target.decode(), headers, body))


def is_all_read(found: Found, data: bytes) -> bool:
    """Whether httptools finds the same requests in front of the bytes that were handed over."""
    read = data if found.unread is None else data[: len(data) - len(found.unread)]
    whole = Recorder(read).requests
    return whole == found.requests and data == read + (found.unread or b"")


PLAIN = [data for data in USUAL.values() if read_all(new_connection(), [data]).unread is None]
SOUP = some.lists(some.sampled_from(list(CORPUS.values())) | some.binary(max_size=60), min_size=1, max_size=5)


@given(SOUP, PLACES)
def test_pieces_do_not_matter(parts: list[bytes], places: list[float]) -> None:
    """However the bytes are cut, the same requests come out and the same bytes are handed over."""
    data = b"".join(parts)
    expected = read_all(new_connection(), [data])
    assert read_all(new_connection(), cut(data, places)) == expected


@given(SOUP, PLACES)
def test_what_is_handed_over_is_what_was_not_read(parts: list[bytes], places: list[float]) -> None:
    """No byte is lost, read twice or read in another way than httptools reads it."""
    data = b"".join(parts)
    assert is_all_read(read_all(new_connection(), cut(data, places)), data)


@given(some.lists(some.sampled_from(PLAIN), max_size=4), SOUP)
def test_known_heads_do_not_matter(before: list[bytes], parts: list[bytes]) -> None:
    """A connection that remembers heads reads what comes as a new one does."""
    data = b"".join(parts)
    connection = new_connection()
    assert read_all(connection, before).unread is None
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
        assert connection.next_event() is None
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
    connection.receive(post()[:20], 0.0)
    connection.send(REPLY, "two")
    assert connection.next_event() == UnreadBytes(LIVE + post()[:20], 0.0)


@pytest.mark.parametrize(
    "name",
    [
        "get", "query", "escaped-target", "absolute-target", "live", "chunked", "expect", "expect-other", "empty-body",
        "close", "http-1.0", "http-1.0-keep-alive", "length-and-chunked", "identity-coding", "length-twice",
        "length-plus", "length-huge", "length-missing", "lf-only", "lf-at-the-end", "empty-lines-before",
        "folded-length", "space-before-colon", "upgrade-h2c", "tls", "garbage", "nul-in-header",
    ],
)  # fmt: skip
def test_what_is_special_is_handed_over(name: str) -> None:
    """Whatever is not a plain request is uvicorn's from its first byte on."""
    assert read_all(new_connection(), [post(), CORPUS[name]]) == Found([("/predict", _headers(), BODY)], CORPUS[name])


def _headers() -> dict[bytes, bytes]:
    return Recorder(post()).requests[0][1]


def test_an_upgrade_with_a_body_is_handed_over() -> None:
    """Whether the connection changes its protocol is not for the fast path to decide."""
    request = post(BODY, b"connection: upgrade", b"upgrade: h2c")
    assert read_all(new_connection(), [request]) == Found([], request)


def test_a_large_body_is_handed_over() -> None:
    """A body above the limit is refused by uvicorn's path as soon as its head is here."""
    allowed, refused = (post(b" " * size) for size in (MAX_BODY_BYTES, MAX_BODY_BYTES + 1))
    assert read_all(new_connection(), [allowed]).unread is None
    head = refused[: -MAX_BODY_BYTES - 1]
    assert read_all(new_connection(), [head]) == Found([], head)


@pytest.mark.parametrize("piece_bytes", [1000, MAX_HEAD_BYTES * 2])
def test_a_head_without_end_is_handed_over(piece_bytes: int) -> None:
    """The memory for the begin of a head is bounded."""
    data = HEAD[:-2] + b"x-long: " + b"y" * MAX_HEAD_BYTES
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    assert read_all(new_connection(), pieces) == Found([], data)


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
            found.append(event.received_at)
            if isinstance(event, PlainRequest):
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
    assert event is not None
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
    """Bytes that mean nothing are handed over."""
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
    if expected.unread is None:
        assert is_all_read(expected, data)


def test_the_recorder_refuses_what_is_no_http() -> None:
    """What the tests compare with would notice a request that must not be read."""
    for name in ("length-twice", "space-before-colon", "upgrade-h2c"):
        with pytest.raises((HttpParserError, HttpParserUpgrade)):
            Recorder(CORPUS[name])
