"""Requests that wait together are answered together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from app.api.dependencies import Keyring
from app.api.http import Call, Handler, Reply, internal_error, render_error
from app.api.middleware import AccessLog, Deadlines, Watch, common_headers, request_id_of
from app.config.settings import Scope as KeyScope
from app.errors import DeadlineExceeded, PlumblineError, Unavailable
from app.metrics import InProgress

Item = TypeVar("Item")
Done = TypeVar("Done")


class Batch(Protocol[Item, Done]):
    """What an endpoint does with many requests at once."""

    @property
    def most(self) -> int:
        """Most requests that it takes at this moment."""

    def read(self, calls: Sequence[Call]) -> list[Item | None]:
        """What is in each request; None for one that has to go alone."""

    async def settle(self, calls: Sequence[Call], items: Sequence[Item]) -> Done:
        """Do what they ask for, begun before anything else happens in the event loop.

        Raises:
            Unavailable: nothing of it was done, and all are told so.
            Exception: nothing of it was done; each goes alone, so that only the guilty fails.
        """

    def replies(self, calls: Sequence[Call], done: Done) -> list[Reply]:
        """The replies, in order; what fails now fails for all, since done is done and must not be done again."""


class Caller(Protocol):
    """One whole request on its connection."""

    call: Call

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its connection."""

    @property
    def open_connections(self) -> int:
        """How many connections there are; each has one request under way at most."""

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """What the server waits for when it ends."""

    def reply(self, reply: Reply) -> None:
        """Answer it."""

    def run_individually(self) -> None:
        """Leave it to a task of its own."""


_UNKNOWN = "whether the row was stored is unknown, repeating the same id is safe"
_LATE = f"not answered in time; {_UNKNOWN}"
_ENDING = f"the service is shutting down; {_UNKNOWN}"


