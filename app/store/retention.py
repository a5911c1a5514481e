"""Old rows go, a few at a time, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from time import perf_counter
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select

from app.store.journal.journal import Journal
from app.store.queries import alerts, labelled, outbox, reports
from app.store.queries.outcomes import expire
from app.store.queries.predictions import chunks
from app.store.tables import MODELS, OUTCOMES, PREDICTIONS, SHADOW_PREDICTIONS, from_text, to_text
from app.types import SECOND, Micros, Scalar

CHUNK = 200
RESTS = 2.0
"""Rest behind a chunk, in times of what it took with its wait for its turn: callers have the journal meanwhile."""
SENT_S = 30 * 86_400.0
"""How long a message is kept, delivered or not: far longer than it may wait."""
ENDED_S = 90 * 86_400.0
"""How long an alert is kept that has ended; and with it the report that it came from."""


def purge_chunks(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` old predictions with their outcomes, and give their number."""
    old = (
        select(PREDICTIONS.c.prediction_id)
        .where(PREDICTIONS.c.predicted_at < before)
        .order_by(PREDICTIONS.c.predicted_at)
        .limit(limit)
    )
    ids = list(connection.execute(old).scalars())
    for part in chunks(ids):
        connection.execute(delete(OUTCOMES).where(OUTCOMES.c.prediction_id.in_(part)))
        connection.execute(delete(PREDICTIONS).where(PREDICTIONS.c.prediction_id.in_(part)))
    return len(ids)


async def clean(journal: Journal, *, retention_s: float, hold_s: float, now: Callable[[], Micros]) -> int:
    """Delete rows past their retention and outcomes that waited in vain.

    The deletes are small chunks between the callers' groups.

    The number deleted.
    """
    deleted = 0
    by_setting = ((purge_chunks, retention_s), (labelled.purge_shadow_answers, retention_s), (expire, hold_s))
    by_end = ((alerts.purge, ENDED_S), (alerts.purge_silences, ENDED_S))
    acts = (
        *by_setting,
        (outbox.purge, SENT_S),
        *by_end,
        (reports.purge, retention_s),
        (reports.purge_figures, retention_s),
    )
    for delete_some, age_s in acts:
        while True:
            before, started = Micros(now() - round(age_s * SECOND)), perf_counter()
            gone = await journal.run(partial(delete_some, before=before, limit=CHUNK))
            deleted += gone
            if gone < CHUNK:
                break
            await asyncio.sleep(RESTS * (perf_counter() - started))
    return deleted


SCAN_ROWS = 2000
"""Rows that are looked through at a time."""


def find_subject(
    connection: Connection, subject: str, forms: AbstractSet[Scalar], after: tuple[int, str], *, model: str | None
) -> tuple[list[str], tuple[int, str] | None]:
    """The ids of a subject's predictions among the next rows, and where to go on.

    The second is None at the end.

    Args:
        subject: the feature, or key of the context, that says whose a row is.
        forms: what may be stored there for this subject.
        model: look at the rows of this model alone.
    """
    table = PREDICTIONS.c
    later = or_(table.predicted_at > after[0], and_(table.predicted_at == after[0], table.prediction_id > after[1]))
    statement = (
        select(table.predicted_at, table.prediction_id, table.features, table.context, MODELS.c.schema)
        .outerjoin(MODELS, and_(MODELS.c.name == table.model_name, MODELS.c.version == table.model_version))
        .where(later, *([] if model is None else [table.model_name == model]))
        .order_by(table.predicted_at, table.prediction_id)
        .limit(SCAN_ROWS)
    )
    rows = connection.execute(statement).all()
    texts = needles(forms)
    found = [row.prediction_id for row in rows if _is_of(row, subject, forms, texts)]
    return found, (rows[-1].predicted_at, rows[-1].prediction_id) if len(rows) == SCAN_ROWS else None


def needles(forms: Iterable[Scalar]) -> list[str]:
    """The JSON texts of the forms; a row without any of them need not be read."""
    return [to_text(form) for form in forms]


def _is_of(row: Any, subject: str, forms: AbstractSet[Scalar], texts: Sequence[str]) -> bool:
    if not any(text in row.features or (row.context and text in row.context) for text in texts):
        return False
    names = (from_text(row.schema) or {}).get("features", [])
    values = [value for name, value in zip(names, from_text(row.features), strict=False) if name == subject]
    values.append((from_text(row.context) or {}).get(subject))
    return any(value is not None and not isinstance(value, bool) and value in forms for value in values)


def erase(connection: Connection, ids: Sequence[str]) -> int:
    """Delete predictions with their outcomes and the answers of shadows; give their number.

    SQLite overwrites what it deletes here.
    """
    secure = connection.dialect.name == "sqlite"
    if secure:
        connection.exec_driver_sql("PRAGMA secure_delete=ON")
    gone = 0
    for part in chunks(ids):
        for table in (OUTCOMES, SHADOW_PREDICTIONS):
            connection.execute(delete(table).where(table.c.prediction_id.in_(part)))
        gone += connection.execute(delete(PREDICTIONS).where(PREDICTIONS.c.prediction_id.in_(part))).rowcount
    if secure:
        connection.exec_driver_sql("PRAGMA secure_delete=OFF")
    return gone
