"""The HTTP server: uvicorn, a deadline for receiving, a clean exit on SIGTERM."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter

import uvicorn

from app.api.app import Application
from app.background import PeriodicTask
from app.config.settings import Config
from app.metrics import ConnectionMetrics
from app.server.connection_limits import ServerContext, usable_connections
from app.server.fast_path import KEEP_ALIVE_S, FastPathProtocol

BACKLOG = 4096
LOOK_EVERY_S = 0.1
BEAT_S = 0.02


class StallMeter:
    """Measures by how much the event loop comes late to a timer: so long nobody was served."""

    def __init__(self, metrics: ConnectionMetrics) -> None:
        self._observe = metrics.stalls.observe
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, in the loop that is measured."""
        self._timer = loop.call_later(BEAT_S, self._beat, loop, perf_counter() + BEAT_S)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._observe(max(0.0, perf_counter() - due))
        self.start(loop)


class PlumblineServer(uvicorn.Server):
    """A uvicorn server that ends with exit code 0 on SIGTERM and SIGINT.

    It closes the connections of clients that never finish a request.

    uvicorn itself raises the signal again after it has drained, and waits for a request for ever.
    """

    def __init__(self, config: uvicorn.Config, context: ServerContext, receive_timeout_s: float) -> None:
        super().__init__(config)
        self._context = context
        self._receive_timeout_s = receive_timeout_s
        self._stalls = StallMeter(context.metrics)
        self.task = PeriodicTask("connections", self._look, interval_s=LOOK_EVERY_S, store_away="warn")

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

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, and look at all connections ten times a second, also while requests drain.

        A timer for each request would cost more than its answer.
        """
        self.task.start()
        self._stalls.start(asyncio.get_running_loop())
        try:
            await super().serve(sockets)
        finally:
            self._stalls.stop()
            await self.task.stop(grace_s=0)

    async def _look(self) -> None:
        """Look at all connections."""
        self._context.look(perf_counter(), self._receive_timeout_s)


def serve(app: Application, config: Config) -> None:
    """Serve until a signal asks to stop; requests in flight are answered first."""
    settings = config.server
    connections, descriptor = usable_connections(config.limits)
    context = ServerContext(
        app.hot_routes,
        app,
        settings.max_body_bytes,
        config.limits,
        app.state.services.metrics.connections,
        max_connections=connections,
        max_descriptor=descriptor,
    )
    uvicorn_config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(FastPathProtocol, context=context),  # type: ignore[arg-type]  # whatever makes a protocol will do
        lifespan="on",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # nothing here asks where a request came from
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
    )
    server = PlumblineServer(uvicorn_config, context, settings.receive_timeout)
    app.add_background_task(server.task)
    server.run()
