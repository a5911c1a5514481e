"""Old rows go, a few at a time, so that nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter

from sqlalchemy import Connection, delete, select

from app.store.journal.journal import Journal
from app.store.queries import alerts, outbox, reports, shadow_predictions
from app.store.queries.outcomes import expire
from app.store.queries.predictions import chunks
from app.store.tables import OUTCOMES, PREDICTIONS
from app.types import SECOND, Micros

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
    by_setting = ((purge_chunks, retention_s), (shadow_predictions.purge, retention_s), (expire, hold_s))
    by_end = ((alerts.purge, ENDED_S), (alerts.purge_silences, ENDED_S))
    acts = (*by_setting, (outbox.purge, SENT_S), *by_end, (reports.purge, retention_s))
    for delete_some, age_s in acts:
        while True:
            before, started = Micros(now() - round(age_s * SECOND)), perf_counter()
            gone = await journal.run(partial(delete_some, before=before, limit=CHUNK))
            deleted += gone
            if gone < CHUNK:
                break
            await asyncio.sleep(RESTS * (perf_counter() - started))
    return deleted
