"""The HTTP server: uvicorn with a deadline for receiving a request, and a clean exit on SIGTERM."""

from __future__ import annotations

import asyncio
import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.config import Server as ServerSettings

BACKLOG = 4096


class PlumblineServer(uvicorn.Server):
    """Ends with exit code 0 on SIGTERM and SIGINT, and closes the connections of clients that never finish a request.

    uvicorn itself raises the signal again after it has drained, and waits for a request for ever.
    """

    def __init__(self, config: uvicorn.Config, receive_timeout_s: float) -> None:
        super().__init__(config)
        self._receive_timeout_s = receive_timeout_s

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain on the first signal, stop at once on a second SIGINT."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections ten times a second: a timer for each request would cost more than its answer."""
        oldest = asyncio.get_running_loop().time() - self._receive_timeout_s
        for connection in list(self.server_state.connections):
            if isinstance(connection, PatientProtocol) and connection.receiving_since < oldest:
                connection.transport.abort()
        return await super().on_tick(counter)


class PatientProtocol(HttpToolsProtocol):
    """Knows since when it has been waiting for the rest of a request, or for the first; infinity while it is not."""

    receiving_since = math.inf

    def connection_made(self, transport: Any) -> None:
        """Expect the first request."""
        super().connection_made(transport)
        self.receiving_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Expect the rest of a request from its first byte on."""
        if self.receiving_since == math.inf:
            self.receiving_since = self.loop.time()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Expect the rest of a request that came together with the end of the one before."""
        self.receiving_since = min(self.receiving_since, self.loop.time())
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """Take note that the request is here."""
        self.receiving_since = math.inf
        super().on_message_complete()


def serve(app: FastAPI, settings: ServerSettings) -> None:
    """Serve until a signal asks to stop; requests in flight are answered first."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=PatientProtocol,
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nothing here asks where a request came from
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
        timeout_keep_alive=75,
    )
    PlumblineServer(config, settings.receive_timeout).run()
