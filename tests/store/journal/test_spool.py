"""The spool: what was acknowledged while the store was away reaches it once, and the ledger adds up throughout."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from pydantic import ValidationError
from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from app.config.settings import Config
from app.errors import StoreLocked, Unavailable
from app.metrics import JournalMetrics
from app.store.database import Database, Readers, open_database
from app.store.journal.journal import Journal
from app.store.journal.spool import KEPT, Spooler, hold, open_spool
from app.store.queries.outcomes import Rules, Submission, revisions_of, writer
from app.store.queries.predictions import Taken, find, insert, stream
from app.types import Micros, ModelSchema, Outcome, OutcomeStatus, Prediction, Task
from tests.support.application import ledger
from tests.support.deadlines import DEADLINE_S
from tests.support.rows import prediction

AWAY = OperationalError("INSERT", {}, ConnectionRefusedError("away"))
RECORD = writer(Rules(lambda _stored, label: label, hold=False))
SCHEMA = ModelSchema("m", "1", Task.BINARY, (), ("bad", "good"))


class Counted(JournalMetrics):
    """The ledger, which tells when rows have been forwarded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(registry)
        self.forwarded = Event()

    def forward(self, rows: int, *, conflicts: int) -> None:
        """Count, then tell."""
        super().forward(rows, conflicts=conflicts)
        self.forwarded.set()


@dataclass
class Desk:
    """A spooler between its file and a store, driven by hand."""

    spooler: Spooler
    database: Database
    series: CollectorRegistry
    metrics: Counted
    found: Event

    def lose(self) -> None:
        """The store goes away; it will be found again at once."""
        self.found.clear()
        self.spooler.lose(AWAY)

    def accept(self, *rows: Prediction) -> None:
        """Spool rows as the journal does."""
        self.metrics.accept(len(rows))
        self.spooler.write([(insert, rows)])
        self.metrics.finish(len(rows), failure=None, spooled=True)

    def forward(self) -> None:
        """Wait until the store is found, then bring everything to it."""
        assert self.found.wait(DEADLINE_S)
        while self.spooler.forward():
            pass

    def stored(self) -> list[str]:
        """The ids in the store, by time."""
        with self.database.readers.connect() as connection:
            return [stored.prediction.prediction_id for stored in stream(connection)]

    def ledger(self) -> dict[str, float]:
        """The ledger by its words."""
        return ledger(generate_latest(self.series).decode())


@contextmanager
def open_desk(database: Database, file: Path, *, max_bytes: int = 2**24) -> Iterator[Desk]:
    """A spooler on a file that may hold rows already."""
    series = CollectorRegistry()
    metrics = Counted(series)
    spool = open_spool(file, max_bytes=max_bytes)
    spool.remember(SCHEMA, "0" * 64, now=Micros(1))
    spooler = Spooler(spool, database.writer, RECORD, metrics)
    found = Event()
    spooler.start(wake=found.set)
    try:
        yield Desk(spooler, database, series, metrics, found)
    finally:
        spooler.stop()
        spooler.close()


def kept(file: Path) -> list[tuple[str, str, str]]:
    """What a closed spool has kept: kind, id, and the first word of the reason."""
    opened = open_database(f"sqlite:///{file}")
    with closing(opened), opened.readers.connect() as connection:
        return [(row.kind, row.prediction_id, row.reason.split(":")[0]) for row in connection.execute(select(KEPT))]


def submission(prediction_id: str, outcome: Any, *, now: int = 5_000, revise: bool = False) -> Submission:
    """A reported outcome."""
    return Submission(Outcome(prediction_id, outcome, revise=revise), Micros(now))


def test_spooled_rows_are_forwarded_once(database: Database, tmp_path: Path) -> None:
    """More rows than one chunk holds reach the store by time, as they were, and leave the spool empty."""
    rows = [prediction(f"p{number:05}", number) for number in range(5_000)]
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        desk.accept(*rows)
        before = desk.ledger()
        desk.forward()
        after, stored = desk.ledger(), desk.stored()
        with database.readers.connect() as connection:
            first = find(connection, ["p00000"])["p00000"].prediction

        assert not desk.spooler.spooling
    assert (before["spooled"], before["missing"]) == (5_000, 0)
    assert (after["forwarded"], after["spooled"], after["stored"], after["missing"]) == (5_000, 0, 0, 0)
    assert stored == [row.prediction_id for row in rows]
    assert first == rows[0]


