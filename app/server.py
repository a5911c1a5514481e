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
    """Ends with exit code 0 on SIGTERM and SIGINT: uvicorn would raise the signal again after it has drained."""

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


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection that does not finish sending a request in time; uvicorn would wait for ever.

    The clock runs from the connection's start, and from a request's first byte, to the request's last byte.
    """

    receive_timeout_s: float

    def connection_made(self, transport: Any) -> None:
        """Give the client its time for the first request."""
        super().connection_made(transport)
        self._receiving: asyncio.TimerHandle | None = None
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Start the clock with a request's first byte."""
        if self._receiving is None:
            self._expect()
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Start the clock for a request that came in one packet with the end of another."""
        if self._receiving is None:
            self._expect()
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The request is here: stop the clock."""
        self._stop_clock()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is expected."""
        self._stop_clock()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._receiving = self.loop.call_later(self.receive_timeout_s, self._give_up)

    def _give_up(self) -> None:
        self._receiving = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _stop_clock(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None


def serve(app: FastAPI, settings: ServerSettings) -> None:
    """Serve until a signal asks to stop; requests in flight are answered first."""
    protocol = type("Protocol", (PatientProtocol,), {"receive_timeout_s": settings.receive_timeout})
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=protocol,
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
    PlumblineServer(config).run()
