"""The HTTP server: uvicorn's, with limits over all connections and a clean exit on SIGTERM."""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import math
import os
import resource
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

import structlog
import uvicorn
from starlette.types import ASGIApp

from app.api.coalescing import HotRoutes
from app.background import PeriodicTask
from app.config.fields import Limits
from app.metrics import ConnectionMetrics

BACKLOG = 4096
LOOK_EVERY_S = 0.1
BEAT_S = 0.02
MAX_HEADS_BYTES = 8 * 2**20
"""Memory for heads that are not whole and requests that wait for an answer before them, over all connections."""
MAX_BODIES_BYTES = 32 * 2**20
"""Memory for bodies that are not answered, over all connections; at least two of the longest."""
OPEN_SHARE = 0.5
"""The part of it for a service that asks nobody for a key: enough for one of the longest bodies at a time."""
SMALL_BODY_BYTES = 65536
"""Up to this length a body may use all of the memory, a longer one three quarters: small ones always find room."""
MAX_REFUSED = 64
"""Refused connections that hear why, at once; more are closed without a word."""
RESERVED_DESCRIPTORS = 128
"""Descriptors for all but connections: the store, the log, the process of the checks, connections that just begin."""
NEAR_DESCRIPTORS = 32
LOG_EVERY_S = 60.0
TRIM_BYTES = 4 * 2**20
"""Memory that was let go of since the allocator gave its free memory back to the system, before it does again."""


class ServedConnection(Protocol):
    """A connection as the limits see it.

    Attributes:
        client: the address of the peer.
        is_idle: nothing has arrived that is not answered.
        is_answering: a whole request waits for its answer.
        quiet_since: when the last answer was given, or the connection began.
    """

    client: str

    @property
    def is_idle(self) -> bool: ...  # noqa: D102

    @property
    def is_answering(self) -> bool: ...  # noqa: D102

    @property
    def quiet_since(self) -> float: ...  # noqa: D102

    def is_late(self, now: float, receive_timeout_s: float) -> bool:
        """Whether the peer takes too long."""

    def end_late(self) -> None:
        """End a connection that is late."""

    def abort(self) -> None:
        """End it at once."""