def test_a_spool_found_at_start_is_forwarded(database: Database, tmp_path: Path) -> None:
    """Rows that an earlier process spooled count as accepted, and are forwarded without any new traffic."""
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        desk.accept(prediction("a"), prediction("b"))
    with open_desk(database, tmp_path / "spool.db") as desk:
        found = desk.ledger()
        desk.forward()
        after, stored = desk.ledger(), desk.stored()

    assert (found["accepted"], found["spooled"], found["missing"]) == (2, 2, 0)
    assert (after["forwarded"], after["missing"]) == (2, 0)
    assert sorted(stored) == ["a", "b"]


def test_the_first_stored_wins(database: Database, tmp_path: Path) -> None:
    """An id that another replica has stored meanwhile keeps that row; ours is kept in the file, counted as conflict."""
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        desk.accept(prediction("ours"), prediction("both", request_id="mine"))
        with database.writer.begin() as connection:
            insert(connection, [prediction("both", request_id="theirs")])
        desk.forward()
        after = desk.ledger()
        text = generate_latest(desk.series).decode()
        with database.readers.connect() as connection:
            winner = find(connection, ["both"])["both"].prediction.request_id

    assert winner == "theirs"
    assert (after["forwarded"], after["failed"], after["spooled"], after["missing"]) == (1, 1, 0, 0)
    assert 'ml_journal_rows_total{state="conflict"} 1.0' in text
    assert 'ml_journal_failed_rows_total{reason="conflict"} 1.0' in text
    assert kept(tmp_path / "spool.db") == [("prediction", "both", "conflict")]


def test_a_commit_that_went_through_unnoticed_is_no_conflict(database: Database, tmp_path: Path) -> None:
    """A row that reached the store just before the connection was lost, and was spooled too, counts as forwarded."""
    with open_desk(database, tmp_path / "spool.db") as desk:
        with database.writer.begin() as connection:
            insert(connection, [prediction("a")])
        desk.lose()
        desk.accept(prediction("a"), prediction("b"))
        desk.forward()

        assert sorted(desk.stored()) == ["a", "b"]
        assert (desk.ledger()["forwarded"], desk.ledger()["failed"]) == (2, 0)


def test_outcomes_follow_their_predictions(database: Database, tmp_path: Path) -> None:
    """Outcomes are pending while the store is away, then recorded by its rules; those it does not take are kept."""
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        reported = [submission("a", 1), submission("a", 0, revise=True), submission("a", 1), submission("nobody", 1)]
        [answers] = desk.spooler.write([(hold, reported)])
        desk.accept(prediction("a"))
        desk.forward()
        with database.readers.connect() as connection:
            revisions = revisions_of(connection, ["a", "nobody"])

        assert not desk.spooler.spooling
        assert desk.ledger()["missing"] == 0
    assert [answer.status for answer in answers] == [OutcomeStatus.PENDING] * 4
    assert [revision.outcome for revision in revisions["a"]] == [1, 0]
    assert kept(tmp_path / "spool.db") == [("outcome", "a", "conflict"), ("outcome", "nobody", "unknown")]


def test_outcomes_are_recorded_once(database: Database, tmp_path: Path) -> None:
    """Outcomes that reached the store, and stayed in the spool because we were killed, are not recorded again."""
    reported = [submission("a", 1), submission("a", 0, now=6_000, revise=True)]
    with database.writer.begin() as connection:
        insert(connection, [prediction("a")])
        RECORD(connection, reported)
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        desk.spooler.write([(hold, reported)])
        desk.forward()
        with database.readers.connect() as connection:
            revisions = revisions_of(connection, ["a"])["a"]

    assert [revision.outcome for revision in revisions] == [1, 0]
    assert kept(tmp_path / "spool.db") == []


def test_a_row_that_the_store_refuses_holds_nobody_up(database: Database, tmp_path: Path) -> None:
    """A spooled row that the database itself refuses is kept with the reason, and the rows around it are forwarded."""
    with database.writer.begin() as connection:
        connection.exec_driver_sql("CREATE UNIQUE INDEX narrow ON predictions (latency_us) WHERE latency_us = 13")
        insert(connection, [prediction("first", latency_us=13)])
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        desk.accept(prediction("a"), prediction("bad", latency_us=13), prediction("c"))
        desk.forward()

        assert sorted(desk.stored()) == ["a", "c", "first"]
        assert (desk.ledger()["forwarded"], desk.ledger()["missing"]) == (2, 0)
    assert kept(tmp_path / "spool.db") == [("prediction", "bad", "refused")]


