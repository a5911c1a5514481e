"""Outcomes: append-only revisions of the truth, matched to predictions by id."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, delete, func, select

from app.store.encoding import from_text, to_text
from app.store.outcome_rows import Known, Revision, append, look_up
from app.store.predictions import chunks
from app.store.sampling import VersionRows
from app.store.tables import OUTCOMES, PREDICTIONS
from app.types import SECOND, Json, Label, Micros, Outcome, OutcomeResult, OutcomeStatus, Recorded, Role

Normalise = Callable[[Json, Label], Label]
"""Brings a label to the type of its prediction's schema.

Raises ValueError with the reason where it cannot be the truth.
"""
APPENDED = frozenset({OutcomeStatus.MATCHED, OutcomeStatus.PENDING, OutcomeStatus.REVISED})
"""What becomes of an outcome that is kept as a new revision."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How outcomes are taken; with ``hold``, one without a prediction waits for it."""

    normalise: Normalise
    hold: bool


class Submission(NamedTuple):
    """One reported outcome on its way into the store, with who reports it and when."""

    outcome: Outcome
    now: Micros
    recorded_by: str | None = None


def writer(rules: Rules) -> Callable[[Connection, Sequence[Submission]], list[OutcomeResult]]:
    """The journal's function for outcomes under these rules."""
    return partial(record, rules)


def record(rules: Rules, connection: Connection, submissions: Sequence[Submission]) -> list[OutcomeResult]:
    """Decide on each outcome, in order, and append the revisions that are new.

    Two replicas that revise one outcome at once collide on its primary key; the journal tries again, and the second
    sees the first.
    """
    known = look_up(connection, list({submission.outcome.prediction_id for submission in submissions}))
    rows: list[Revision] = []
    results = []
    for submission in submissions:
        outcome = submission.outcome
        prediction_id, value = outcome.prediction_id, outcome.value
        schema, revision, _, _ = before = known[prediction_id]
        status, detail, label = _decide(rules, outcome, before)
        if status in APPENDED:
            known[prediction_id] = Known(schema, revision + 1, label, value)
            row = (prediction_id, revision + 1, to_text(label), value)
            rows.append(Revision(*row, outcome.observed_at, submission.now, submission.recorded_by))
        results.append(OutcomeResult(prediction_id, status, detail))
    if rows:
        append(connection, rows)
    return results


def revisions_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[Recorded]]:
    """Every revision of these ids' outcomes, oldest first."""
    found: dict[str, list[Recorded]] = {}
    for part in chunks(ids):
        statement = (
            select(OUTCOMES)
            .where(OUTCOMES.c.prediction_id.in_(part))
            .order_by(OUTCOMES.c.prediction_id, OUTCOMES.c.revision)
        )
        for row in connection.execute(statement):
            found.setdefault(row.prediction_id, []).append(_recorded(row))
    return found


def pending(connection: Connection, *, since: Micros, limit: int, after: str = "") -> list[Recorded]:
    """Outcomes since ``since`` whose prediction has not arrived, the latest revision of each, by id from ``after``."""
    arrived = (
        select(PREDICTIONS.c.prediction_id).where(PREDICTIONS.c.prediction_id == OUTCOMES.c.prediction_id).exists()
    )
    later = OUTCOMES.alias()
    superseded = (
        select(later.c.revision)
        .where(later.c.prediction_id == OUTCOMES.c.prediction_id, later.c.revision > OUTCOMES.c.revision)
        .exists()
    )
    statement = select(OUTCOMES).where(
        OUTCOMES.c.prediction_id > after, OUTCOMES.c.recorded_at >= since, ~arrived, ~superseded
    )
    return [_recorded(row) for row in connection.execute(statement.order_by(OUTCOMES.c.prediction_id).limit(limit))]


def expire(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` outcomes last reported before ``before`` whose prediction never arrived.

    The number deleted.
    """
    arrived = (
        select(PREDICTIONS.c.prediction_id).where(PREDICTIONS.c.prediction_id == OUTCOMES.c.prediction_id).exists()
    )
    first = OUTCOMES.c.revision == 1
    later = OUTCOMES.alias()
    revised = (
        select(later.c.revision)
        .where(later.c.prediction_id == OUTCOMES.c.prediction_id, later.c.recorded_at >= before)
        .exists()
    )
    old = select(OUTCOMES.c.prediction_id).where(OUTCOMES.c.recorded_at < before, first, ~arrived, ~revised)
    ids = list(connection.execute(old.limit(limit)).scalars())
    for part in chunks(ids):
        connection.execute(delete(OUTCOMES).where(OUTCOMES.c.prediction_id.in_(part)))
    return len(ids)


def _decide(rules: Rules, outcome: Outcome, known: Known) -> tuple[OutcomeStatus, str | None, Label]:
    """What becomes of an outcome, why it is not taken, and its label in the schema's type."""
    label = outcome.outcome
    if known.schema is None:
        if not rules.hold:
            return OutcomeStatus.UNKNOWN, "no prediction has this id", label
    else:
        try:
            label = rules.normalise(known.schema, label)
        except ValueError as error:
            return OutcomeStatus.INVALID, str(error), label
    if not known.revision:
        return OutcomeStatus.PENDING if known.schema is None else OutcomeStatus.MATCHED, None, label
    if known.value == outcome.value and same(_latest(rules, known), label):
        return OutcomeStatus.DUPLICATE, None, label
    if outcome.revise:
        return OutcomeStatus.REVISED, None, label
    return OutcomeStatus.CONFLICT, "another outcome is recorded; send revise: true to replace it", label


def same(one: Label | None, other: Label) -> bool:
    """Equal as truth: 0 and 0.0 are, 0 and "0" or false are not (a 0/1 task has made them one type before)."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _latest(rules: Rules, known: Known) -> Label | None:
    """The latest outcome; one that came before its prediction was kept as sent, and now its type is known."""
    if known.schema is None or known.outcome is None:
        return known.outcome
    with suppress(ValueError):
        return rules.normalise(known.schema, known.outcome)
    return known.outcome


def _recorded(row: Any) -> Recorded:
    return Recorded(
        row.prediction_id, row.revision, from_text(row.outcome), row.value, row.observed_at, row.recorded_at
    )


def newer_outcomes(connection: Connection, *, after: Micros, most: int) -> int:
    """How many revisions were recorded after a moment, counted up to ``most``."""
    part = select(OUTCOMES.c.recorded_at).where(OUTCOMES.c.recorded_at > after).limit(most)
    return connection.execute(select(func.count()).select_from(part.subquery())).scalar_one()


def label_delay(
    connection: Connection, name: str, version: str, *, share: float, most: int = 1000, role: Role = "active"
) -> float | None:
    """The time in seconds within which ``share`` of the latest outcomes came after their predictions.

    None where none of the ``most`` latest outcomes is of this version.
    """
    # The latest outcomes through their index, and an outer join: a planner would else begin with every prediction.
    came, within = OUTCOMES.c.recorded_at, VersionRows(name, version, None, role)
    newest = select(OUTCOMES.c.prediction_id, came).where(OUTCOMES.c.revision == 1).order_by(came.desc()).limit(most)
    truth, table = newest.subquery().c, within.table.c
    same = (table.prediction_id == truth.prediction_id, *within.own)
    statement = select(truth.recorded_at - table.predicted_at).outerjoin(within.table, and_(*same))
    delays = sorted(delay for delay in connection.execute(statement).scalars() if delay is not None)
    return max(0.0, delays[math.ceil(share * len(delays)) - 1] / SECOND) if delays else None
