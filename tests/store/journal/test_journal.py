"""The journal: many callers, one transaction; nobody is harmed by another, and the ledger adds up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, StatementError

from app.errors import Unavailable
from app.metrics import JournalMetrics
from app.store.database import Database
from app.store.journal.journal import Journal
from app.store.queries.predictions import Taken, insert
from app.store.queries.replicas import database_now
from app.store.retention import clean
from app.store.tables import PREDICTIONS
from app.types import Micros, Prediction
from tests.support.application import ledger
from tests.support.deadlines import DEADLINE_S
from tests.support.rows import prediction


@dataclass
class Desk:
    """A running journal with its ledger."""

    journal: Journal
    database: Database
    series: CollectorRegistry

    def append(self, *rows: Prediction) -> asyncio.Future[list[None]]:
        """Begin to store rows."""
        return asyncio.ensure_future(self.journal.append(insert, rows, ledger=True))

    def stored(self) -> int:
        """The number of stored rows."""
        with self.database.readers.connect() as connection:
            return connection.execute(select(func.count()).select_from(PREDICTIONS)).scalar_one()

    def groups(self) -> int:
        """How many groups have been settled."""
        return int(self.series.get_sample_value("ml_journal_commit_seconds_count") or 0)

    def ledger(self) -> dict[str, float]:
        """The ledger by its words."""
        return ledger(generate_latest(self.series).decode())

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Keep the writer busy, so that callers gather behind it."""
        begun, go_on = Event(), Event()

        def hold(_connection: Connection) -> None:
            begun.set()
            go_on.wait(DEADLINE_S)

        holding = asyncio.ensure_future(self.journal.run(hold))
        await asyncio.to_thread(begun.wait)
        try:
            yield
        finally:
            go_on.set()
            await holding


@asynccontextmanager
async def open_desk(database: Database, *, max_rows: int = 10_000) -> AsyncIterator[Desk]:
    """A journal that is started, and closed at the end."""
    series = CollectorRegistry()
    journal = Journal(database, JournalMetrics(series), max_rows=max_rows)
    desk = Desk(journal, database, series)
    journal.start()
    try:
        yield desk
    finally:
        await journal.close()


async def outcomes(calls: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """What each caller got: its result, or the class of its exception."""
    got = await asyncio.gather(*calls, return_exceptions=True)
    return [type(result) if isinstance(result, BaseException) else result for result in got]


def test_many_callers_are_one_transaction(database: Database) -> None:
    """What gathered while the writer was busy is committed at once, and each caller gets its own results."""

    async def scenario() -> tuple[list[Any], Desk]:
        async with open_desk(database) as desk:
            async with desk.stopped():
                calls = [desk.append(prediction(f"p{number}"), prediction(f"q{number}")) for number in range(100)]
                await asyncio.sleep(0)
            return await outcomes(calls), desk

    results, desk = asyncio.run(scenario())

    assert results == [[None, None]] * 100
    assert desk.stored() == 200
    assert desk.groups() == 2  # that of the act which kept the writer busy, and one for all callers


def test_an_answer_comes_after_the_commit(database: Database) -> None:
    """Once ``append`` returns, another connection sees the rows."""

    async def scenario() -> list[int]:
        async with open_desk(database) as desk:
            seen = []
            for number in range(5):
                await desk.append(prediction(f"p{number}"))
                seen.append(desk.stored())
            return seen

    assert asyncio.run(scenario()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("poison", "error"),
    [
        (prediction("bad", 2**70), (OverflowError, DBAPIError, StatementError)),
        (prediction("bad\ud800"), (UnicodeEncodeError, DBAPIError, StatementError)),
        (prediction("bad", request_id=None), DBAPIError),
        (prediction("first", request_id="other"), Taken),
    ],
    ids=["a number beyond 64 bits", "a lone surrogate", "a missing value", "an id of somebody else"],
)
def test_a_poisoned_entry_fails_alone(database: Database, poison: Prediction, error: Any) -> None:
    """One caller's row that the database refuses fails that caller, and its neighbours in the group are stored."""

    async def scenario() -> tuple[list[Any], int, dict[str, float]]:
        async with open_desk(database) as desk:
            await desk.append(prediction("first"))
            async with desk.stopped():
                good = [desk.append(prediction(f"p{number}")) for number in range(9)]
                bad = desk.append(prediction("innocent"), poison)
                more = [desk.append(prediction(f"q{number}")) for number in range(9)]
                await asyncio.sleep(0)
            results = await outcomes([*good, bad, *more])
            return results, desk.stored(), desk.ledger()

    results, stored, found = asyncio.run(scenario())
    refused = results.pop(9)

    assert results == [[None]] * 18
    assert issubclass(refused, error)
    assert stored == 19
    assert (found["accepted"], found["stored"], found["failed"], found["missing"]) == (21, 19, 2, 0)


def test_a_lost_connection_is_tried_again(database: Database, store_url: str) -> None:
    """A connection that the server ended costs no caller its answer, and no row is stored twice."""
    if store_url.startswith("sqlite"):
        ending = "SELECT 1"  # a file has no server that could end the connection
    else:
        ending = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )

    async def scenario() -> tuple[list[Any], int, dict[str, float]]:
        async with open_desk(database) as desk:
            await desk.append(prediction("before"))
            with database.readers.connect() as connection:
                connection.execute(text(ending))
            results = await outcomes([desk.append(prediction(f"p{number}")) for number in range(20)])
            database.readers.dispose()
            return results, desk.stored(), desk.ledger()

    results, stored, found = asyncio.run(scenario())

    assert results == [[None]] * 20
    assert stored == 21
    assert (found["stored"], found["failed"], found["missing"]) == (21, 0, 0)


