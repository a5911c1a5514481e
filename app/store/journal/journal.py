"""The journal: many callers, one transaction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from itertools import repeat
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, TypeAlias

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.errors import Unavailable, mask_secrets
from app.metrics import JournalMetrics
from app.store.database import Database
from app.store.journal.spool import Spooler
from app.store.journal.writer import AWAY, Item, Result, Write, Writer
from app.store.queries.predictions import Taken

OnStored: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], object]
"""Takes items and their results; it returns at once and raises nothing."""


@dataclass(slots=True, eq=False)
class Entry:
    """One caller's items.

    Attributes:
        rows: how many of them count towards the limit; our own acts do not, since they are few and must not starve.
        ledger: whether the ledger counts them, as it does predictions.
        undecided: how many of them may turn out to be replays, which the ledger does not count; it counts the others
            of these once they are stored.
        spool: writes them into the spool while the store is away; None: they are refused then.
        on_stored: takes the items and their results after the commit, in the journal's thread.
    """

    write: Write[Any, Any]
    items: Sequence[Any]
    future: asyncio.Future[list[Any]]
    rows: int
    ledger: bool
    spool: Write[Any, Any] | None = None
    undecided: int = 0
    on_stored: OnStored | None = None


Written: TypeAlias = tuple[Entry, list[Any] | BaseException, bool]
"""One caller's items, their results or failure, and whether they were spooled."""


def reason_of(error: BaseException) -> str:
    """The ledger's word for a failure: a fixed set."""
    if isinstance(error, Unavailable):
        return "store"
    return "taken" if isinstance(error, Taken) else "refused"


MAX_GROUP_ROWS = 1024
"""Rows in one transaction; larger groups gain nothing, and the first caller waits longer."""


