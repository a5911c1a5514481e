"""Outcomes: append-only revisions of the truth, matched to predictions by id."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, select

from app.store.encoding import from_text, to_text
from app.store.predictions import Stored, chunks, find
from app.store.tables import OUTCOMES, PREDICTIONS
from app.types import SECOND, Label, Micros, Outcome, OutcomeResult, OutcomeStatus, Recorded

Normalise = Callable[[Stored, Label], Label]
"""Brings a label to the type of the prediction's schema.

Raises ValueError with the reason where it cannot be the truth.
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """How outcomes are taken; with ``hold``, one without a prediction waits for it."""

    normalise: Normalise
    hold: bool


@dataclass(frozen=True, slots=True)
class Submission:
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
    ids = list(dict.fromkeys(submission.outcome.prediction_id for submission in submissions))
    known = find(connection, ids)
    latest = {prediction_id: revisions[-1] for prediction_id, revisions in revisions_of(connection, ids).items()}
    rows: list[dict[str, Any]] = []
    results = []
    for submission in submissions:
        prediction_id = submission.outcome.prediction_id
        result, fresh = _decide(rules, submission, known.get(prediction_id), latest.get(prediction_id))
        if fresh:
            latest[prediction_id] = fresh
            rows.append(_values(fresh, submission))
        results.append(result)
    if rows:
        connection.execute(insert(OUTCOMES), rows)
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


def _decide(
    rules: Rules, submission: Submission, stored: Stored | None, latest: Recorded | None
) -> tuple[OutcomeResult, Recorded | None]:
    outcome = submission.outcome
    answer = partial(OutcomeResult, outcome.prediction_id)
    if stored is None and not rules.hold:
        return answer(OutcomeStatus.UNKNOWN, "no prediction has this id"), None
    label = outcome.outcome
    if stored:
        try:
            label = rules.normalise(stored, label)
        except ValueError as error:
            return answer(OutcomeStatus.INVALID, str(error)), None
    if latest and stored:
        latest = _normalised(rules, stored, latest)
    accepted = OutcomeStatus.MATCHED if stored else OutcomeStatus.PENDING
    fresh = Recorded(
        outcome.prediction_id,
        latest.revision + 1 if latest else 1,
        label,
        outcome.value,
        outcome.observed_at,
        submission.now,
    )
    if latest is None:
        return answer(accepted), fresh
    if same(latest.outcome, label) and latest.value == outcome.value:
        return answer(OutcomeStatus.DUPLICATE), None
    if outcome.revise:
        return answer(OutcomeStatus.REVISED), fresh
    return answer(OutcomeStatus.CONFLICT, "another outcome is recorded; send revise: true to replace it"), None


def same(one: Label, other: Label) -> bool:
    """Equal as truth: 0 and 0.0 are, 0 and "0" or false are not (a 0/1 task has made them one type before)."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _normalised(rules: Rules, stored: Stored, recorded: Recorded) -> Recorded:
    """An outcome that came before its prediction was kept as sent; now its type is known."""
    try:
        label = rules.normalise(stored, recorded.outcome)
    except ValueError:
        return recorded
    return Recorded(
        recorded.prediction_id, recorded.revision, label, recorded.value, recorded.observed_at, recorded.recorded_at
    )


def _values(row: Recorded, submission: Submission) -> dict[str, Any]:
    return {
        "prediction_id": row.prediction_id,
        "revision": row.revision,
        "outcome": to_text(row.outcome),
        "value": row.value,
        "observed_at": row.observed_at,
        "recorded_at": row.recorded_at,
        "recorded_by": submission.recorded_by,
    }


def _recorded(row: Any) -> Recorded:
    return Recorded(
        row.prediction_id, row.revision, from_text(row.outcome), row.value, row.observed_at, row.recorded_at
    )


def newer_outcomes(connection: Connection, *, after: Micros, most: int) -> int:
    """How many revisions were recorded after a moment, counted up to ``most``."""
    part = select(OUTCOMES.c.recorded_at).where(OUTCOMES.c.recorded_at > after).limit(most)
    return connection.execute(select(func.count()).select_from(part.subquery())).scalar_one()


def label_delay(connection: Connection, name: str, version: str, *, share: float, most: int = 1000) -> float | None:
    """The time in seconds within which ``share`` of the latest outcomes came after their predictions.

    None without outcomes.
    """
    same = and_(
        PREDICTIONS.c.prediction_id == OUTCOMES.c.prediction_id,
        PREDICTIONS.c.model_name == name,
        PREDICTIONS.c.model_version == version,
    )
    delay = (OUTCOMES.c.recorded_at - PREDICTIONS.c.predicted_at).label("delay")
    latest = (
        select(delay)
        .join(PREDICTIONS, same)
        .where(OUTCOMES.c.revision == 1)
        .order_by(OUTCOMES.c.recorded_at.desc())
        .limit(most)
    )
    delays = sorted(row.delay for row in connection.execute(latest))
    return max(0.0, delays[math.ceil(share * len(delays)) - 1] / SECOND) if delays else None