def test_a_store_that_is_away_is_unavailable_and_comes_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database refuses its writer, callers get Unavailable; afterwards the same journal stores again."""

    async def scenario() -> tuple[list[Any], list[Any], dict[str, float]]:
        async with open_desk(database) as desk:

            def away(*_: Any, **__: Any) -> Connection:
                raise OperationalError("SELECT 1", {}, ConnectionRefusedError("away"))

            with monkeypatch.context() as patch:
                patch.setattr(type(database.writer), "connect", away)
                refused = await outcomes([desk.append(prediction(f"p{number}")) for number in range(3)])
            taken = await outcomes([desk.append(prediction(f"p{number}")) for number in range(3)])
            return refused, taken, desk.ledger()

    refused, taken, found = asyncio.run(scenario())

    assert refused == [Unavailable] * 3
    assert taken == [[None]] * 3
    assert (found["accepted"], found["stored"], found["failed"], found["missing"]) == (6, 3, 3, 0)


def test_a_caller_that_leaves_harms_nobody(database: Database) -> None:
    """Rows of a cancelled caller are stored and counted, and its neighbours get their answers."""

    async def scenario() -> tuple[list[Any], int, dict[str, float]]:
        async with open_desk(database) as desk:
            async with desk.stopped():
                calls = [desk.append(prediction(f"p{number}")) for number in range(10)]
                await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
            results = await outcomes(calls)
            return results, desk.stored(), desk.ledger()

    results, stored, found = asyncio.run(scenario())

    assert results == [asyncio.CancelledError, [None]] * 5
    assert stored == 10
    assert (found["stored"], found["queued"], found["missing"]) == (10, 0, 0)


def test_the_queue_is_bounded(database: Database) -> None:
    """Rows beyond the limit are refused at once and not accepted; our own acts get through; later there is room."""

    async def scenario() -> tuple[list[Any], dict[str, float]]:
        async with open_desk(database, max_rows=5) as desk:
            async with desk.stopped():
                calls = [desk.append(prediction(f"p{number}"), prediction(f"q{number}")) for number in range(4)]
                acting = asyncio.ensure_future(desk.journal.run(database_now))
                await asyncio.sleep(0)
            assert await acting > 0
            results = await outcomes(calls)
            results += await outcomes([desk.append(prediction("later"))])
            return results, desk.ledger()

    results, found = asyncio.run(scenario())

    assert results == [[None, None], [None, None], Unavailable, Unavailable, [None]]
    assert (found["accepted"], found["stored"], found["missing"]) == (5, 5, 0)


def test_closing_stores_what_waits_and_takes_nothing_more(database: Database) -> None:
    """What was accepted before the end is stored; what comes after is refused."""

    async def scenario() -> tuple[list[Any], list[Any], int]:
        async with open_desk(database) as desk:
            calls = [desk.append(prediction(f"p{number}")) for number in range(50)]
            await asyncio.sleep(0)
            await desk.journal.close()
            return await outcomes(calls), await outcomes([desk.append(prediction("late"))]), desk.stored()

    results, late, stored = asyncio.run(scenario())

    assert results == [[None]] * 50
    assert late == [Unavailable]
    assert stored == 50


def test_acts_share_the_writer(database: Database) -> None:
    """An act runs in a transaction of its caller's group; what it raises goes to that caller, and it has no effect."""

    def fail(connection: Connection) -> None:
        insert(connection, [prediction("undone")])
        raise LookupError("no")

    async def scenario() -> tuple[list[Any], int]:
        async with open_desk(database) as desk:
            async with desk.stopped():
                acts: list[Callable[[Connection], Any]] = [fail, database_now]
                calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(desk.journal.run(act)) for act in acts]
                calls.append(desk.append(prediction("p")))
                await asyncio.sleep(0)
            results = await outcomes(calls)
            return [results[0], type(results[1]), results[2]], desk.stored()

    results, stored = asyncio.run(scenario())

    assert results == [LookupError, int, [None]]
    assert stored == 1


def test_cleaning_goes_on_until_all_is_clean(database: Database) -> None:
    """More old rows than one part holds are deleted part by part, and the number of all is told."""

    async def scenario() -> tuple[int, int]:
        async with open_desk(database) as desk:
            await desk.append(*(prediction(f"p{number}", number) for number in range(1_203)))
            now = partial(Micros, 10_000_000 + 1_200)
            return await clean(desk.journal, retention_s=10, hold_s=10, now=now), desk.stored()

    assert asyncio.run(scenario()) == (1_200, 3)
