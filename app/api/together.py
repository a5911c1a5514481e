"""Requests that arrive together are answered together: one task, one call of the model, one entry in the journal.

A task for each request, with its wake-ups, costs as much as its work. Whoever needs something special goes alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from app.api.batch import Batch, Caller
from app.api.deadlines import Watch
from app.api.hot import HotEndpoint
from app.api.wire import Call, Reply
from app.errors import PlumblineError, Unavailable

PACE_S = 0.002
"""Least time between two beginnings under load: each beginning, with its commit, costs as much as some ten requests."""


class Together:
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

    def take(self, caller: Caller) -> None:
        """Answer a request, together with those that come now."""
        self._waiting.append(caller)
        if len(self._waiting) == caller.neighbours:
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
            self._next_at = together[0].loop.time() + PACE_S
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
                caller.go_alone()
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
                    caller.go_alone()
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


Lane = Mapping[tuple[bytes, bytes], Together]
"""Hot endpoints by method and target."""
