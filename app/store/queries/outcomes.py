"""Outcomes: matching by id, revisions, pending outcomes, label delay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import orjson
from sqlalchemy import (
    ARRAY,
    TEXT,
    ColumnElement,
    Connection,
    Select,
    TableValuedAlias,
    and_,
    bindparam,
    cast,
    delete,
    func,
    literal_column,
    select,
)
from sqlalchemy.engine.interfaces import Dialect

from app.store.queries.predictions import chunks
from app.store.tables import MODELS, OUTCOMES, PREDICTIONS, from_text, insert_rows, to_text
from app.types import SECOND, Json, Label, Micros, Outcome, OutcomeResult, OutcomeStatus, Recorded

SLASH = "/"
"""Between a name and its version, which have none: both are names of folders."""


class Known(NamedTuple):
    """An id as the store has it.

    Attributes:
        schema: of the version that answered; None without a prediction.
        revision: the latest of its outcome, 0 without one; ``outcome`` and ``value`` are that revision's.
        model: the name of the model that answered; None without a prediction.
    """

    schema: Json | None
    revision: int
    outcome: Label | None
    value: float | None
    model: str | None = None


class Revision(NamedTuple):
    """A row of the table ``outcomes``, in the order of its columns; ``outcome`` is JSON text."""

    prediction_id: str
    revision: int
    outcome: str
    value: float | None
    observed_at: Micros | None
    recorded_at: Micros
    recorded_by: str | None


def look_up(connection: Connection, ids: Sequence[str]) -> dict[str, Known]:
    """Read what the store knows about each of these ids."""
    found: list[tuple[str, str | None, int | None]] = orjson.loads(_ask(connection, _look_up, ids)[0][0])
    schemas = _schemas(connection, {version for _, version, _ in found if version is not None})
    reported = [id_ for id_, _, revision in found if revision]
    latest = {id_: rest for id_, *rest in _ask(connection, _latest_statement, reported)} if reported else {}
    known: dict[str, Known] = {}
    for id_, version, revision in found:
        outcome, value = latest[id_] if revision else (None, None)
        schema = None if version is None else schemas.get(version, {})
        model = None if version is None else version.split(SLASH, 1)[0]
        known[id_] = Known(schema, revision or 0, from_text(outcome), value, model)
    return known


def append(connection: Connection, rows: Sequence[Revision]) -> None:
    """Add revisions; IntegrityError where another replica has added one of them first.

    Two replicas that add revisions of the same ids lock them in the same order: they wait, and never for ever.
    """
    insert_rows(connection, OUTCOMES, sorted(rows))


def _ask(connection: Connection, what: Callable[[Dialect], str], ids: Sequence[str]) -> Sequence[Any]:
    """Run a query about these ids.

    The ids are one parameter, so that any number of them is the same statement.
    """
    asked = orjson.dumps(ids).decode() if connection.dialect.name == "sqlite" else list(ids)
    return connection.exec_driver_sql(what(connection.dialect), (asked,)).all()


@lru_cache(maxsize=8)
def _look_up(dialect: Dialect) -> str:
    """Select each id with the version that answered it and the number of its latest revision.

    All in one JSON text: SQLite's driver gives the interpreter lock up at every row.

    Scalar subqueries, since PostgreSQL keeps the plan of a statement: one of joins, made while a table was small, read
    all of the table for every group once it had grown (80,000 rows: 5 ms a group instead of 0.5 ms).
    """
    id_ = _asked(dialect).c.value
    version = PREDICTIONS.c.model_name.concat(literal_column(f"'{SLASH}'")).concat(PREDICTIONS.c.model_version)
    answered = select(version).where(PREDICTIONS.c.prediction_id == id_)
    revision = select(func.max(OUTCOMES.c.revision)).where(OUTCOMES.c.prediction_id == id_)
    entry = (id_, answered.scalar_subquery(), revision.scalar_subquery())
    whole: ColumnElement[Any] = func.json_group_array(func.json_array(*entry))
    if dialect.name != "sqlite":
        whole = cast(func.json_agg(func.json_build_array(*entry)), TEXT)
    return str(select(whole).compile(dialect=dialect))


@lru_cache(maxsize=8)
def _latest_statement(dialect: Dialect) -> str:
    """Each id with its latest outcome and value: apart, since most reports are the first."""
    id_ = _asked(dialect).c.value
    parts = (
        select(column)
        .where(OUTCOMES.c.prediction_id == id_)
        .order_by(OUTCOMES.c.revision.desc())
        .limit(literal_column("1"))
        .offset(literal_column("0"))  # SQLite would write a parameter otherwise
        for column in (OUTCOMES.c.outcome, OUTCOMES.c.value)
    )
    return str(select(id_, *(part.scalar_subquery() for part in parts)).compile(dialect=dialect))


def _asked(dialect: Dialect) -> TableValuedAlias:
    """The ids as a table of one column."""
    ids: Any = bindparam("ids")
    if dialect.name == "sqlite":
        return func.json_each(ids).table_valued("value", name="asked")
    return func.unnest(cast(ids, ARRAY(TEXT))).table_valued("value", name="asked").render_derived()


def _schemas(connection: Connection, versions: AbstractSet[str]) -> dict[str, Json]:
    """Read the stored schemas of these versions, by name/version.

    A version that was never noted has none.

    What is once noted stands, and so is kept with the connection.
    """
    kept: dict[str, Json] = connection.info.setdefault("schemas", {})
    for key in versions - kept.keys():
        text = connection.exec_driver_sql(_schema_of(connection.dialect), tuple(key.split(SLASH, 1))).scalar()
        if text is not None:
            kept[key] = from_text(text)
    return kept


@lru_cache(maxsize=8)
def _schema_of(dialect: Dialect) -> str:
    wanted = select(MODELS.c.schema).where(MODELS.c.name == bindparam("name"), MODELS.c.version == bindparam("version"))
    return str(wanted.compile(dialect=dialect))


UNKNOWN_ID = "no prediction has this id"
UNKNOWN_CLASS = "stored; this model does not know the class"
"""What is said of a truth that the model cannot give."""
Normalise = Callable[[Json, Label], Label]
"""Brings a label to the type of its prediction's schema.

