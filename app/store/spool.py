"""The spool: a small store of its own in a SQLite file, where rows wait while the real one cannot be reached.

It has the store's tables and migrations, so that what writes and finds a row there does so here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, delete, event, func, insert, select

from app.store.encoding import from_text, to_text
from app.store.engine import Database, open_database
from app.store.migrate import upgrade
from app.store.models import known, remember
from app.store.outcomes import Submission
from app.store.predictions import Stored, chunks, find, stream
from app.store.tables import PREDICTIONS
from app.store.writer import Part, write_together
from app.types import Micros, ModelSchema, Outcome, OutcomeResult, OutcomeStatus, Prediction

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
        """Write several callers' items in one transaction, each by its function; their results, in order.

        Raises:
            Exception: whatever a function raises; nothing is written then.
        """
        with self._database.writer.begin() as connection:
            results = write_together(connection, parts)
        for _, items in parts:
            submissions = sum(isinstance(item, Submission) for item in items)
            self.outcomes += submissions
            self.predictions += len(items) - submissions
        return results

    def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        """The waiting predictions among these ids."""
        with self._database.readers.connect() as connection:
            return find(connection, ids)

    def first(self, limit: int) -> list[tuple[int, Item]]:
        """Up to ``limit`` items with their places, of one kind: predictions by time, and once none waits, outcomes."""
        with self._database.writer.begin() as connection:
            if self.predictions:
                return [(0, stored.prediction) for stored in stream(connection, limit=limit)]
            rows = connection.execute(select(SUBMISSIONS).order_by(SUBMISSIONS.c.sequence).limit(limit))
            return [(row.sequence, _submission(from_text(row.body))) for row in rows]

    def remove(self, items: Sequence[tuple[int, Item]], kept: Sequence[tuple[Item, str]]) -> None:
        """Let items go that the store has; ``kept`` are those that it did not take, each with the reason."""
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
        with self._database.writer.begin() as connection:
            remember(connection, schema, sha256, now=now)

    def models(self) -> list[dict[str, Any]]:
        """The versions that rows in the spool were made by."""
        with self._database.writer.begin() as connection:
            return known(connection)

    def close(self) -> None:
        """Close the file; what waits in it is forwarded after the next start."""
        self._database.close()

    def _count(self, connection: Connection) -> None:
        self.predictions = connection.execute(select(func.count()).select_from(PREDICTIONS)).scalar_one()
        self.outcomes = connection.execute(select(func.count()).select_from(SUBMISSIONS)).scalar_one()


def open_spool(path: Path, *, max_bytes: int) -> Spool:
    """Open the file, or make it; a write that would let it grow beyond ``max_bytes`` fails as on a full disk.

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
    return Submission(Outcome(**body["outcome"]), body["now"], body["recorded_by"])


def _as_json(submission: Submission) -> dict[str, Any]:
    return {**submission._asdict(), "outcome": submission.outcome._asdict()}


def _kept(item: Item, reason: str) -> dict[str, Any]:
    if isinstance(item, Submission):
        kind, prediction_id = "outcome", item.outcome.prediction_id
        body = _as_json(item)
    else:
        kind, prediction_id = "prediction", item.prediction_id
        body = {**item._asdict(), "answer": item.answer._asdict()}
    return {"kind": kind, "prediction_id": prediction_id, "reason": reason, "body": to_text(body)}