class Journal:
    """The group-committing writer. Start and close it in the event loop whose callers it serves."""

    def __init__(
        self, database: Database, metrics: JournalMetrics, *, max_rows: int, spooler: Spooler | None = None
    ) -> None:
        self._writer = Writer(database.writer)
        self._spooler = spooler
        self._metrics = metrics
        self._max_rows = max_rows
        self._waiting_rows = 0
        self._gathering: list[Entry] = []
        self._queue: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="plumbline-journal", daemon=True)
        self._ended = False
        self._outage: str | None = None
        self._log = structlog.get_logger("journal")

    def start(self) -> None:
        """Start the writing thread."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        if self._spooler:
            self._spooler.start(wake=lambda: self._queue.put([]))

    @property
    def alive(self) -> bool:
        """Tell whether the writing thread lives.

        Without it nothing can be stored, and the process is not ready.
        """
        return self._thread.is_alive()

    @property
    def outage(self) -> str | None:
        """Give the reason why the latest write did not reach the store, or None."""
        return self._spooler.outage if self._spooler else self._outage

    @property
    def spooling(self) -> bool:
        """Whether rows go into the spool, which does not know the ids in the store."""
        return self._spooler is not None and self._spooler.spooling

    def new_future(self) -> asyncio.Future[Any]:
        """Make a future.

        The loop is known here; ``asyncio.get_running_loop`` would cost a system call.
        """
        return self._loop.create_future()

    async def append(
        self,
        write: Write[Item, Result],
        items: Sequence[Item],
        *,
        ledger: bool = False,
        undecided: int = 0,
        spool: Write[Item, Result] | None = None,
        on_stored: OnStored | None = None,
    ) -> list[Result]:
        """Write the items, all or none, and return after the commit.

        The commit is that of the store, or that of the spool where ``spool`` is given and the store is away.
        For the other arguments see :class:`Entry`; a replay is an item with a result.

        Raises:
            Unavailable: the queue is full, the journal is closing, or the store cannot be reached.
            Exception: whatever ``write`` raises for these items; other callers' items are stored all the same.
        """
        if self._waiting_rows + len(items) > self._max_rows:
            raise Unavailable("too many rows are waiting to be stored")
        future: asyncio.Future[list[Result]] = self._loop.create_future()
        self._put(Entry(write, items, future, len(items), ledger, spool, undecided, on_stored))
        return await future

    async def run(self, act: Callable[[Connection], Result]) -> Result:
        """Run one act in a transaction of the writer: saving a report, taking a lease.

        What it logs names the request that asks for it.
        """
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        context = copy_context()
        self._put(Entry(lambda connection, _: [context.run(act, connection)], [None], future, 0, ledger=False))
        result: Result = (await future)[0]
        return result

    def _put(self, entry: Entry) -> None:
        if self._ended:
            raise Unavailable("the service is shutting down")
        self._waiting_rows += entry.rows
        if not self._gathering:
            self._loop.call_soon(self._hand_over)  # behind the callers that are ready by now: one wake-up for all
        self._gathering.append(entry)

    async def close(self) -> None:
        """Store what is waiting, then end the thread."""
        self._ended = True
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._spooler:
            self._spooler.stop()

    def _hand_over(self) -> None:
        """Give the writing thread what this turn of the event loop has brought."""
        if self._gathering:
            entries, self._gathering = self._gathering, []
            undecided = sum([entry.undecided for entry in entries])
            self._metrics.accept(sum([entry.rows for entry in entries if entry.ledger]) - undecided, undecided)
            self._queue.put(entries)

    def _run(self) -> None:
        try:
            self._serve()
        finally:  # whatever ended the thread: nobody may wait for it
            self._ended = True
            self._writer.drop()

    def _serve(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            if group:
                started = perf_counter()
                results = self._commit(group)
                self._metrics.commit_seconds.observe(perf_counter() - started)
                self._count(results)
                self._loop.call_soon_threadsafe(self._deliver, results)
            if self._spooler and self._spooler.forward(sum(len(entry.items) for entry in group)) and running:
                self._queue.put([])  # there is more: go on behind the callers who came meanwhile

    def _next_group(self) -> tuple[list[Entry], bool]:
        """All that is waiting, up to the row limit; False once the journal is closed and empty."""
        group: list[Entry] = []
        rows = 0
        entries = self._queue.get()
        while entries is not None:
            group += entries
            rows += sum(len(entry.items) for entry in entries)
            if rows >= MAX_GROUP_ROWS:
                break
            try:
                entries = self._queue.get_nowait()
            except Empty:
                break
        return group, entries is not None

    def _commit(self, group: list[Entry]) -> list[Written]:
        """Commit a group; if that fails, commit each caller's items by themselves."""
        if self._spooler and self._spooler.spooling:
            return self._spool(group)
        try:
            written = self._writer.commit([(entry.write, entry.items) for entry in group])
        except AWAY as error:
            self._writer.drop()
            if self._spooler:
                self._spooler.lose(error)
            else:
                self._note_outage(error)
            return self._spool(group)
        except BaseException as error:  # noqa: BLE001 - a caller's failure, whatever it is, goes to that caller and never ends the thread
            if len(group) == 1:
                return [(group[0], error, False)]
        else:
            self._note_recovery()
            return list(zip(group, written, repeat(False)))
        return [result for entry in group for result in self._commit([entry])]

    def _spool(self, group: list[Entry]) -> list[Written]:
        """Spool the entries. Where one entry fails, spool each by itself and refuse those that fail."""
        refusal = Unavailable("the store cannot be reached; repeat the request with the same prediction_id")
        if self._spooler is None:
            return [(entry, refusal, False) for entry in group]
        refused: list[Written] = [(entry, refusal, False) for entry in group if not entry.spool]
        taken = [entry for entry in group if entry.spool]
        try:
            written = self._spooler.write([(entry.spool, entry.items) for entry in group if entry.spool])
        except BaseException as error:  # noqa: BLE001 - as above
            if isinstance(error, Unavailable) or len(taken) == 1:
                return [*refused, *((entry, error, False) for entry in taken)]
            return [*refused, *(result for entry in taken for result in self._spool([entry]))]
        return [*refused, *zip(taken, written, repeat(True))]

    def _note_outage(self, error: DBAPIError) -> None:
        """Log the begin of an outage once; the metrics count its rows."""
        if not self._outage:
            self._outage = mask_secrets(str(error.orig)) or "no answer"
            self._log.error("store_unreachable", error=self._outage)

    def _note_recovery(self) -> None:
        if self._outage:
            self._outage = None
            self._log.warning("store_reachable_again")

    def _count(self, results: list[Written]) -> None:
        """Count a group in the ledger.

        This happens before the group can be forwarded, and so before it can leave the spool.
        """
        for entry, result, spooled in results:
            if entry.ledger:
                replays = 0 if isinstance(result, BaseException) else len(result) - result.count(None)
                if entry.undecided:
                    self._metrics.decide(entry.undecided, replays=replays)
                reason = reason_of(result) if isinstance(result, BaseException) else None
                self._metrics.finish(entry.rows - replays, failure=reason, spooled=spooled)
            if entry.on_stored is not None and not isinstance(result, BaseException):
                entry.on_stored(entry.items, result)

    def _deliver(self, results: list[Written]) -> None:
        """Give each caller of a group its result, in the event loop.

        The whole group costs one wake-up. A caller that has left has no future to set.
        """
        for entry, result, _ in results:
            self._waiting_rows -= entry.rows
            if entry.future.done():
                continue
            if isinstance(result, list):
                entry.future.set_result(result)
            else:
                entry.future.set_exception(result)
