"""The open-loop load: what it sends, and from when a latency counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from benchmarks.load.driver import NO_ANSWER, Load, request_bytes
from benchmarks.load.open_loop import pace, run_punctually

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HELD_S = 0.2
Answer = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Answers the request of this number, counted over all connections."""


class FrozenLoop(asyncio.SelectorEventLoop):
    """An event loop whose time stands still until a test moves it."""

    now = 0.0

    def time(self) -> float:
        """The time, in seconds."""
        return self.now


def run(
    answer: Answer,
    *,
    rate: float,
    connections: int,
    seconds: float,
    runner: Callable[[Coroutine[Any, Any, Load]], Load] = run_punctually,
) -> Load:
    """Pace requests at a server in the same loop."""

    async def scenario() -> Load:
        number = 0
        opened: list[asyncio.StreamWriter] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal number
            opened.append(writer)
            while await reader.readline():
                await reader.readuntil(b"\r\n\r\n")
                number += 1
                await answer(number, reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            load = await pace(port, request_bytes("/", b""), rate=rate, connections=connections, seconds=seconds)
            for writer in opened:
                writer.close()
                await writer.wait_closed()
            return load

    return runner(scenario())


async def at_once(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer in one piece."""
    writer.write(WHOLE)


def test_the_schedule_is_kept() -> None:
    """As many requests leave as the rate asks for, each answered once."""
    load = run(at_once, rate=200, connections=4, seconds=0.3)

    assert load.statuses == {200: 60}
    assert len(load.latencies) == 60


def test_a_stall_counts_for_all_that_was_due_in_it() -> None:
    """Requests that could not leave while the server stalled are late from the moment at which they were due."""

    async def hold_the_first(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            released = asyncio.Event()
            asyncio.get_running_loop().call_later(HELD_S, released.set)
            await released.wait()
        writer.write(WHOLE)

    load = run(hold_the_first, rate=100, connections=1, seconds=0.3)

    assert load.statuses == {200: 30}
    assert sum(latency > HELD_S / 2 for latency in load.latencies) >= 10


def test_an_answer_in_pieces_is_one_answer() -> None:
    """A body that comes after its head is waited for."""

    async def in_pieces(_number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE[:-1])
        for _ in range(3):  # turns of the loop, in which the client reads the first piece
            await asyncio.sleep(0)
        writer.write(WHOLE[-1:])

    assert run(in_pieces, rate=100, connections=2, seconds=0.1).statuses == {200: 10}


def test_a_lost_connection_is_no_answer_and_not_used_again() -> None:
    """The request under way counts as failed; the other connections go on."""

    async def hang_up_on_the_first(number: int, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.close()
        else:
            writer.write(WHOLE)

    assert run(hang_up_on_the_first, rate=100, connections=2, seconds=0.1).statuses == {200: 9, NO_ANSWER: 1}


def test_a_connection_closed_between_two_requests_is_left_out() -> None:
    """A server may close a connection that it has answered on; no request is lost for it.

    The next request is due when the client has seen the end.
    """
    with asyncio.Runner(loop_factory=FrozenLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, FrozenLoop)

        async def close_after_the_first(
            number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            writer.write(WHOLE)
            if number == 1:
                writer.write_eof()
                await reader.read()
            loop.now += 0.01

        load = run(close_after_the_first, rate=100, connections=2, seconds=0.1, runner=runner.run)

    assert load.statuses == {200: 10}
