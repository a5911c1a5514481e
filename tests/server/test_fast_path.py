"""The lane beside ASGI answers as ASGI does, in turn, and whoever leaves or lingers harms nobody else."""

from __future__ import annotations

import gzip
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.models.tasks import Fitted
from tests.support.processes import Service, serving
from tests.support.raw_client import BODY, LIVE, connect, is_ended, post, replies, store_held, wait_for

SECONDS = 1.0
MOST_BYTES = 100_000
KNOWN = b'{"features": [0.1, 0.2, 0.3], "prediction_id": "known"}'
CHUNKED = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (5, KNOWN[:5], len(KNOWN) - 5, KNOWN[5:])


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service that knows the prediction ``known``."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__MAX_BODY_BYTES": str(MOST_BYTES)}
    with serving(tmp_path_factory.mktemp("protocol"), models=small_models[0], settings=settings) as running:
        assert running.call("POST", "/predict", json.loads(KNOWN))[0] == 200
        yield running


@pytest.mark.parametrize(
    ("request_", "stays"),
    [
        (post(KNOWN, target=b"/predict?model_version=1"), True),
        (post(KNOWN, target=b"/pre%64ict"), True),
        (post(KNOWN, target=b"http://x/predict"), True),
        (post(CHUNKED, b"transfer-encoding: chunked", sized=False), True),
        (post(KNOWN, b"expect: 100-continue"), True),
        (post(KNOWN, b"connection: close"), False),
        (post(KNOWN, version=b"1.0"), False),
    ],
    ids=["query", "escaped", "absolute", "chunked", "expect", "close", "HTTP 1.0"],
)
def test_every_way_gives_the_answer_of_the_lane(service: Service, request_: bytes, *, stays: bool) -> None:
    """What the lane leaves to ASGI is answered with the same status, headers and body; who asks for an end gets it."""
    with connect(service) as connection:
        connection.sendall(post(KNOWN, b"x-request-id: r"))
        lane = replies(connection, 1)[0]
        connection.sendall(request_.replace(b"\r\n", b"\r\nx-request-id: r\r\n", 1))
        other = replies(connection, 1)[0]

        assert other.headers.pop("connection", None) == (None if stays else "close")
        assert other == lane
        assert is_ended(connection) is not stays


@pytest.mark.parametrize(
    "request_",
    [
        post(b""),
        post(b"{"),
        post(b'{"features": [0.1, "two", 0.3]}'),
        post(KNOWN).replace(b"json", b"xml"),
        post(gzip.compress(KNOWN), b"content-encoding: gzip"),
        post(b"x" * (MOST_BYTES + 1)),
        post(b'{"prediction_id": "nobody", "outcome": "yes"}', target=b"/outcome"),
    ],
    ids=["empty", "no JSON", "invalid", "no JSON type", "gzip", "too large", "unknown"],
)
def test_refusals_are_alike(service: Service, request_: bytes) -> None:
    """With and without the lane a body has one answer, and the connection goes on."""
    named = request_.replace(b"\r\n", b"\r\nx-request-id: r\r\n", 1)
    with connect(service) as connection:
        connection.sendall(named)
        lane = replies(connection, 1)
        connection.sendall(named.replace(b" HTTP", b"? HTTP", 1) + post(KNOWN))

        other, next_ = replies(connection, 2)
        assert [other] == lane
        assert next_.status == 200


@pytest.mark.parametrize("order", ["hhh", "hc", "ch", "hchhc", "cchh"])
def test_requests_in_one_packet_are_answered_in_turn(service: Service, order: str) -> None:
    """Whichever way each of them takes (hot, cold), answers come in the order of the requests."""
    kinds = {"h": post(), "c": LIVE}
    named = [kinds[kind].replace(b"\r\n", b"\r\nx-request-id: %d\r\n" % place, 1) for place, kind in enumerate(order)]
    with connect(service) as connection:
        connection.sendall(b"".join(named))

        found = replies(connection, len(order))
        assert [int(reply.headers["x-request-id"]) for reply in found] == list(range(len(order)))
        assert [b"live" in reply.body for reply in found] == [kind == "c" for kind in order]


