"""Answer the requests that come together in one step.

A request over ASGI and one of the fast path take the same way from the moment its body is here: it is decoded,
handled with its group, and rendered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from time import perf_counter
from typing import Any, Protocol, TypeVar

import structlog
from starlette.types import Receive, Scope, Send

from app.api.dependencies import check_query
from app.api.http import (
    BodyLimits,
    Call,
    Reply,
    check_head,
    client_of,
    internal_error,
    receive_body,
    render_error,
    unpack,
)
from app.api.middleware import AccessLog, Deadlines, TrustedHosts, Watch, common_headers, request_id_of
from app.api.request_guards import Keyring, RateLimits
from app.config.settings import Scope as KeyScope
from app.errors import DeadlineExceeded, PlumblineError, Unavailable
from app.logging import REQUESTS, ids_of
from app.metrics import InProgress

Item = TypeVar("Item")
Result = TypeVar("Result")


class Handler(Protocol[Item, Result]):
    """The work of an endpoint, for one request or many.

    Attributes:
        parameters: the query parameters that it takes.
    """

    parameters: tuple[str, ...]

    @property
    def max_group(self) -> int:
        """Most requests in one group."""

    def decode(self, call: Call, body: bytes) -> Item:
        """Decode what a request asks for.

        Raises:
            RequestError: the request is refused.
        """

    def group_of(self, item: Item) -> Hashable:
        """Requests of one group are handled in one step; None for one that is a group of its own."""

    async def handle(self, calls: Sequence[Call], items: Sequence[Item]) -> Sequence[Result | Exception]:
        """Do what the requests of a group ask for; the result or the failure of each.

        Raises:
            Exception: the failure of all.
        """

    def render(self, calls: Sequence[Call], items: Sequence[Item], results: Sequence[Result]) -> Sequence[Reply]:
        """The answers to the requests that did not fail."""

    def count_failure(self, call: Call, item: Item | None, error: BaseException) -> None:
        """Count a request that failed.

        ``item`` is None where it was not decoded.
        """


class Caller(Protocol):
    """One whole request on its connection."""

    call: Call

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of its connection."""

    @property
    def open_connections(self) -> int:
        """The number of connections; each has one request under way at most."""

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks that the server waits for when it ends."""

    def reply(self, reply: Reply) -> None:
        """Answer it."""

    def abandon(self) -> None:
        """End its connection without an answer."""


_UNKNOWN = "whether the row was stored is unknown, repeating the same id is safe"
_LATE = f"not answered in time; {_UNKNOWN}"
_ENDING = f"the service is shutting down; {_UNKNOWN}"
MIN_GROUP_INTERVAL_S = 0.002
"""Least time between two beginnings under load: each beginning, with its commit, costs as much as some ten requests."""


MAX_LOOP_BODY_BYTES = 65_536
"""Largest body that is decoded in the event loop."""


class HotEndpoint:
    """Gathers the requests for one endpoint, and is an ASGI application.

    It begins as soon as everybody who is connected has asked, or a turn of the event loop brings nobody; but not sooner
    after the last beginning than load allows. A lone caller waits for nobody.
    """

    def __init__(
        self,
        path: str,
        handler: Handler[Any, Any],
        *,
        hosts: TrustedHosts,
        rates: RateLimits,
        keyring: Keyring,
        key_scope: KeyScope,
        limits: BodyLimits,
        deadlines: Deadlines,
        in_progress: InProgress,
        access_log: AccessLog,
        large_bodies: Executor,
    ) -> None:
        self.path = path
        self._handler = handler
        self._hosts = hosts
        self._rates = rates
        self._keyring = keyring
        self._key_scope: KeyScope = key_scope
        self._limits = limits
        self._deadlines = deadlines
        self._in_progress = in_progress
        self._access_log = access_log
        self._tasks: set[asyncio.Task[Any]] = set()
        self._large_bodies = large_bodies
        self._waiting: list[Caller] = []
        self._next_at = 0.0
        self._turn: asyncio.Handle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request over ASGI."""
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        received_at = scope["plumbline.received_at"]
        call = Call(scope["method"], scope["path"], scope["query_string"], headers, request_id, received_at)
        call.client = client_of(scope)
        REQUESTS.set((call,))
        reply = await self._answer_over_asgi(call, receive)
        await reply.send(send, common_headers(request_id))

    async def _answer_over_asgi(self, call: Call, receive: Receive) -> Reply:
        """Receive the body of a caller who may send one, then answer it as the fast path does."""
        watch = self._deadlines.enter()
        self._in_progress.requests += 1
        try:
            self._admit(call)
            check_head(call, self._limits)
            call.body = await receive_body(receive, self._limits)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever happens, the caller is answered
            return self.refuse(call, error, watch)
        finally:
            self._in_progress.requests -= 1
            self._deadlines.leave(watch)
        caller = AsgiCaller(call, self._tasks)
        self.submit(caller)
        try:
            return await caller.answer
        except asyncio.CancelledError:  # the server ends; what becomes of the group is counted there
            return render_error(Unavailable(_ENDING), call.request_id)

    def refuse_head(self, call: Call) -> Reply | None:
        """The refusal of a request by its head alone; None where its body may come."""
        try:
            self._admit(call)
            check_head(call, self._limits)
        except Exception as error:  # noqa: BLE001 - whatever it is, this caller is told
            return self.refuse(call, error)
        return None

    def refuse(self, call: Call, error: BaseException, watch: Watch | None = None) -> Reply:
        """The answer to a call that was never decoded; it is counted and logged."""
        reply = self._refuse(call, None, error, watch)
        self._access_log.note_all([call], [reply.status])
        return reply

    def submit(self, caller: Caller) -> None:
        """Answer a request whose body is here, together with those that come now."""
        self._waiting.append(caller)
        if len(self._waiting) == caller.open_connections:
            self._begin(caller)
        elif len(self._waiting) == 1:
            rest = max(0.0, self._next_at - caller.loop.time())
            self._turn = caller.loop.call_later(rest, self._gather, caller, 0)

    def _gather(self, first: Caller, seen: int) -> None:
        if seen < len(self._waiting) < self._handler.max_group:
            self._turn = first.loop.call_soon(self._gather, first, len(self._waiting))
        else:
            self._begin(first)

    def _begin(self, first: Caller) -> None:
        """Decode what has come, and begin each group in a task of its own."""
        if self._turn:
            self._turn.cancel()
        callers, self._waiting, self._turn = self._waiting, [], None
        if len(callers) > 1:
            self._next_at = first.loop.time() + MIN_GROUP_INTERVAL_S
        groups: dict[Hashable, list[tuple[Caller, Any]]] = {}
        for caller in callers:
            if len(caller.call.body) > MAX_LOOP_BODY_BYTES or b"content-encoding" in caller.call.headers:
                self._run(first, [caller], self._decode_apart(caller))
                continue
            try:
                item = self._decode(caller.call)
            except Exception as error:  # noqa: BLE001 - whatever it is, this caller is told
                self._reply([caller], [self._refuse(caller.call, None, error)])
                continue
            group: Hashable = self._handler.group_of(item)
            groups.setdefault(id(caller) if group is None else (group,), []).append((caller, item))
        most = max(1, self._handler.max_group)
        for members in groups.values():
            for start in range(0, len(members), most):
                self._start(first, members[start : start + most])

    def _start(self, first: Caller, group: Sequence[tuple[Caller, Any]]) -> None:
        """Answer a group in a task that the server waits for."""
        self._run(first, [caller for caller, _ in group], self._answer(group))

    async def _decode_apart(self, caller: Caller) -> None:
        """Decode a large or a compressed body in another thread, and answer it alone.

        Eight megabytes would keep the event loop for some hundred milliseconds. One thread decodes all of them, one at
        a time: many at once would need their memory at once.
        """
        call = caller.call
        REQUESTS.set((call,))
        try:
            self._admit(call)
            item = await caller.loop.run_in_executor(self._large_bodies, self._decode, call)
        except Exception as error:  # noqa: BLE001 - as above
            self._reply([caller], [self._refuse(call, None, error)])
        else:
            call.body = b""
            await self._answer([(caller, item)])

    @staticmethod
    def _run(first: Caller, callers: Sequence[Caller], work: Coroutine[Any, Any, None]) -> None:
        """Run the work for some callers in a task that the server waits for."""

        def end(task: asyncio.Task[None]) -> None:
            first.tasks.discard(task)
            if task.cancelled():  # before it ran at all: else everybody has an answer
                for caller in callers:
                    caller.abandon()

        task = first.loop.create_task(work)
        first.tasks.add(task)
        task.add_done_callback(end)

    def _admit(self, call: Call) -> None:
        """See whether the caller may ask, before its body is read."""
        if call.is_admitted:
            return
        if self._access_log.spans is not None:
            call.begin_stages()
        self._hosts.check(call.method, call.path, call.headers)
        rates = self._rates
        if rates.addresses is not None:
            rates.count_address(call.client, call.received_at)
        grant = self._keyring.authorise(call.headers, self._key_scope, call.client)
        if grant is not None:
            call.key_name, call.key_model = grant.name, grant.model
            if rates.keys is not None:
                rates.count_key(grant.name, call.received_at)
        call.is_admitted = True
        if call.query_string:
            check_query(call, *self._handler.parameters)

    def _decode(self, call: Call) -> Any:
        self._admit(call)
        if call.stages is None:
            return self._handler.decode(call, unpack(call, self._limits))
        began = perf_counter()
        try:
            return self._handler.decode(call, unpack(call, self._limits))
        finally:
            call.stages.validate = (began, perf_counter())

    async def _answer(self, group: Sequence[tuple[Caller, Any]]) -> None:
        """Every one of the group is answered, whatever happens."""
        callers = [caller for caller, _ in group]
        items = [item for _, item in group]
        calls = [caller.call for caller in callers]
        REQUESTS.set(calls)
        watch = self._deadlines.enter()
        self._in_progress.requests += len(calls)
        try:
            results = await self._handler.handle(calls, items)
            replies = self._render(calls, items, results)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - as above
            replies = [self._refuse(call, item, error, watch) for call, item in zip(calls, items, strict=True)]
        finally:
            self._in_progress.requests -= len(calls)
            self._deadlines.leave(watch)
        self._reply(callers, replies)

    def _render(self, calls: Sequence[Call], items: Sequence[Any], results: Sequence[Any]) -> Sequence[Reply]:
        failed = {place: result for place, result in enumerate(results) if isinstance(result, Exception)}
        if not failed:
            return self._handler.render(calls, items, results)
        good = [place for place in range(len(calls)) if place not in failed]
        parts = ([values[place] for place in good] for values in (calls, items, results))
        rendered = iter(self._handler.render(*parts) if good else ())
        return [
            self._refuse(calls[place], items[place], failed[place]) if place in failed else next(rendered)
            for place in range(len(calls))
        ]

    def _refuse(self, call: Call, item: Any, error: BaseException, watch: Watch | None = None) -> Reply:
        """The answer to a call that failed."""
        if isinstance(error, asyncio.CancelledError):
            error = DeadlineExceeded(_LATE) if watch and watch.expired else Unavailable(_ENDING)
        self._handler.count_failure(call, item, error)
        if isinstance(error, PlumblineError):
            return render_error(error, call.request_id)
        log = structlog.get_logger("api")
        log.error("unexpected_error", error_id=call.request_id, **ids_of(call), exc_info=error)
        return internal_error(call.request_id)

    def _reply(self, callers: Sequence[Caller], replies: Sequence[Reply]) -> None:
        self._access_log.note_all([caller.call for caller in callers], [reply.status for reply in replies])
        for caller, reply in zip(callers, replies, strict=True):
            caller.reply(reply)


class AsgiCaller:
    """One whole request over ASGI.

    Attributes:
        answer: the reply, once there is one.
    """

    open_connections = 0
    """Not known over ASGI: a turn of the event loop tells that nobody else comes."""

    def __init__(self, call: Call, tasks: set[asyncio.Task[Any]]) -> None:
        self.call = call
        self.tasks = tasks
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Reply] = self.loop.create_future()

    def reply(self, reply: Reply) -> None:
        """Answer it, unless its task has ended."""
        if not self.answer.done():
            self.answer.set_result(reply)

    def abandon(self) -> None:
        """Let its task end."""
        self.answer.cancel()


HotRoutes = Mapping[tuple[bytes, bytes], HotEndpoint]
"""Hot endpoints by method and target."""
