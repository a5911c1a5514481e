"""The journal: many callers, one transaction, and nobody is answered before the commit.

One thread owns the one writing connection. It takes all that is waiting as soon as it is free, so that the next group
gathers while this one commits: no timer, a lone caller waits for nobody, and load makes groups larger.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from app.errors import Unavailable
from app.metrics import JournalMetrics
from app.store.predictions import Taken
from app.store.spooler import AWAY, Spooler
from app.store.writer import Item, Result, Write, Writer

MOST_ROWS = 1024
"""Rows in one transaction; larger groups gain nothing more and let the first caller wait for the last."""


@dataclass(slots=True, eq=False)
class Entry:
    """One caller's items.

    Attributes:
        rows: how many of them count towards the limit; our own acts do not, since they are few and must not starve.
        ledger: whether the ledger counts them, as it does predictions.
        spool: writes them into the spool while the store is away; None: they are refused then.
    """

    write: Write[Any, Any]
    items: Sequence[Any]
    future: asyncio.Future[list[Any]]
    rows: int
    ledger: bool
    spool: Write[Any, Any] | None = None


class Settled(NamedTuple):
    """What became of one caller's items."""

    entry: Entry
    result: list[Any] | BaseException
    spooled: bool = False


class Journal:
    """The group-committing writer. Start and close it in the event loop whose callers it serves."""

    def __init__(
        self, engine: Engine, metrics: JournalMetrics, *, max_rows: int, spooler: Spooler | None = None
    ) -> None:
        self._writer = Writer(engine)
        self._spooler = spooler
        self._metrics = metrics
        self._max_rows = max_rows
        self._waiting_rows = 0
        self._gathering: list[Entry] = []
        self._queue: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="plumbline-journal", daemon=True)
        self._closing = False
        self._outage = False
        self._log = structlog.get_logger("journal")

    def start(self) -> None:
        """Start the writing thread."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        if self._spooler:
            self._spooler.start(wake=lambda: self._queue.put([]))

    @property
    def alive(self) -> bool:
        """False once the writing thread is gone: then nothing can be stored, and the process is not ready."""
        return self._thread.is_alive()

    async def append(
        self,
        write: Write[Item, Result],
        items: Sequence[Item],
        *,
        ledger: bool = False,
        spool: Write[Item, Result] | None = None,
    ) -> list[Result]:
        """Write the items, all or none, and return once they are committed, to the store or by ``spool`` to the spool.

        Raises:
            Unavailable: the queue is full, the journal is closing, or the store cannot be reached.
            Exception: whatever ``write`` raises for these items; other callers' items are stored all the same.
        """
        if self._waiting_rows + len(items) > self._max_rows:
            raise Unavailable("too many rows are waiting to be stored")
        return await self._put(Entry(write, items, self._loop.create_future(), len(items), ledger, spool))

    async def run(self, act: Callable[[Connection], Result]) -> Result:
        """Run one act in a transaction of the writer: saving a report, taking a lease."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        result: Result = (
            await self._put(Entry(lambda connection, _: [act(connection)], [None], future, 0, ledger=False))
        )[0]
        return result

    async def _put(self, entry: Entry) -> list[Any]:
        if self._closing or not self.alive:
            raise Unavailable("the service is shutting down")
        self._waiting_rows += entry.rows
        if entry.ledger:
            self._metrics.accept(entry.rows)
        if not self._gathering:
            self._loop.call_soon(self._hand_over)  # behind the callers that are ready by now: one wake-up for all
        self._gathering.append(entry)
        return await entry.future

    async def close(self) -> None:
        """Store what is waiting, then end the thread."""
        self._closing = True
        self._hand_over()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        if self._spooler:
            self._spooler.stop()

    def _hand_over(self) -> None:
        """Give the writing thread what this turn of the event loop has brought."""
        if self._gathering:
            entries, self._gathering = self._gathering, []
            self._queue.put(entries)

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            if group:
                started = perf_counter()
                settled = self._settle(group)
                self._metrics.commit_seconds.observe(perf_counter() - started)
                self._count(settled)
                self._loop.call_soon_threadsafe(self._deliver, settled)
            if self._spooler and self._spooler.forward(sum(len(entry.items) for entry in group)) and running:
                self._queue.put([])  # there is more: go on behind the callers who came meanwhile
        self._writer.drop()

    def _next_group(self) -> tuple[list[Entry], bool]:
        """All that is waiting, up to the row limit; False once the journal is closed and empty."""
        group: list[Entry] = []
        rows = 0
        entries = self._queue.get()
        while entries is not None:
            group += entries
            rows += sum(len(entry.items) for entry in entries)
            if rows >= MOST_ROWS:
                break
            try:
                entries = self._queue.get_nowait()
            except Empty:
                break
        return group, entries is not None

    def _settle(self, group: list[Entry]) -> list[Settled]:
        """Write a group.

        Where one caller's items make it fail, write the callers' items singly, so that only the guilty fails.
        """
        if self._spooler and self._spooler.spooling:
            return self._settle_away(group)
        try:
            written = self._writer.commit([(entry.write, entry.items) for entry in group])
        except AWAY as error:
            self._writer.drop()
            if self._spooler:
                self._spooler.lose(error)
            else:
                self._note_outage(error)
            return self._settle_away(group)
        except BaseException as error:  # noqa: BLE001 - a caller's failure, whatever it is, goes to that caller and never ends the thread
            if len(group) == 1:
                return [Settled(group[0], error)]
        else:
            self._note_recovery()
            return list(map(Settled, group, written))
        return [settled for entry in group for settled in self._settle([entry])]

    def _settle_away(self, group: list[Entry]) -> list[Settled]:
        """Spool what can be spooled, again singly where one caller's items make the others fail; refuse the rest."""
        refusal = Unavailable("the store cannot be reached; repeat the request with the same prediction_id")
        if self._spooler is None:
            return [Settled(entry, refusal) for entry in group]
        refused = [Settled(entry, refusal) for entry in group if not entry.spool]
        taken = [entry for entry in group if entry.spool]
        try:
            written = self._spooler.write([(entry.spool, entry.items) for entry in group if entry.spool])
        except BaseException as error:  # noqa: BLE001 - as above
            if isinstance(error, Unavailable) or len(taken) == 1:
                return [*refused, *(Settled(entry, error) for entry in taken)]
            return [*refused, *(settled for entry in taken for settled in self._settle_away([entry]))]
        return [*refused, *(Settled(entry, result, spooled=True) for entry, result in zip(taken, written, strict=True))]

    def _note_outage(self, error: DBAPIError) -> None:
        """Say it once, loudly; how many rows an outage costs stands in the metrics."""
        if not self._outage:
            self._outage = True
            self._log.error("store_unreachable", error=str(error.orig))

    def _note_recovery(self) -> None:
        if self._outage:
            self._outage = False
            self._log.warning("store_reachable_again")

    def _count(self, settled: list[Settled]) -> None:
        """Enter a group into the ledger: before anything of it can be forwarded, and so leave the spool."""
        for entry, result, spooled in settled:
            if entry.ledger:
                failure = _reason(result) if isinstance(result, BaseException) else None
                self._metrics.settle(entry.rows, failure=failure, spooled=spooled)

    def _deliver(self, settled: list[Settled]) -> None:
        """Back in the event loop: one wake-up for the whole group. A caller that left has no future to set."""
        for entry, result, _ in settled:
            self._waiting_rows -= entry.rows
            if entry.future.done():
                continue
            if isinstance(result, BaseException):
                entry.future.set_exception(result)
            else:
                entry.future.set_result(result)


def _reason(error: BaseException) -> str:
    """The ledger's word for a failure: a fixed set."""
    if isinstance(error, Unavailable):
        return "store"
    return "taken" if isinstance(error, Taken) else "refused"
