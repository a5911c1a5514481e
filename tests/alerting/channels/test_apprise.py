"""Channels of apprise: only a 2xx is sent, no redirect is followed, and an answer is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from app.alerting.channels.alertmanager import Alertmanager
from app.alerting.channels.apprise import MAX_ANSWER_BYTES, AppriseChannel
from app.alerting.channels.base import Channel, ChannelFailed
from app.alerting.retraining import Webhook
from app.config.fields import ChannelUrl
from app.config.settings import Retrain
from app.types import Json

MESSAGE: Json = {
    "title": "t",
    "text": "x",
    "kind": "info",
    "key": "k",
    "alerts": [],
    "request": {},
}


@contextmanager
def receiver(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers every call alike; its address, and the calls that it has had."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answer(self)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def channels(address: str) -> list[Channel]:
    """One channel of each kind."""
    return [
        AppriseChannel.open("json", f"json://{address}/hook"),
        AppriseChannel.open("json", f"json://{address}/hook?redirect=yes"),
        Alertmanager.open("alertmanager", f"alertmanager+http://{address}"),
        Webhook(Retrain(url=ChannelUrl(f"http://{address}/hook"))),
    ]


def redirect(status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer that points elsewhere on the same server."""

    def answer(call: BaseHTTPRequestHandler) -> None:
        call.send_response(status)
        call.send_header("location", "/inward")
        call.send_header("content-length", "0")
        call.end_headers()

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
def test_a_redirect_is_not_followed_and_not_sent(status: int) -> None:
    """Whatever the kind of redirect, it is a failure on every channel, and nobody calls where it points."""
    with receiver(redirect(status)) as (address, seen):
        for channel in channels(address):
            with pytest.raises(ChannelFailed):
                channel.send(MESSAGE, timeout_s=5.0)

    assert not [call for call in seen if "inward" in call]


def test_an_answer_is_read_up_to_a_limit() -> None:
    """An answer without an end is a failure, and not kept in memory."""

    def endless(call: BaseHTTPRequestHandler) -> None:
        call.send_response(200)
        call.send_header("content-length", str(MAX_ANSWER_BYTES * 4))
        call.end_headers()
        try:
            call.wfile.write(b"x" * (MAX_ANSWER_BYTES * 4))
        except OSError:
            return

    with receiver(endless) as (address, _), pytest.raises(ChannelFailed):
        channels(address)[0].send(MESSAGE, timeout_s=5.0)


def test_a_2xx_is_sent() -> None:
    """Every channel takes a plain success."""

    def answer(call: BaseHTTPRequestHandler) -> None:
        call.send_response(200)
        call.send_header("content-length", "2")
        call.end_headers()
        call.wfile.write(b"ok")

    with receiver(answer) as (address, seen):
        for channel in channels(address):
            channel.send(MESSAGE, timeout_s=5.0)

    assert len(seen) == 4