@dataclass(frozen=True, slots=True)
class HotEndpoint:
    """An ASGI application around one handler."""

    handler: Handler
    keyring: Keyring
    key_scope: KeyScope
    deadlines: Deadlines
    in_progress: InProgress
    access_log: AccessLog

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request over ASGI."""
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        call = Call(
            scope["method"],
            scope["path"],
            scope["query_string"],
            headers,
            receive,
            request_id,
            received_at=scope["plumbline.received_at"],
        )
        reply = await self.answer(call)
        await reply.send(send, common_headers(request_id))

    async def answer(self, call: Call) -> Reply:
        """The answer to one call, whatever happens."""
        watch = self.deadlines.enter()
        self.in_progress.requests += 1
        status = 0
        try:
            call.key_name = self.keyring.authorise(call.headers, self.key_scope)
            reply = await self.handler(call)
            status = reply.status
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever happens, the caller is answered
            reply = self.refuse(error, call, watch)
            status = reply.status
        finally:
            self.in_progress.requests -= 1
            self.deadlines.leave(watch)
            seconds = time.perf_counter() - call.received_at
            self.access_log.note(call.request_id, call.method, call.path, status, seconds, call.notes)
        return reply

    def refuse(self, error: Exception | asyncio.CancelledError, call: Call, watch: Watch) -> Reply:
        """The answer to a call that failed."""
        if isinstance(error, PlumblineError):
            return render_error(error, call.request_id)
        if isinstance(error, asyncio.CancelledError):
            refusal = DeadlineExceeded(_LATE) if watch.expired else Unavailable(_ENDING)
            return render_error(refusal, call.request_id)
        log = structlog.get_logger("api")
        log.error("unexpected_error", error_id=call.request_id, exc_info=error)
        return internal_error(call.request_id)


MIN_GROUP_INTERVAL_S = 0.002
"""Least time between two beginnings under load: each beginning, with its commit, costs as much as some ten requests."""


class RequestCoalescer:
    """Gathers the requests for one endpoint.

    It begins as soon as everybody who is connected has asked, or a turn of the event loop brings nobody; but not sooner
    after the last beginning than load allows. A lone caller waits for nobody.
    """

    def __init__(self, path: str, endpoint: HotEndpoint, batch: Batch[Any, Any]) -> None:
        self.path = path
        self.endpoint = endpoint
        self._batch = batch
        self._waiting: list[Caller] = []
        self._next_at = 0.0
        self._turn: asyncio.Handle | None = None

    def submit(self, caller: Caller) -> None:
        """Answer a request, together with those that come now."""
        self._waiting.append(caller)
        if len(self._waiting) == caller.open_connections:
            self._begin(caller)
        elif len(self._waiting) == 1:
            rest = max(0.0, self._next_at - caller.loop.time())
            self._turn = caller.loop.call_later(rest, self._gather, caller, 0)

    def _gather(self, first: Caller, seen: int) -> None:
        if seen < len(self._waiting) < self._batch.most:
            self._turn = first.loop.call_soon(self._gather, first, len(self._waiting))
        else:
            self._begin(first)

    def _begin(self, first: Caller) -> None:
        if self._turn:
            self._turn.cancel()
        callers, self._waiting, self._turn = self._waiting, [], None
        task = first.loop.create_task(self._answer(callers))
        first.tasks.add(task)
        task.add_done_callback(first.tasks.discard)

    async def _answer(self, callers: Sequence[Caller]) -> None:
        """Every one of them is answered, or goes alone."""
        together, items = self._sort_out(callers)
        if not together:
            return
        if len(together) > 1:
            self._next_at = together[0].loop.time() + MIN_GROUP_INTERVAL_S
        endpoint, calls = self.endpoint, [caller.call for caller in together]
        watch = endpoint.deadlines.enter()
        endpoint.in_progress.requests += len(calls)
        replies: list[Reply] = []
        try:
            done = await self._batch.settle(calls, items)
        except (Unavailable, asyncio.CancelledError) as error:
            replies = [endpoint.refuse(error, call, watch) for call in calls]
        except Exception:  # noqa: BLE001 - whatever it is, it is found again by the one whose fault it is
            for caller in together:
                caller.run_individually()
        else:
            replies = self._replies(calls, done, watch)
        finally:
            endpoint.in_progress.requests -= len(calls)
            endpoint.deadlines.leave(watch)
        if replies:
            endpoint.access_log.note_all(calls, replies)
            for caller, reply in zip(together, replies, strict=True):
                caller.reply(reply)

    def _replies(self, calls: Sequence[Call], done: Any, watch: Watch) -> list[Reply]:
        try:
            return self._batch.replies(calls, done)
        except Exception as error:  # noqa: BLE001 - whatever happens, the callers are answered
            return [self.endpoint.refuse(error, call, watch) for call in calls]

    def _sort_out(self, callers: Sequence[Caller]) -> tuple[list[Caller], list[Any]]:
        """Those who can be answered together, with what they sent; the others go alone."""
        room = self._batch.most
        eligible = [caller for caller in callers[:room] if self._may_join(caller.call)]
        found = self._read([caller.call for caller in eligible]) if eligible else []
        joined = {caller: item for caller, item in zip(eligible, found, strict=True) if item is not None}
        if len(joined) < len(callers):
            for caller in callers:
                if caller not in joined:
                    caller.run_individually()
        return list(joined), list(joined.values())

    def _read(self, calls: Sequence[Call]) -> Sequence[Any]:
        try:
            return self._batch.read(calls)
        except Exception:  # noqa: BLE001 - as above
            return [None] * len(calls)

    def _may_join(self, call: Call) -> bool:
        """Whether a request is plain JSON, from somebody who may send it."""
        try:
            call.key_name = self.endpoint.keyring.authorise(call.headers, self.endpoint.key_scope)
        except PlumblineError:
            return False
        return call.is_plain_json


HotRoutes = Mapping[tuple[bytes, bytes], RequestCoalescer]
"""Hot endpoints by method and target."""
