"""A head that was read before says what the parser would say; nothing else is taken for it."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.server.http_head import (
    MAX_TEMPLATE_BYTES,
    MAX_UNUSED_TEMPLATES,
    BadHead,
    HeaderCache,
    ParsedHead,
    body_length,
    parse_head,
)
from tests.support.connections import hot_endpoint
from tests.support.raw_client import BODY, post

MAX_BODY_BYTES = 100_000
ENDPOINT = hot_endpoint("/predict")
TRACED = (b"TraceParent: 00-1-2-01", b"tracestate: a=1,b=2", b"x-request-id: one")


def head(*lines: bytes, length: bytes = b"29") -> bytes:
    """A head for the hot endpoint, with more lines."""
    return post(BODY, *lines).removesuffix(BODY).replace(b"29", length)


def parse(raw: bytes) -> ParsedHead | None:
    """What the parser finds in a head; None where it is not plain."""
    try:
        found = parse_head(raw)
    except BadHead:
        return None
    length = body_length(found.headers, MAX_BODY_BYTES)
    return ParsedHead(found.size, ENDPOINT, found.headers, length) if length and found.is_persistent else None


def cache_of(*raws: bytes) -> HeaderCache:
    """A cache that has seen these heads."""
    cache = HeaderCache(MAX_BODY_BYTES)
    for raw in raws:
        found = parse(raw)
        assert found is not None
        cache.keep(raw, found)
    return cache


@pytest.mark.parametrize("lines", [(), TRACED, (b"x-api-key: k",), (b"x-request-id:one",)], ids=str)
def test_a_head_is_known_from_its_second_time_on(lines: tuple[bytes, ...]) -> None:
    """Whatever follows it; not where a byte is missing, changed or before it."""
    raw = head(*lines)
    cache = cache_of(raw)
    assert cache.find(raw + BODY) == cache.find(raw) == parse(raw)
    assert cache.find(raw[:-1]) is None
    assert cache.find(b"\r\n" + raw) is None
    assert cache.find(raw.replace(b"POST", b"GET", 1)) is None
    assert cache.find(raw.replace(b"host: localhost", b"host: y")) is None
    assert cache.find(head(*lines, b"x-more: 1")) is None


@pytest.mark.parametrize("length", [b"1", b"30", b"007", b"100000"])
def test_a_body_of_another_length_needs_no_parser(length: bytes) -> None:
    """The length is read from the new head."""
    found = cache_of(head()).find(head(length=length))
    assert found == parse(head(length=length))
    assert found is not None
    assert found.body_bytes == int(length)


def test_another_trace_needs_no_parser() -> None:
    """Ids that are new in each request are those of the new head."""
    other = head(b"TraceParent: 00-33-44-00", b"tracestate: c=3", b"x-request-id: " + b"2" * 200)
    found = cache_of(head(*TRACED)).find(other)
    assert found == parse(other)
    assert found is not None
    assert found.headers[b"traceparent"] == b"00-33-44-00"


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b"a b", b"a\tb", b"a\0b", b"a\rb", b"a\nb", b"\xe9", b"a\r\nx: y", b"a\r\n b", b"a\x7f", b"1" * 300],
)
def test_an_odd_value_is_left_to_the_parser(value: bytes) -> None:
    """A value that parsers may read in several ways, or that is long, is not taken as known."""
    cache = cache_of(head(*TRACED))
    assert cache.find(head(*TRACED).replace(b"one", value)) is None


@pytest.mark.parametrize("length", [b"0", b"-1", b"+1", b"0x1", b"1,1", b"1e1", b"100001", b"9" * 200, b""])
def test_an_odd_length_is_left_to_the_parser(length: bytes) -> None:
    """A length that is none, or that is not allowed, is not taken as known."""
    assert cache_of(head()).find(head(length=length)) is None


@given(some.lists(some.binary(max_size=12) | some.from_regex(rb"[ -~]{0,12}", fullmatch=True), min_size=3, max_size=3))
def test_any_value_is_read_as_the_parser_reads_it(values: list[bytes]) -> None:
    """What is found is what the parser finds."""
    length, trace, request_id = values
    raw = head(b"traceparent: " + trace, b"x-request-id: " + request_id, length=length)
    found = cache_of(head(b"traceparent: 1", b"x-request-id: 1")).find(raw)
    assert found is None or found == parse(raw)


def test_a_header_that_comes_twice_is_no_hole() -> None:
    """Which of the two counts is the parser's affair."""
    raw = head(b"x-request-id: one", b"x-request-id: two")
    cache = cache_of(raw)
    assert cache.find(raw) == parse(raw)
    assert cache.find(raw.replace(b"one", b"three")) is None
    assert cache.find(raw.replace(b"two", b"three")) is None