Raises ValueError with the reason where it cannot be the truth.
"""
MAX_REVISIONS = 1_000
"""Revisions of one outcome; each is kept, so their number is bounded."""
TOO_OFTEN = f"this outcome was revised {MAX_REVISIONS} times, and takes no more"
PENDING_FULL = "too many outcomes wait for their prediction already (outcomes.max_pending)"
RECOUNT_US = 60 * SECOND
"""Time between two counts of the pending outcomes while there are too many: a count reads every recent outcome."""
APPENDED = frozenset({OutcomeStatus.MATCHED, OutcomeStatus.PENDING, OutcomeStatus.REVISED})
"""What becomes of an outcome that is kept as a new revision."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Hold the settings for outcomes.

    Attributes:
        hold: whether an outcome waits for its prediction.
        max_pending: outcomes that may wait.
    """

    normalise: Normalise
    hold: bool
    max_pending: int = 100_000


class Submission(NamedTuple):
    """One reported outcome with its reporter, who may label this model alone (None: any)."""

    outcome: Outcome
    now: Micros
    recorded_by: str | None = None
    model: str | None = None


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
        schema, revision, _, _, model = before = known[prediction_id]
        if submission.model not in (None, model):
            results.append(OutcomeResult(prediction_id, OutcomeStatus.UNKNOWN, UNKNOWN_ID))
            continue
        status, detail, label = _decide(rules, outcome, before)
        if status is OutcomeStatus.PENDING and not _has_room(connection, rules, submission.now):
            status, detail = OutcomeStatus.UNKNOWN, PENDING_FULL
        if status in APPENDED:
            known[prediction_id] = Known(schema, revision + 1, label, value, model)
            row = (prediction_id, revision + 1, to_text(label), value)
            rows.append(Revision(*row, outcome.observed_at, submission.now, submission.recorded_by))
        results.append(OutcomeResult(prediction_id, status, detail))
    if rows:
        append(connection, rows)
    return results


class PendingCount:
    """The number of pending outcomes, as far as a writer knows it.

    It is counted at first, and again where it is too high.
    Meanwhile it only grows, since the arrival of a prediction tells nobody that an outcome waited.
    """

    def __init__(self) -> None:
        self.number = 0
        self.counted_at: Micros | None = None


def _has_room(connection: Connection, rules: Rules, now: Micros) -> bool:
    """Take a place among the pending outcomes; False where there is none."""
    count: PendingCount = connection.info.setdefault("pending", PendingCount())
    stale = count.counted_at is None or now - count.counted_at > RECOUNT_US
    if count.counted_at is None or (count.number >= rules.max_pending and stale):
        waiting = _pending().where(OUTCOMES.c.revision == 1).limit(rules.max_pending).subquery()
        count.number = connection.execute(select(func.count()).select_from(waiting)).scalar_one()
        count.counted_at = now
    if count.number >= rules.max_pending:
        return False
    count.number += 1
    return True


def _pending() -> Select[Any]:
    """Outcomes without a prediction, each with all its revisions."""
    arrived = select(PREDICTIONS.c.prediction_id).where(PREDICTIONS.c.prediction_id == OUTCOMES.c.prediction_id)
    return select(OUTCOMES).where(~arrived.exists())


def revisions_of(connection: Connection, ids: Sequence[str], *, most: int | None = None) -> dict[str, list[Recorded]]:
    """Every revision of these ids' outcomes, oldest first; with ``most``, the latest ones."""
    found: dict[str, list[Recorded]] = {}
    for part in chunks(ids):
        statement = (
            select(OUTCOMES)
            .where(OUTCOMES.c.prediction_id.in_(part))
            .order_by(OUTCOMES.c.prediction_id, OUTCOMES.c.revision)
        )
        if most is not None:
            statement = _latest_revisions(statement, part, most)
        for row in connection.execute(statement):
            found.setdefault(row.prediction_id, []).append(_recorded(row))
    return found


