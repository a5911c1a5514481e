"""Open-loop load: requests leave on a fixed schedule, and a latency counts from the moment that the schedule named.

A closed loop stops asking while the server stalls, and so hides the stall from its own percentiles.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from benchmarks.load.driver import NO_ANSWER, Load

Result = TypeVar("Result")
PATIENCE_S = 10.0
"""How long the last answers are waited for."""


def run_punctually(main: Coroutine[Any, Any, Result]) -> Result:
    """Run in an event loop whose timers are exact to some 50 microseconds; those of epoll are to a millisecond."""
    with _no_collection(), asyncio.Runner(loop_factory=_new_loop) as runner:
        return runner.run(main)


async def pace(port: int, request: bytes, *, rate: float, connections: int, seconds: float) -> Load:
    """Send ``rate`` requests a second for ``seconds``; where no connection is free, latency runs on."""
    loop = asyncio.get_running_loop()
    pacer = _Pacer(request, rate, seconds)
    opened = [await loop.create_connection(lambda: _Connection(pacer), "127.0.0.1", port) for _ in range(connections)]
    await pacer.run()
    for transport, _ in opened:
        transport.close()
    return pacer.load


class _Pacer:
    """The schedule, the requests that are due, and the connections that are free."""

    def __init__(self, request: bytes, rate: float, seconds: float) -> None:
        self.load = Load(seconds=seconds)
        self.idle: deque[_Connection] = deque()
        self._request = request
        self._interval = 1 / rate
        self._number = round(rate * seconds)
        self._scheduled = 0
        self._due: deque[float] = deque()
        self._settled = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()

    async def run(self) -> None:
        """Keep to the schedule; whatever has no answer in the end counts as such."""
        self._start = self._loop.time()
        self._tick()
        try:
            await asyncio.wait_for(self._settled.wait(), self.load.seconds + PATIENCE_S)
        except TimeoutError:
            self.load.statuses[NO_ANSWER] += self._number - self.load.statuses.total()

    def settle(self, status: int, due: float) -> None:
        """Note what became of a request."""
        self.load.statuses[status] += 1
        if status == 200:
            self.load.latencies.append(self._loop.time() - due)
        if self.load.statuses.total() == self._number:
            self._settled.set()

    def send_due(self) -> None:
        """Send what is due on the connections that are free."""
        while self._due and self.idle:
            self.idle.popleft().send(self._request, self._due.popleft())

    def _tick(self) -> None:
        now = self._loop.time()
        while self._scheduled < self._number and (due := self._start + self._scheduled * self._interval) <= now:
            self._due.append(due)
            self._scheduled += 1
        self.send_due()
        if self._scheduled < self._number:
            self._loop.call_at(self._start + self._scheduled * self._interval, self._tick)


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way, which was due at a moment of the loop's clock."""

    def __init__(self, pacer: _Pacer) -> None:
        self._pacer = pacer
        self._due: float | None = None
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be free for a request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP connection has no other
        self._transport = transport
        self._pacer.idle.append(self)

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at this moment."""
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Note the answer once it is whole, and be free again."""
        self._answer += data
        if self._due is not None and (status := _status_of_whole(self._answer)) is not None:
            due, self._due, self._answer = self._due, None, b""
            self._pacer.settle(status, due)
            self._pacer.idle.append(self)
            self._pacer.send_due()

    def connection_lost(self, _error: Exception | None) -> None:
        """A request under way has no answer; the connection is not opened again."""
        if self._due is None:
            self._pacer.idle.remove(self)
        else:
            self._pacer.settle(NO_ANSWER, self._due)


def _status_of_whole(answer: bytes) -> int | None:
    """The status of an answer with a Content-Length, once all of its body is there."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return None
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return int(head[9:12]) if len(body) >= int(length) else None


def _new_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


@contextmanager
def _no_collection() -> Iterator[None]:
    """A collection of garbage in this process would count as the server's latency."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