class MemoryBudget:
    """Bytes that many connections may keep together.

    Attributes:
        used: bytes that are kept now.
        released: bytes that were let go of; whoever gives memory back sets it to zero.

    Args:
        is_open: tells whether everybody may ask; then a part of it is all that may be used.
    """

    def __init__(self, max_bytes: int, is_open: Callable[[], bool] = bool) -> None:
        self._max_bytes = max_bytes
        self._is_open = is_open
        self.used = 0
        self.released = 0

    def take(self, size: int, holder_bytes: int) -> bool:
        """Count more bytes of a holder, which has so many then; False where there is no room."""
        limit = self._max_bytes * (OPEN_SHARE if self._is_open() else 1)
        if holder_bytes > SMALL_BODY_BYTES:
            limit *= 0.75
        if self.used + size > limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Count so many bytes less."""
        self.used -= size
        self.released += size


@dataclass
class ServerContext:
    """State that the connections of one server share.

    Attributes:
        is_open: tells whether everybody may ask, since there are no keys.
        fast: the open connections whose last request, if any, was a plain one.
        open: all open connections that were let in.
        refused: connections that are told that there is no room.
        bodies: memory for bodies of callers who may ask.
        heads: memory for what comes before it is known who asks.
    """

    routes: HotRoutes
    app: ASGIApp
    max_body_bytes: int
    limits: Limits
    metrics: ConnectionMetrics
    max_connections: int = 0
    max_descriptor: float = math.inf
    is_open: Callable[[], bool] = bool
    fast: set[ServedConnection] = field(default_factory=set)
    open: set[ServedConnection] = field(default_factory=set)
    refused: set[ServedConnection] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.max_connections = self.max_connections or self.limits.connections
        self.bodies = MemoryBudget(max(MAX_BODIES_BYTES, 3 * self.max_body_bytes), self.is_open)
        self.heads = MemoryBudget(MAX_HEADS_BYTES)
        self._addresses: Counter[str] = Counter()
        self._oldest: deque[ServedConnection] = deque()
        self._log = structlog.get_logger("connections")
        self._logged_at = -math.inf
        self._unlogged: Counter[str] = Counter()

    @property
    def connections(self) -> list[ServedConnection]:
        """All connections."""
        return [*self.open, *self.refused]

    def admit(self, connection: ServedConnection, descriptor: int) -> bool:
        """Let a new connection in, where need be in the place of one that is idle."""
        reason = self._reason_against(connection.client, descriptor)
        if reason:
            self._note(reason)
            return False
        self.open.add(connection)
        self.fast.add(connection)
        self._addresses[connection.client] += 1
        self.metrics.open = len(self.open)
        return True

    def is_refusal_heard(self, connection: ServedConnection) -> bool:
        """Whether a refused connection is told why; it is watched until it has ended."""
        if len(self.refused) >= MAX_REFUSED:
            return False
        self.refused.add(connection)
        return True

    def leave(self, connection: ServedConnection) -> None:
        """Forget a connection that has ended."""
        self.refused.discard(connection)
        self.fast.discard(connection)
        if connection in self.open:
            self.open.remove(connection)
            self._addresses[connection.client] -= 1
            if not self._addresses[connection.client]:
                del self._addresses[connection.client]
            self.metrics.open = len(self.open)

    def look(self, now: float, receive_timeout_s: float) -> None:
        """End the connections that are late, tell of those that were refused, and give memory back."""
        for connection in self.connections:
            if connection.is_late(now, receive_timeout_s):
                connection.end_late()
        self._keep_descriptors()
        if self._unlogged and now - self._logged_at >= LOG_EVERY_S:
            self._log.warning("connections_refused", **self._unlogged, open=len(self.open))
            self._logged_at = now
            self._unlogged.clear()
        if self.bodies.released + self.heads.released > TRIM_BYTES:
            self.bodies.released = self.heads.released = 0
            give_memory_back()

    def _reason_against(self, address: str, descriptor: int) -> str:
        """Why there is no room for one more connection; empty where there is."""
        limits = self.limits
        most = limits.loopback_connections if _is_loopback(address) else limits.connections_per_address
        if most is not None and self._addresses[address] >= most:
            return "address"
        if len(self.open) >= self.max_connections and not self._make_room():
            return "connections"
        return "descriptors" if descriptor > self.max_descriptor and not self._make_room() else ""

    def _keep_descriptors(self) -> None:
        """End idle connections where no descriptor is left.

        Others than connections need them too, and the limit may be lowered while the service runs. Without one, the
        system's own loop closes each new connection, and nobody hears of it.
        """
        try:
            os.close(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            self._note("descriptors")
            for _ in range(1 + len(self.open) // 8):
                self._make_room()

    def _make_room(self) -> bool:
        """End the connection that is idle for longest, else one whose request is not whole."""
        for _ in range(2):
            while self._oldest:
                oldest = self._oldest.popleft()
                if oldest in self.open and not oldest.is_answering:
                    self._note("idle")
                    self.leave(oldest)
                    self.refused.add(oldest)  # watched until it has ended
                    oldest.abort()
                    return True
            candidates = [each for each in self.open if not each.is_answering]
            candidates.sort(key=lambda each: (not each.is_idle, each.quiet_since))
            self._oldest.extend(candidates[: 1 + len(candidates) // 8])
        return False

    def _note(self, reason: str) -> None:
        self.metrics.refused[reason].inc()
        self._unlogged[reason] += 1


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return True


def usable_connections(limits: Limits) -> tuple[int, float]:
    """The connections that the limit of descriptors allows, and the highest descriptor.

    The limit is raised as far as the system allows.
    """
    wanted = limits.connections + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits.connections, math.inf
    if soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    connections = min(limits.connections, max(soft - RESERVED_DESCRIPTORS, soft // 4, 1))
    if connections < limits.connections:
        structlog.get_logger("connections").warning(
            "few_descriptors",
            descriptors=soft,
            connections=connections,
            configured=limits.connections,
            advice="raise the limit of open files (ulimit -n), or lower limits.connections",
        )
    return connections, soft - NEAR_DESCRIPTORS


def _trim_of_libc() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_memory_back() -> None:
    """Give the allocator's free memory back to the system, where it keeps it otherwise."""
    trim = _trim_of_libc()
    if trim is not None:
        trim(0)


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

    Args:
        on_start: is called with the port once the server listens.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        context: ServerContext,
        receive_timeout_s: float,
        on_start: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._context = context
        self._on_start = on_start
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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so."""
        await super().startup(sockets)
        if self._on_start is not None and self.started:
            self._on_start(self.servers[0].sockets[0].getsockname()[1])

    async def _look(self) -> None:
        """Look at all connections."""
        self._context.look(perf_counter(), self._receive_timeout_s)