def test_a_repeated_head_is_read_as_the_first_time(service: Service) -> None:
    """With other bodies of its length, an empty line in the body, another method, in parts, behind another request."""
    bodies = [
        b'{"features": [0.1, 0.2, 0.3]}  ',
        b'{"features":\r\n\r\n[0.1, 0.2, 0.3]}',
        b'{"features": [0.1, 0.2, 0.3] ]',
    ]
    good, spaced, bad = (post(body.ljust(40)) for body in bodies)
    with connect(service) as connection:
        for request, status in [(good, 200), (good, 200), (spaced, 200), (bad, 422), (b"GET" + good[4:], 405)]:
            connection.sendall(request)
            assert [reply.status for reply in replies(connection, 1)] == [status]
        for cut in (1, 4, 40, good.index(b"{"), good.index(b"{") - 2, len(good) - 1):
            connection.sendall(spaced + good[:cut])
            assert [reply.status for reply in replies(connection, 1)] == [200]
            connection.sendall(good[cut:])
            assert [reply.status for reply in replies(connection, 1)] == [200]
        connection.sendall(good + bad + good)
        assert [reply.status for reply in replies(connection, 3)] == [200, 422, 200]


def test_a_crowd_gets_its_own_answers(service: Service) -> None:
    """Hundreds of connections at once, three times: to each what was said to its own row."""
    rows = [[step / 100, 0.2, -0.3] for step in range(300)]
    status, expected = service.call("POST", "/predict", {"instances": rows})
    assert status == 200
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(service)) for _ in rows]
        for _ in range(3):
            for connection, row in zip(crowd, rows, strict=True):
                connection.sendall(post(json.dumps({"features": row}).encode()))
            found = [json.loads(replies(connection, 1)[0].body) for connection in crowd]
            told = [answer["probabilities"] for answer in found]
            assert told == [pytest.approx(answer["probabilities"], abs=1e-6) for answer in expected["predictions"]]
            assert len({answer["prediction_id"] for answer in found}) == len(rows)


def test_the_log_names_the_path_of_its_own_request(service: Service) -> None:
    """The target of the next request in the packet, which is a client's text, stays out of the log."""
    with connect(service) as connection:
        connection.sendall(post(BODY, b"x-request-id: first") + b'GET /"evil HTTP/1.1\r\nhost: x\r\n\r\n')
        replies(connection, 2)

    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert [line["route"] for line in lines if line.get("request_id") == "first"] == ["/predict"]


@pytest.mark.parametrize("rest", [b"", post(), LIVE, post()[:30]], ids=["alone", "hot", "cold", "part"])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_caller_that_leaves_harms_nobody(service: Service, rest: bytes, *, reset: bool) -> None:
    """A connection that ends while its request is answered leaves nothing behind."""
    with store_held(service), connect(service) as connection:
        connection.sendall(post() + rest)
        wait_for(service, "ml_journal_queue_rows", 1)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    wait_for(service, "ml_requests_in_progress", 1)  # the scrape itself
    wait_for(service, "ml_journal_queue_rows", 0)


def test_who_is_not_listened_to_is_not_late(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """The rest of a second request may wait for the first one's answer for longer than a request may take to arrive."""
    settings = {"SERVING__ACTIVE": "text", "SERVER__RECEIVE_TIMEOUT": f"{SECONDS:g}s"}
    with serving(tmp_path, models=small_models[0], settings=settings) as service, connect(service) as connection:
        with store_held(service):
            connection.sendall(post() + post()[:-10])
            assert not is_ended(connection, SECONDS * 2)
            connection.sendall(post()[-10:])
        assert [reply.status for reply in replies(connection, 2)] == [200, 200]


def test_an_endless_head_is_refused(service: Service) -> None:
    """A client cannot fill the memory with headers."""
    head = LIVE[:-2] + b"".join(b"x-%d: %b\r\n" % (number, b"y" * 60_000) for number in range(1000))
    with connect(service) as connection, pytest.raises(OSError, match=r"reset|pipe"):
        connection.sendall(head)
