"""Connections without a network: a test says which bytes arrive in one packet, and sees the bytes that go back.

All but the transport is real: protocol, parser, endpoints, model and store.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.api.app import Application
from app.api.coalescing import HotEndpoint
from app.config.settings import Config
from app.main import create_app
from app.server.fast_path import FastPathProtocol
from app.server.server import ServerContext
from tests.support.deadlines import DEADLINE_S
from tests.support.raw_client import Reply

MOST_BYTES = 100_000
Connect = Callable[..., "Wire"]


def hot_endpoint(path: str) -> HotEndpoint:
    """An endpoint that is found and never asked."""
    parts = (
        "hosts",
        "rates",
        "keyring",
        "key_scope",
        "limits",
        "deadlines",
        "in_progress",
        "access_log",
        "large_bodies",
    )
    return HotEndpoint(path, cast("Any", None), **dict.fromkeys(parts, cast("Any", None)))


class Wire(asyncio.Transport):
    """One connection of the server."""

    def __init__(self) -> None:
        super().__init__()
        self._protocol: asyncio.BaseProtocol = asyncio.Protocol()
        self._sent = b""
        self._news = asyncio.Event()
        self._listened_to = asyncio.Event()
        self._listened_to.set()
        self._closing = False
        self.unsent_bytes = 0

    @property
    def protocol(self) -> FastPathProtocol:
        """What serves the connection."""
        return cast("FastPathProtocol", self._protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """What serves the connection now."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have the connection served by another protocol."""
        self._protocol = protocol

    def is_reading(self) -> bool:
        """Whether the caller is listened to."""
        return self._listened_to.is_set() and not self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep what the server sends; behind the end of the connection nothing goes out."""
        if not self._closing:
            self._sent += data
            self._news.set()

    def close(self) -> None:
        """Take note that the server ends the connection."""
        self._closing = True
        self._news.set()
        self._listened_to.set()

    def abort(self) -> None:
        """Take note that the server ends the connection at once."""
        self.close()

    def write_eof(self) -> None:
        """Take note that the server has nothing more to say; what it reads behind that is dropped."""
        self.close()

    def get_write_buffer_size(self) -> int:
        """The bytes that the caller has not taken yet."""
        return self.unsent_bytes

    def is_closing(self) -> bool:
        """Whether either side has ended the connection."""
        return self._closing

    def pause_reading(self) -> None:
        """Let the caller wait."""
        self._listened_to.clear()

    def resume_reading(self) -> None:
        """Let the caller go on."""
        self._listened_to.set()

    def packet(self, data: bytes) -> None:
        """Let these bytes arrive, now."""
        self.protocol.data_received(data)

    async def packets(self, parts: Sequence[bytes]) -> None:
        """Let these bytes arrive, each part as soon as the server listens."""
        for part in parts:
            await asyncio.wait_for(self._listened_to.wait(), DEADLINE_S)
            if not self._closing:
                self.packet(part)

    async def end_input(self) -> None:
        """Let the server see, as soon as it listens, that nothing more comes, though the caller reads on."""
        await asyncio.wait_for(self._listened_to.wait(), 10)
        if not self._closing and not self.protocol.eof_received():
            self.close()

    def leave(self) -> None:
        """End the connection as a caller does who has gone."""
        self._closing = True
        self.protocol.connection_lost(None)

    async def replies(self, number: int) -> list[Reply]:
        """So many more answers, or as many as came before the server ended the connection."""
        found: list[Reply] = []
        while len(found) < number:
            reply = self._next_reply()
            if reply is not None:
                found.append(reply)
            elif self._closing:
                break
            else:
                self._news.clear()
                await asyncio.wait_for(self._news.wait(), DEADLINE_S)
        return found

    async def settled_replies(self) -> list[Reply]:
        """All answers to what has arrived; the rest of a request that is not whole gets none."""
        found: list[Reply] = []
        while True:
            while (reply := self._next_reply()) is not None:
                found.append(reply)
            if self._closing or not self.protocol.is_answering:
                return found
            await asyncio.sleep(0)

    def _next_reply(self) -> Reply | None:
        head, end, rest = self._sent.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 1"):  # a provisional one, with no body
            self._sent = rest
            return self._next_reply()
        length = re.search(rb"content-length: (\d+)", head)
        if not end or length is None or len(rest) < int(length[1]):
            return None
        status, *lines = head.decode().split("\r\n")
        self._sent = rest[int(length[1]) :]
        return Reply(int(status.split()[1]), dict(line.split(": ", 1) for line in lines), rest[: int(length[1])])


class Scene(NamedTuple):
    """An application, what connects to it, the tasks of its requests, and what runs an act in its event loop."""

    app: Application
    connect: Connect
    tasks: set[asyncio.Task[None]]
    run: Callable[[Coroutine[Any, Any, Any]], Any]


@asynccontextmanager
async def wired(config: Config) -> AsyncIterator[tuple[Application, Connect, set[asyncio.Task[None]]]]:
    """A running application, what connects to it, and its tasks.

    ``by_asgi=True``: past the fast path; ``by_uvicorn=True``: by uvicorn's own protocol.
    """
    app = create_app(config)
    state = ServerState()
    arguments: dict[str, Any] = {
        "config": uvicorn.Config(app, log_config=None, ws="none", lifespan="off"),
        "server_state": state,
        "app_state": {},
        "_loop": asyncio.get_running_loop(),
    }
    parts = (app, MOST_BYTES, config.limits, app.state.services.metrics.connections)
    contexts = {False: ServerContext(app.hot_routes, *parts), True: ServerContext({}, *parts)}

    def connect(*, by_asgi: bool = False, by_uvicorn: bool = False) -> Wire:
        wire = Wire()
        ours = partial(FastPathProtocol, context=contexts[by_asgi])
        made = (HttpToolsProtocol if by_uvicorn else ours)(**arguments)
        wire.set_protocol(made)
        made.connection_made(wire)
        return wire

    async with app.router.lifespan_context(app):
        yield app, connect, state.tasks


@contextmanager
def scene_of(config: Config) -> Iterator[Scene]:
    """A running application for many acts of a test, each of which is a coroutine."""
    with asyncio.Runner() as runner:
        running = wired(config)
        yield Scene(*runner.run(running.__aenter__()), runner.run)
        runner.run(running.__aexit__(None, None, None))