@pytest.mark.parametrize("name", [b"transfer-encoding", b"expect"])
def test_a_body_that_comes_in_another_way_has_no_length(name: bytes) -> None:
    """A length counts only where nothing else says how the body comes."""
    assert body_length({b"content-length": b"5"}, 10) == 5
    assert body_length({b"content-length": b"5", name: b"x"}, 10) == 0


@pytest.mark.parametrize("line", [b"x-long: " + b"x" * MAX_TEMPLATE_BYTES])
def test_a_long_head_is_not_kept(line: bytes) -> None:
    """Memory is bounded."""
    raw = head(line)
    cache = HeaderCache(MAX_BODY_BYTES)
    cache.keep(raw, ParsedHead(len(raw), ENDPOINT, {}, len(BODY)))
    assert cache.find(raw) is None


def test_two_heads_are_kept() -> None:
    """A client may use both hot endpoints in turn; a third head takes the place of the oldest."""
    raws = [head(b"x-kind: %d" % number) for number in range(3)]
    cache = cache_of(*raws[:2])
    for raw in raws[:2]:
        assert cache.find(raw) == parse(raw)
    cache.keep(raws[2], cast("ParsedHead", parse(raws[2])))
    assert [cache.find(raw) is not None for raw in raws] == [False, True, True]


def test_a_client_whose_heads_are_never_alike_is_not_remembered() -> None:
    """To remember costs as much as to parse: it ends where it has been for nothing, and not before."""
    raws = [head(b"x-number: %d" % number) for number in range(MAX_UNUSED_TEMPLATES + 1)]
    cache = cache_of(*raws[:-1])
    assert cache.find(raws[-2]) is not None
    assert cache_of(*raws).find(raws[-1]) is None


@pytest.mark.parametrize(
    "line",
    [
        b" x: folded", b"x : space", b"x", b": no name", b"x: a\0b", b"x: a\rb", b"x: a\nb", b"x: a\x7fb", b"x\xe9: a",
        b"host: y", b"content-length: 29", b"content-length: 30", b"transfer-encoding: chunked",
    ],
)  # fmt: skip
def test_a_head_that_can_be_read_in_two_ways_is_refused(line: bytes) -> None:
    """What a proxy in front may read differently is no request at all."""
    with pytest.raises(BadHead):
        parse_head(head(line))


@pytest.mark.parametrize("length", [b"", b"-1", b"+1", b"1,1", b"0x1", b"1 1", b"9" * 19])
def test_a_length_is_a_number(length: bytes) -> None:
    """Digits alone, and no more of them than a length can have."""
    with pytest.raises(BadHead):
        parse_head(head(length=length))


@pytest.mark.parametrize(
    "line",
    [
        b"POST /predict", b"POST  /predict HTTP/1.1", b"POST /pre dict HTTP/1.1", b"POST /predict HTTP/2.0",
        b"POST predict HTTP/1.1", b"CONNECT x:1 HTTP/1.1", b"POST ftp://x/predict HTTP/1.1", b"GET * HTTP/1.1",
        b"POST http://u@x/predict HTTP/1.1", b"POST /predict#a HTTP/1.1", b"POST /\xe9 HTTP/1.1",
    ],
)  # fmt: skip
def test_a_request_line_names_a_method_a_target_and_a_version(line: bytes) -> None:
    """A target is a path, or the absolute URI of one."""
    with pytest.raises(BadHead):
        parse_head(head().replace(b"POST /predict HTTP/1.1", line))


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://y:80/predict?a=1", b"/predict?a=1", b"y:80"),
        (b"HTTPS://y", b"/", b"y"),
        (b"http://y?a", b"/?a", b"y"),
        (b"/predict", b"/predict", b"localhost"),
    ],
)
def test_the_host_of_an_absolute_target_counts(target: bytes, path: bytes, host: bytes) -> None:
    """Whoever looks at the host sees the one that the request is for."""
    found = parse_head(head().replace(b"/predict", target, 1))
    assert (found.target, found.headers[b"host"], dict(found.fields)[b"host"]) == (path, host, host)


def test_an_offer_to_upgrade_changes_nothing() -> None:
    """The body that is announced follows, and the connection stays."""
    found = parse_head(head(b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c"))
    assert (found.body_bytes, found.is_persistent) == (len(BODY), True)
