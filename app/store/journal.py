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
from typing import Any, TypeVar

import structlog
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from app.errors import Unavailable
from app.metrics import JournalMetrics

Item = TypeVar("Item")
Result = TypeVar("Result")
Write = Callable[[Connection, Sequence[Item]], list[Result]]
"""Writes the items of several callers at once; one result an item, in order."""
MOST_ROWS = 1024
"""Rows in one transaction; larger groups gain nothing more and let the first caller wait for the last."""
TRIES = 3
"""Tries of one group when another replica got in between or the connection was lost."""


@dataclass(slots=True, eq=False)
class Entry:
    """One caller's items.

    Attributes:
        rows: how many of them count towards the limit; our own acts do not, since they are few and must not starve.
        ledger: whether the ledger counts them, as it does predictions.
    """

    write: Write[Any, Any]
    items: Sequence[Any]
    future: asyncio.Future[list[Any]]
    rows: int
    ledger: bool


class Journal:
    """The group-committing writer. Start and close it in the event loop whose callers it serves."""

    def __init__(self, engine: Engine, metrics: JournalMetrics, *, max_rows: int) -> None:
        self._engine = engine
        self._metrics = metrics
        self._max_rows = max_rows
        self._waiting_rows = 0
        self._gathering: list[Entry] = []
        self._queue: SimpleQueue[list[Entry] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="plumbline-journal", daemon=True)
        self._connection: Connection | None = None
        self._closing = False
        self._outage = False
        self._log = structlog.get_logger("journal")

    def start(self) -> None:
        """Start the writing thread."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once the writing thread is gone: then nothing can be stored, and the process is not ready."""
        return self._thread.is_alive()

    async def append(self, write: Write[Item, Result], items: Sequence[Item], *, ledger: bool = False) -> list[Result]:
        """Write the items, all or none, and return once they are committed.

        Raises:
            Unavailable: the queue is full, the journal is closing, or the store cannot be reached.
            Exception: whatever ``write`` raises for these items; other callers' items are stored all the same.
        """
        if self._waiting_rows + len(items) > self._max_rows:
            raise Unavailable("too many rows are waiting to be stored")
        return await self._put(Entry(write, items, self._loop.create_future(), len(items), ledger))

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

    def _hand_over(self) -> None:
        """Give the writing thread what this turn of the event loop has brought."""
        if self._gathering:
            entries, self._gathering = self._gathering, []
            self._queue.put(entries)

    def _run(self) -> None:
        running = True
        while running:
            group, running = self._next_group()
            started = perf_counter()
            settled = self._settle(group)
            self._metrics.commit_seconds.observe(perf_counter() - started)
            self._loop.call_soon_threadsafe(self._deliver, settled)
        if self._connection is not None:
            self._connection.close()

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

    def _settle(self, group: list[Entry]) -> list[tuple[Entry, list[Any] | BaseException]]:
        """Write a group.

        Where one caller's items make it fail, write the callers' items singly, so that only the guilty fails.
        """
        try:
            written = self._commit(group)
        except (OperationalError, InterfaceError) as error:
            self._note_outage(error)
            refusal = Unavailable("the store cannot be reached; repeat the request with the same prediction_id")
            return [(entry, refusal) for entry in group]
        except BaseException as error:  # noqa: BLE001 - a caller's failure, whatever it is, goes to that caller and never ends the thread
            if len(group) == 1:
                return [(group[0], error)]
        else:
            self._note_recovery()
            return list(zip(group, written, strict=True))
        return [settled for entry in group for settled in self._settle([entry])]

    def _note_outage(self, error: DBAPIError) -> None:
        """Say it once, loudly; how many rows an outage costs stands in the metrics."""
        if not self._outage:
            self._outage = True
            self._log.error("store_unreachable", error=str(error.orig))

    def _note_recovery(self) -> None:
        if self._outage:
            self._outage = False
            self._log.warning("store_reachable_again")

    def _commit(self, group: list[Entry]) -> list[list[Any]]:
        for attempt in range(1, TRIES + 1):
            try:
                return self._transaction(group)
            except DBAPIError as error:
                if error.connection_invalidated:
                    self._drop_connection()
                if attempt == TRIES or not (error.connection_invalidated or isinstance(error, IntegrityError)):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _transaction(self, group: list[Entry]) -> list[list[Any]]:
        """One transaction over the callers' items; each writer function is called once, for all its callers."""
        if self._connection is None:
            self._connection = self._engine.connect()
        by_write: dict[Write[Any, Any], list[Entry]] = {}
        for entry in group:
            by_write.setdefault(entry.write, []).append(entry)
        results: dict[Entry, list[Any]] = {}
        with self._connection.begin():
            for write, entries in by_write.items():
                written = iter(write(self._connection, [item for entry in entries for item in entry.items]))
                results.update({entry: [next(written) for _ in entry.items] for entry in entries})
        return [results[entry] for entry in group]

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deliver(self, settled: list[tuple[Entry, list[Any] | BaseException]]) -> None:
        """Back in the event loop: one wake-up for the whole group. A caller that left has no future to set."""
        for entry, result in settled:
            self._waiting_rows -= entry.rows
            failure = result if isinstance(result, BaseException) else None
            if entry.ledger:
                self._metrics.settle(entry.rows, failure=_reason(failure) if failure else None)
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
    return "taken" if type(error).__name__ == "Taken" else "refused"
