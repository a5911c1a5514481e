"""The spool: a local file that takes rows while the store is away, and forwards them later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import structlog
from msgspec.structs import asdict
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, Text, delete, event, func, insert, select
from sqlalchemy.exc import DataError, IntegrityError

from app.errors import Unavailable, describe_error, mask_secrets
from app.metrics import JournalMetrics
from app.store.database import Database, Readers, open_database
from app.store.journal.writer import AWAY, Part, Write, write_together
from app.store.migrate import upgrade
from app.store.privacy import keep_salt, read_salt
from app.store.queries.outcomes import Submission, revisions_of
from app.store.queries.predictions import Stored, chunks, find, put, stream
from app.store.queries.versions import known, note, remember
from app.store.tables import PREDICTIONS, from_text, to_text
from app.types import Micros, ModelSchema, Outcome, OutcomeResult, OutcomeStatus, Prediction

Result = TypeVar("Result")
Item: TypeAlias = Prediction | Submission
OWN = MetaData()
SUBMISSIONS = Table(
    "spooled_outcomes",
    OWN,
    Column("sequence", Integer, primary_key=True),
    Column("body", Text, nullable=False),
)
KEPT = Table(
    "kept",
    OWN,
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("prediction_id", Text, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("body", Text, nullable=False),
)


def hold(connection: Connection, submissions: Sequence[Submission]) -> list[OutcomeResult]:
    """Put outcomes into the spool; what they mean is decided when they reach the store."""
    connection.execute(insert(SUBMISSIONS), [{"body": to_text(_as_json(submission))} for submission in submissions])
    return [OutcomeResult(submission.outcome.prediction_id, OutcomeStatus.PENDING) for submission in submissions]


class Spool:
    """The open file. Only the writing thread changes it; ``find`` may be called from any thread.

    Attributes:
        predictions, outcomes: how many wait in it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        with database.writer.begin() as connection:
            self._count(connection)

    @property
    def empty(self) -> bool:
        """True when nothing waits to be forwarded."""
        return not (self.predictions or self.outcomes)

    def write(self, parts: Sequence[Part]) -> list[list[Any]]:
        """Write the items of several callers in one transaction, and give their results in order.

        Raises:
            Exception: whatever a function raises; nothing is written then.
        """
        with self._database.writer.begin() as connection:
            results = write_together(connection, parts)
        for (_, items), result in zip(parts, results, strict=True):
            submissions = sum(isinstance(item, Submission) for item in items)
            self.outcomes += submissions
            self.predictions += 0 if submissions else result.count(None)  # a replay is there already
        return results

    def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """The waiting predictions among these ids."""
        with self._database.readers.connect() as connection:
            return find(connection, ids)

    def first(self, limit: int) -> list[tuple[int, Item]]:
        """Give up to ``limit`` items of one kind with their positions.

        Predictions come first, by time. Outcomes follow when no prediction waits.
        """
        with self._database.writer.begin() as connection:
            if self.predictions:
                return [(0, stored.prediction) for stored in stream(connection, limit=limit)]
            rows = connection.execute(select(SUBMISSIONS).order_by(SUBMISSIONS.c.sequence).limit(limit))
            return [(row.sequence, _submission(from_text(row.body))) for row in rows]

    def remove(self, items: Sequence[tuple[int, Item]], kept: Sequence[tuple[Item, str]]) -> None:
        """Remove items that the store has.

        ``kept`` are the items that the store did not take, each with the reason. They stay for a person to look at.
        """
        ids = [item.prediction_id for _, item in items if isinstance(item, Prediction)]
        places = [(place,) for place, item in items if isinstance(item, Submission)]
        with self._database.writer.begin() as connection:
            for part in chunks(ids):
                connection.execute(delete(PREDICTIONS).where(PREDICTIONS.c.prediction_id.in_(part)))
            if places:
                connection.exec_driver_sql("DELETE FROM spooled_outcomes WHERE sequence = ?", places)
            if kept:
                connection.execute(insert(KEPT), [_kept(item, reason) for item, reason in kept])
        self.predictions -= len(ids)
        self.outcomes -= len(places)

    def remember(self, schema: ModelSchema, sha256: str, *, now: Micros) -> None:
        """Note a loaded version, as the store does."""
        self.run(lambda connection: remember(connection, schema, sha256, now=now))

    def salt(self, salt: str | None) -> str | None:
        """Keep the salt of the store; without one, the salt that was kept before."""
        with self._database.writer.begin() as connection:
            return read_salt(connection) if salt is None else keep_salt(connection, salt)

    def run(self, act: Callable[[Connection], Result]) -> Result:
        """Run an act in a transaction of the file."""
        with self._database.writer.begin() as connection:
            return act(connection)

    def forget(self, needles: Collection[str]) -> None:
        """Delete what was kept for a person to look at, where it holds one of these JSON texts."""
        with self._database.writer.begin() as connection:
            rows = connection.execute(select(KEPT.c.sequence, KEPT.c.body)).all()
            gone = [row.sequence for row in rows if any(needle in row.body for needle in needles)]
            for part in chunks([str(place) for place in gone]):
                connection.execute(delete(KEPT).where(KEPT.c.sequence.in_([int(place) for place in part])))

    def models(self) -> list[dict[str, Any]]:
        """The versions that rows in the spool were made by."""
        return self.run(known)

    def close(self) -> None:
        """Close the file; what waits in it is forwarded after the next start."""
        self._database.close()

    def _count(self, connection: Connection) -> None:
        self.predictions = connection.execute(select(func.count()).select_from(PREDICTIONS)).scalar_one()
        self.outcomes = connection.execute(select(func.count()).select_from(SUBMISSIONS)).scalar_one()