def _latest_revisions(statement: Select[Any], ids: Sequence[str], most: int) -> Select[Any]:
    table = OUTCOMES.alias()
    last = (
        select(table.c.prediction_id, func.max(table.c.revision).label("last"))
        .where(table.c.prediction_id.in_(ids))
        .group_by(table.c.prediction_id)
        .subquery()
    )
    newer = and_(OUTCOMES.c.prediction_id == last.c.prediction_id, OUTCOMES.c.revision > last.c.last - most)
    return statement.join(last, newer)


def pending(
    connection: Connection, *, since: Micros, limit: int, after: str = "", by: str | None = None
) -> list[Recorded]:
    """Read outcomes without a prediction since ``since``, by id from ``after``.

    Of each outcome the latest revision is read; with ``by``, only those that this key reported.
    """
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
    if by is not None:
        statement = statement.where(OUTCOMES.c.recorded_by == by)
    return [_recorded(row) for row in connection.execute(statement.order_by(OUTCOMES.c.prediction_id).limit(limit))]


def expire(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete up to ``limit`` outcomes whose prediction never arrived.

    They were last reported before ``before``.

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
    """Decide an outcome's status, the reason of a refusal or a remark, and its typed label."""
    label = outcome.outcome
    if known.schema is None:
        if not rules.hold:
            return OutcomeStatus.UNKNOWN, UNKNOWN_ID, label
    else:
        try:
            label = rules.normalise(known.schema, label)
        except ValueError as error:
            return OutcomeStatus.INVALID, str(error), label
    note = _note(known.schema, label)
    if not known.revision:
        return OutcomeStatus.PENDING if known.schema is None else OutcomeStatus.MATCHED, note, label
    if known.value == outcome.value and same(_latest_label(rules, known), label):
        return OutcomeStatus.DUPLICATE, note, label
    if outcome.revise:
        full = known.revision >= MAX_REVISIONS
        return (OutcomeStatus.CONFLICT, TOO_OFTEN, label) if full else (OutcomeStatus.REVISED, note, label)
    return OutcomeStatus.CONFLICT, "another outcome is recorded; send revise: true to replace it", label


def _note(schema: Json | None, label: Label) -> str | None:
    """Say that a truth is of a class that the model lacks.

    It is stored, and counts as a wrong answer.
    """
    classes = schema.get("classes") if schema else None
    return UNKNOWN_CLASS if classes and label not in classes else None


def same(one: Label | None, other: Label) -> bool:
    """Tell whether two labels are the same truth.

    0 and 0.0 are the same. 0 and "0", or 0 and false, are not; a 0/1 task has made them one type before.
    """
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _latest_label(rules: Rules, known: Known) -> Label | None:
    """Give the latest label of an outcome.

    An outcome that came before its prediction was kept as sent. Now its type is known.
    """
    if known.schema is None or known.outcome is None:
        return known.outcome
    with suppress(ValueError):
        return rules.normalise(known.schema, known.outcome)
    return known.outcome


def _recorded(row: Any) -> Recorded:
    return Recorded(
        row.prediction_id, row.revision, from_text(row.outcome), row.value, row.observed_at, row.recorded_at
    )
