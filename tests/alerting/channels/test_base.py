"""The thread of a channel that hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from app.alerting.channels.alertmanager import Alertmanager
from app.alerting.channels.base import MAX_HANGING_MESSAGES, ChannelFailed, SendingThread
from app.types import Json
from tests.support.deadlines import DEADLINE_S, wait_until


class Hanging:
    """A channel that never answers until it is let go."""

    name = "hanging"

    def __init__(self) -> None:
        self.free = threading.Event()

    def send(self, body: Json, *, timeout_s: float) -> None:  # noqa: ARG002 - a channel that minds neither
        """Hang."""
        self.free.wait()


def test_what_hangs_is_given_up_in_the_end() -> None:
    """For ten time-outs nothing is sent beside what hangs, then it is; but not without limit."""
    channel = Hanging()
    now = 0.0
    thread = SendingThread(channel, timeout_s=0.01, clock=lambda: now)
    busy = []
    for _ in range(MAX_HANGING_MESSAGES):
        with pytest.raises(ChannelFailed):
            asyncio.run(thread.send({}))
        busy.append(thread.busy)
        now += 0.099
        busy.append(thread.busy)
        now += 0.002
        busy.append(thread.busy)
    channel.free.set()
    wait_until(lambda: not thread.busy)

    assert busy == [*[True, True, False] * (MAX_HANGING_MESSAGES - 1), True, True, True]


@contextmanager
def dripping() -> Iterator[int]:
    """The port of a server that takes a request and then sends its answer's body byte by byte, for ever."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                while not ended.wait(0.02):
                    connection.sendall(b"x")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        ended.set()


def test_an_answer_that_never_ends_is_not_waited_for() -> None:
    """An Alertmanager that drips its answer has taken the alerts: its status says so, and nothing fails."""
    with dripping() as port:
        thread = SendingThread(Alertmanager("m", f"http://127.0.0.1:{port}"), timeout_s=DEADLINE_S)
        asyncio.run(thread.send({"alerts": []}))