def open_spool(path: Path, *, max_bytes: int) -> Spool:
    """Open or create the spool file.

    A write that would let the file grow beyond ``max_bytes`` fails, as on a full disk.

    Raises:
        ConfigError: the file cannot be made there.
        StoreLocked: another process spools into it.
    """
    database = open_database(f"sqlite:///{path}", setting="store.spool_path")

    @event.listens_for(database.writer, "connect")
    def _bound(connection: Any, _record: object) -> None:
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={max_bytes // page_size}")

    upgrade(database.writer)
    OWN.create_all(database.writer)
    return Spool(database)


def _submission(body: dict[str, Any]) -> Submission:
    return Submission(Outcome(**body["outcome"]), body["now"], body["recorded_by"], body.get("model"))


def _as_json(submission: Submission) -> dict[str, Any]:
    return {**submission._asdict(), "outcome": submission.outcome._asdict()}


def _kept(item: Item, reason: str) -> dict[str, Any]:
    if isinstance(item, Submission):
        kind, prediction_id = "outcome", item.outcome.prediction_id
        body = _as_json(item)
    else:
        kind, prediction_id = "prediction", item.prediction_id
        body = {**asdict(item), "answer": asdict(item.answer)}
    return {"kind": kind, "prediction_id": prediction_id, "reason": reason, "body": to_text(body)}


AT_FAULT = (DataError, IntegrityError, ValueError, TypeError, OverflowError)
"""What a row raises that the database will never take."""
LOOK_S = 0.5
"""Time between two looks for the store."""
CHUNK = 2048
"""Rows in one transaction on the way from the spool to the store."""
TAKEN = (OutcomeStatus.MATCHED, OutcomeStatus.DUPLICATE, OutcomeStatus.REVISED, OutcomeStatus.PENDING)


class Spooler:
    """Decide whether rows are spooled, and forward the spooled rows to the store.

    While the spool holds rows, new rows go into it as well, so that the order is kept.

    Attributes:
        outage: why the store cannot be reached; None while it can.
    """

    name = "spool"

    def __init__(
        self, spool: Spool, engine: Engine, record: Write[Submission, OutcomeResult], metrics: JournalMetrics
    ) -> None:
        self.spool = spool
        self._engine = engine
        self._record = record
        self._metrics = metrics
        self._away = not spool.empty
        self.outage: str | None = None
        self._stop = threading.Event()
        self._scout_thread: threading.Thread | None = None
        self._wake: Callable[[], None] = self._stop.clear
        self._log = structlog.get_logger("spool")
        metrics.find_spooled(spool.predictions)

    @property
    def spooling(self) -> bool:
        """True while rows go into the spool rather than the store."""
        return self._away or not self.spool.empty

    @property
    def rows(self) -> int:
        """The predictions that wait in the spool."""
        return self.spool.predictions

    @property
    def alive(self) -> bool:
        """False where nobody looks for a store that is away.

        The spool would then never empty.
        """
        scout = self._scout_thread
        return not self._away or scout is None or scout.is_alive()

    def start(self, wake: Callable[[], None]) -> None:
        """Look for the store if it was away at start; ``wake`` is called whenever it is found."""
        self._wake = wake
        if self._away:
            self._send_scout()

    def stop(self) -> None:
        """Look for the store no more."""
        self._stop.set()

    def close(self) -> None:
        """Close the file; what waits in it is forwarded after the next start."""
        self.spool.close()

    def remember(self, schema: ModelSchema, sha256: str, *, now: Micros) -> None:
        """Note a loaded version, as the store does; called by the writing thread."""
        self.spool.remember(schema, sha256, now=now)

    def begin(self, reason: str) -> None:
        """Spool from now on: the store was away before the start."""
        self._away = True
        self.outage = reason or "no answer"
        self._log.error("store_unreachable", error=reason, spooled=self.rows)

    def lose(self, error: BaseException) -> None:
        """Spool from now on, and look for the store."""
        if not self._away:
            self.begin(mask_secrets(str(getattr(error, "orig", error))))
            self._send_scout()

    def write(self, parts: Sequence[Part]) -> list[list[Any]]:
        """Write callers' items into the spool in one transaction, each by its function.

        Raises:
            Unavailable: the spool is full, or its disk fails.
        """
        try:
            return self.spool.write(parts)
        except AWAY as error:
            raise Unavailable(f"the store cannot be reached, and the spool takes no more: {error.orig}") from None

    async def find(self, readers: Readers, ids: Sequence[str]) -> dict[str, Stored]:
        """Predictions by id, in the spool and in the store; what the store has came first.

        The spool is asked first: a row leaves it only after the store has it.
        """
        waiting = await asyncio.to_thread(self.spool.find, ids) if self.spool.predictions else {}
        if self._away:
            return waiting
        with suppress(Unavailable):
            return {**waiting, **await readers.run(find, ids)}
        return waiting

    def forward(self, arrived: int = 0) -> bool:
        """Forward rows to the store until the spool is empty.

        Each turn takes at least twice as many rows as have just arrived.

        True while there are more and the store is there.
        """
        room = max(CHUNK, 2 * arrived)
        try:
            while room > 0 and not (self._away or self.spool.empty):
                items = self.spool.first(min(room, CHUNK))
                kept = self._store([item for _, item in items])
                self.spool.remove(items, kept)
                self._count([item for _, item in items], kept)
                room -= len(items)
        except Exception as error:  # noqa: BLE001 - whatever keeps the rows from the store: they stay, and are tried again
            self.lose(error)
        return self.spooling and not self._away

    def _count(self, items: Sequence[Item], kept: Sequence[tuple[Item, str]]) -> None:
        conflicts = sum(isinstance(item, Prediction) for item, _ in kept)
        self._metrics.forward(sum(isinstance(item, Prediction) for item in items) - conflicts, conflicts=conflicts)
        for item, reason in kept:
            kind = "prediction" if isinstance(item, Prediction) else "outcome"
            self._log.error("kept_in_spool", kind=kind, reason=reason)
        if self.spool.empty:
            self._log.warning("spool_forwarded")

    def _store(self, items: Sequence[Item]) -> list[tuple[Item, str]]:
        """Store items of one kind, and give the refused ones with their reasons.

        Where one of them makes the others fail, they are stored singly: an acknowledged row is never dropped.
        """
        try:
            with self._engine.begin() as connection:
                return self._store_group(connection, items)
        except AT_FAULT as error:
            if len(items) == 1:
                return [(items[0], f"refused: {type(error).__name__}")]
        return [kept for item in items for kept in self._store([item])]

    def _store_group(self, connection: Connection, items: Sequence[Item]) -> list[tuple[Item, str]]:
        predictions = [item for item in items if isinstance(item, Prediction)]
        if predictions:
            foreign = put(connection, predictions)
            return [
                (row, "conflict: the id was stored first by another")
                for row in predictions
                if row.prediction_id in foreign
            ]
        submissions = [item for item in items if isinstance(item, Submission)]
        fresh = _not_yet_recorded(connection, submissions)
        results = self._record(connection, fresh) if fresh else []
        return [
            (submission, f"{result.status.value}: {result.detail}")
            for submission, result in zip(fresh, results, strict=True)
            if result.status not in TAKEN
        ]

    def _send_scout(self) -> None:
        self._scout_thread = threading.Thread(target=self._scout, name="plumbline-scout", daemon=True)
        self._scout_thread.start()

    def _scout(self) -> None:
        """Try the store until it answers, is migrated and takes rows. Then wake the writing thread."""
        while not self._stop.wait(LOOK_S):
            try:
                self._prepare()
            except AWAY:
                continue
            except Exception as error:  # noqa: BLE001 - a store that is there and wrong is waited for too: its rows are safe
                self._log.error("store_not_usable", error=describe_error(error))
                continue
            self._log.warning("store_reachable_again", spooled=self.rows)
            self._scout_thread = None
            self._away = False
            self.outage = None
            self._wake()
            return

    def _prepare(self) -> None:
        upgrade(self._engine)
        with self._engine.begin() as connection:
            for model in self.spool.models():
                note(connection, model)
        if (
            not self.spool.empty
        ):  # a store that lets us in may yet take no rows: try the first, which does no harm twice
            self._store([item for _, item in self.spool.first(1)])


def _not_yet_recorded(connection: Connection, submissions: Sequence[Submission]) -> list[Submission]:
    """Without those that an earlier try has recorded, whose removal from the spool then failed."""
    there = revisions_of(connection, [submission.outcome.prediction_id for submission in submissions])
    recorded = {(row.prediction_id, row.recorded_at, row.outcome, row.value) for rows in there.values() for row in rows}
    return [
        submission
        for submission in submissions
        if (submission.outcome.prediction_id, submission.now, submission.outcome.outcome, submission.outcome.value)
        not in recorded
    ]