def test_a_full_spool_refuses_and_stays_sound(database: Database, tmp_path: Path) -> None:
    """Beyond ``spool_max_bytes`` rows are refused, what is in it stays, and forwarding makes room again."""
    with open_desk(database, tmp_path / "spool.db", max_bytes=2**20) as desk:
        desk.lose()
        parts = ([prediction(f"p{number}") for number in range(start, start + 500)] for start in range(0, 10**5, 500))
        with pytest.raises(Unavailable, match="full"):
            _ = [desk.spooler.write([(insert, rows)]) for rows in parts]
        spooled = desk.spooler.rows
        desk.forward()
        desk.lose()
        desk.accept(prediction("later"))
        desk.forward()

        assert spooled >= 500
        assert len(desk.stored()) == spooled + 1
    assert (tmp_path / "spool.db").stat().st_size <= 2**20


def test_ids_in_the_spool_are_known(database: Database, tmp_path: Path) -> None:
    """A spooled id is found with the classes of its version, also after it has left, and is not spooled twice."""
    readers = Readers(database.readers)
    with open_desk(database, tmp_path / "spool.db") as desk:
        desk.lose()
        desk.accept(prediction("a"))
        waiting = asyncio.run(desk.spooler.find(readers, ["a", "b"]))
        with pytest.raises(Taken):
            desk.spooler.write([(insert, [prediction("a", request_id="other")])])
        desk.forward()
        stored = asyncio.run(desk.spooler.find(readers, ["a", "b"]))
        readers.close()

    assert waiting.keys() == stored.keys() == {"a"}
    assert waiting["a"].classes == stored["a"].classes == ["bad", "good"]


def test_one_process_spools_into_a_file(database: Database, tmp_path: Path) -> None:
    """A second process on the same spool is refused, and told which setting to change."""
    with open_desk(database, tmp_path / "spool.db"), pytest.raises(StoreLocked, match=r"store\.spool_path"):
        open_spool(tmp_path / "spool.db", max_bytes=2**20)


def test_a_file_cannot_be_spooled_for() -> None:
    """``on_outage: spool`` with a SQLite store is a configuration error that says why."""
    with pytest.raises(ValidationError, match="on_outage: spool needs PostgreSQL"):
        Config.model_validate({"store": {"url": "sqlite:///plumbline.db", "on_outage": "spool"}})


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Journal]:
    """A journal before the desk's spooler."""
    journal = Journal(desk.database, desk.metrics, max_rows=10_000, spooler=desk.spooler)
    journal.start()
    try:
        yield journal
    finally:
        await journal.close()


def test_the_journal_spools_and_comes_back(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away rows and outcomes are acknowledged, our own acts refused; then all is in the store."""

    def away(*_: Any, **__: Any) -> Connection:
        raise AWAY

    async def scenario(desk: Desk) -> list[Any]:
        async with running(desk) as journal:
            with monkeypatch.context() as patch:
                patch.setattr(type(database.writer), "connect", _only(database, away))
                calls: Sequence[Any] = [
                    *(journal.append(insert, [prediction(f"p{n}")], ledger=True, spool=insert) for n in range(20)),
                    journal.append(RECORD, [submission("p0", 1)], spool=hold),
                    journal.append(insert, [prediction("bad", 2**70)], ledger=True, spool=insert),
                    journal.run(lambda _connection: None),
                ]
                results = await asyncio.gather(*calls, return_exceptions=True)
                during = desk.ledger()
            assert await asyncio.to_thread(desk.metrics.forwarded.wait, DEADLINE_S)
        return [*results, during]

    with open_desk(database, tmp_path / "spool.db") as desk:
        *taken, pending, poisoned, act, during = asyncio.run(scenario(desk))

        assert taken == [[None]] * 20
        assert pending[0].status is OutcomeStatus.PENDING
        assert isinstance(poisoned, OverflowError)
        assert isinstance(act, Unavailable)
        assert (during["accepted"], during["spooled"], during["failed"], during["missing"]) == (21, 20, 1, 0)
        assert (desk.ledger()["forwarded"], desk.ledger()["missing"]) == (20, 0)
        assert len(desk.stored()) == 20


def _only(database: Database, away: Any) -> Any:
    """Connections of every engine as ever, but for the store's writer."""
    connect = type(database.writer).connect
    return lambda engine: away() if engine is database.writer else connect(engine)
