"""The load generator that the fault tests trust: what it acknowledges, and what it repeats."""

from __future__ import annotations

import asyncio
import io
import itertools

from benchmarks.load.driver import NO_ANSWER, Load, drive, request_bytes
from tests.support.deadlines import DEADLINE_S

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def run(answers: list[bytes]) -> tuple[Load, list[str], list[str]]:
    """Drive one connection through these answers; gives the load, the ids asked, and the ids acknowledged."""
    asked: list[str] = []
    notes = io.StringIO()

    async def scenario() -> Load:
        remaining = iter(answers)
        stop = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while (head := await reader.readline()).startswith(b"POST"):
                asked.append(head.split()[1].decode())
                await reader.readuntil(b"\r\n\r\n")
                reply = next(remaining)
                if len(asked) == len(answers):
                    stop.set()
                writer.write(reply)
                if reply is CUT:
                    break
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            ids = map(str, itertools.count())
            return await drive(
                port,
                ids,
                lambda name: request_bytes(name, b""),
                connections=1,
                seconds=DEADLINE_S,
                stop=stop,
                acknowledged=notes,
            )

    load = asyncio.run(scenario())
    return load, asked, notes.getvalue().split()


def test_only_whole_answers_are_acknowledged() -> None:
    """An answer cut off inside its body is no acknowledgement, whatever its status line said."""
    load, _, acknowledged = run([WHOLE, CUT, WHOLE])

    assert acknowledged == ["0", "1"]
    assert load.statuses == {200: 2, NO_ANSWER: 1}


def test_what_was_not_acknowledged_is_repeated_with_its_id() -> None:
    """After a refusal or a lost connection the same id is sent again, until it is answered with 200."""
    _, asked, acknowledged = run([WHOLE, BUSY, CUT, WHOLE, WHOLE])

    assert asked == ["0", "1", "1", "1", "2"]
    assert acknowledged == ["0", "1", "2"]


def test_latencies_are_of_good_answers_alone() -> None:
    """A fast refusal does not make the service look fast."""
    load, _, _ = run([BUSY, WHOLE])

    assert len(load.latencies) == 1
    assert load.quantile(0.99) == load.latencies[0]
