"""Predictions joined with their outcomes, and the answers of shadows beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, and_, delete, func, select

from app.store.queries.outcomes import revisions_of
from app.store.queries.predictions import Stored, VersionRows, chunks, sampling_level, stream
from app.store.tables import (
    OUTCOMES,
    PREDICTIONS,
    SHADOW_PREDICTIONS,
    from_text,
    insert_rows,
    many_from_text,
    to_text,
    to_text_or_none,
)
from app.types import SECOND, Answer, Label, Micros, Prediction, Recorded, Role, Scalar

_COLUMNS = (
    "predicted_at",
    "prediction_id",
    "revision",
    "prediction",
    "probabilities",
    "outcome",
    "value",
    "recorded_at",
)
_WITH_SEGMENTS = (*_COLUMNS, "features", "context")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Hold a window of predictions with their outcomes, as columns of one length.

    Rows are ordered by (predicted_at, id).

    Attributes:
        probabilities: in the order of the schema's classes; None where the model gave none.
        outcomes, values: of the latest revision; None where no outcome came (0, False and "" are outcomes).
        recorded_at: when the first revision came.
        segments: the values of the features, or keys of the context, that were asked for.
        sampled_from: the estimated number of rows from which the window was drawn.
        absent: rows whose outcome is what its absence means.
    """

    predictions: Sequence[Label]
    probabilities: Sequence[Sequence[float] | None]
    predicted_at: Sequence[Micros]
    outcomes: Sequence[Label | None]
    values: Sequence[float | None]
    recorded_at: Sequence[Micros | None]
    segments: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    sampled_from: int = 0
    absent: int = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.predicted_at)


def fill_absent(window: Labelled, label: Label, after: Micros, now: Micros) -> Labelled:
    """Give old rows without an outcome the label that its absence means; nothing is stored.

    >>> rows = Labelled(
    ...     [0, 0, 0], [None] * 3, [Micros(0), Micros(1), Micros(9)], [1, None, None], [None] * 3, [None] * 3
    ... )
    >>> fill_absent(rows, 0, Micros(5), Micros(10)).outcomes
    [1, 0, None]
    """
    old = [came is None and now - at >= after for came, at in zip(window.outcomes, window.predicted_at, strict=True)]
    outcomes = [label if absent else came for absent, came in zip(old, window.outcomes, strict=True)]
    times = zip(old, window.recorded_at, window.predicted_at, strict=True)
    recorded = [Micros(at + after) if absent else came for absent, came, at in times]
    return replace(window, outcomes=outcomes, recorded_at=recorded, absent=sum(old))


def stream_of(window: Labelled) -> list[ErrorStream]:
    """Give the answers of a window whose truth is known, in the order in which it came."""
    rows = zip(window.recorded_at, window.outcomes, window.predictions, strict=True)
    known = [ErrorStream(at, came, said) for at, came, said in rows if at is not None and came is not None]
    return sorted(known, key=itemgetter(0))


def read_labelled(
    connection: Connection,
    name: str,
    version: str,
    *,
    rows: int,
    hours: float,
    before: Micros | None = None,
    segments: Mapping[str, int | None] | None = None,
    role: Role = "active",
) -> Labelled:
    """Read the window of ``windows.read_window`` with its outcomes, as columns.

    100,000 rows take half a second.

    Args:
        segments: names of segments with the position of the feature, or None for a key of the context.
    """
    within, segments = VersionRows(name, version, before, role), segments or {}
    lowest, start = within.sample(connection, rows, hours)
    levels = within.levels(connection, lowest)
    first = _first_moment(connection, within, levels, rows, start)
    found: list[Any] = []
    for level in levels:
        found += connection.execute(_statement(within, level, first, segments)).all()
    found.sort(key=itemgetter(0, 1, 2))
    names = _WITH_SEGMENTS if segments else _COLUMNS
    columns = dict.fromkeys(names, ()) | dict(zip(names, zip(*found, strict=True), strict=False))
    ids = columns["prediction_id"]
    newest = list({prediction_id: place for place, prediction_id in enumerate(ids)}.values())[-rows:]
    came = dict(zip(reversed(ids), reversed(columns["recorded_at"]), strict=True))

    def latest(name: str) -> list[Any]:
        return [columns[name][place] for place in newest]

    features, contexts = (many_from_text(latest(name)) if segments else [] for name in ("features", "context"))
    return Labelled(
        predictions=many_from_text(latest("prediction")),
        probabilities=many_from_text(latest("probabilities")),
        predicted_at=latest("predicted_at"),
        outcomes=many_from_text(latest("outcome")),
        values=latest("value"),
        recorded_at=[came[prediction_id] for prediction_id in latest("prediction_id")],
        segments={
            name: [(row or {}).get(name) for row in contexts] if place is None else [row[place] for row in features]
            for name, place in segments.items()
        },
        sampled_from=len(newest) << lowest,
    )


def _first_moment(
    connection: Connection, within: VersionRows, levels: Sequence[int], rows: int, start: int | None
) -> int:
    """The time of the oldest of the latest ``rows`` rows, by the index alone."""
    moments: list[int] = []
    moment = within.table.c.predicted_at
    for level in levels:
        statement = select(moment).where(*within.at(level), moment >= (start or 0)).order_by(moment.desc()).limit(rows)
        moments += connection.execute(statement).scalars()
    return min(nlargest(rows, moments), default=0)


def _statement(within: VersionRows, level: int, start: int, segments: Mapping[str, int | None]) -> Select[Any]:
    """Select predictions from a moment on with every outcome revision, a row for each.

    A prediction without an outcome has one row of nulls.
    """
    table, truth, rows = within.table.c, OUTCOMES.c, PREDICTIONS.c
    wanted = [table.predicted_at, table.prediction_id, truth.revision, table.prediction, table.probabilities]
    wanted += [truth.outcome, truth.value, truth.recorded_at, *([rows.features, rows.context] if segments else [])]
    answered = within.table.outerjoin(OUTCOMES, truth.prediction_id == table.prediction_id)
    if segments and within.role == "shadow":
        answered = answered.join(PREDICTIONS, rows.prediction_id == table.prediction_id)
    return select(*wanted).select_from(answered).where(*within.at(level), table.predicted_at >= start)


class ErrorStream(NamedTuple):
    """One answer whose truth is known, and when the truth was recorded."""

    recorded_at: Micros
    outcome: Label
    prediction: Label


def read_error_stream(
    connection: Connection, name: str, version: str, *, most: int, role: Role = "active"
) -> list[ErrorStream]:
    """Read a version's predictions that have the ``most`` latest outcomes.

    They come in the order of their first outcome.
    """
    within, came = VersionRows(name, version, None, role), OUTCOMES.c.recorded_at
    # The latest outcomes through their index, and an outer join: a planner would else begin with every prediction.
    newest = select(OUTCOMES).where(OUTCOMES.c.revision == 1).order_by(came.desc()).limit(most).subquery()
    truth, table = newest.c, within.table.c
    statement = (
        select(truth.recorded_at, truth.prediction_id, truth.outcome, table.prediction)
        .outerjoin(within.table, and_(*within.own, table.prediction_id == truth.prediction_id))
        .order_by(truth.recorded_at.desc(), table.predicted_at.desc(), table.prediction_id.desc())
    )
    found = [row for row in connection.execute(statement) if row.prediction is not None][::-1]
    if not found:
        return []
    times, ids, outcomes, predictions = zip(*found, strict=True)
    revised = _revised(connection, times[0])
    latest = many_from_text(revised.get(each, outcome) for each, outcome in zip(ids, outcomes, strict=True))
    return [ErrorStream(*each) for each in zip(times, latest, many_from_text(predictions), strict=True)]


def _revised(connection: Connection, since: Micros) -> dict[str, str]:
    """Read the latest revision of every outcome that was revised since a moment.

    A revision never comes before the first outcome.
    """
    truth = OUTCOMES.c
    statement = select(truth.prediction_id, truth.outcome).where(truth.revision > 1, truth.recorded_at >= since)
    found = connection.execute(statement.order_by(truth.revision))
    return {row.prediction_id: row.outcome for row in found}


MAX_REVISIONS_LISTED = 10
"""Revisions of each prediction of a page or an export, the latest ones."""


def read_page(connection: Connection, bounds: dict[str, Any]) -> list[tuple[Stored, list[Recorded]]]:
    """Read predictions within the bounds of ``predictions.stream``, with their latest revisions."""
    rows = list(stream(connection, **bounds))
    truth = revisions_of(connection, [row.prediction.prediction_id for row in rows], most=MAX_REVISIONS_LISTED)
    return [(row, truth.get(row.prediction.prediction_id, [])) for row in rows]


def newer_outcomes(connection: Connection, *, after: Micros, most: int) -> int:
    """Count the revisions that were recorded after a moment, up to ``most``."""
    part = select(OUTCOMES.c.recorded_at).where(OUTCOMES.c.recorded_at > after).limit(most)
    return connection.execute(select(func.count()).select_from(part.subquery())).scalar_one()


RARE, SLOWER = 0.05, 2
"""Part of the outcomes below which a class has no label delay of its own, and how much slower than all it must be."""


def label_delay(
    connection: Connection,
    name: str,
    version: str,
    *,
    share: float,
    most: int = 1000,
    role: Role = "active",
    by_class: bool = False,
) -> float | None:
    """Give the label delay: the seconds within which ``share`` of the outcomes came.

    The latest outcomes are looked at, and the time runs from the prediction. ``by_class``: where the slowest
    class, of those that are one in twenty or more, takes twice as long as all, its delay counts.

    None where none of the ``most`` latest outcomes is of this version.
    """
    # The latest outcomes through their index, and an outer join: a planner would else begin with every prediction.
    came, within = OUTCOMES.c.recorded_at, VersionRows(name, version, None, role)
    seen = (OUTCOMES.c.prediction_id, OUTCOMES.c.outcome, came)
    newest = select(*seen).where(OUTCOMES.c.revision == 1).order_by(came.desc()).limit(most)
    truth, table = newest.subquery().c, within.table.c
    same = (table.prediction_id == truth.prediction_id, *within.own)
    statement = select(truth.recorded_at - table.predicted_at, truth.outcome).outerjoin(within.table, and_(*same))
    delays: dict[str, list[int]] = {}
    for delay, outcome in connection.execute(statement):
        if delay is not None:
            delays.setdefault(outcome if by_class else "", []).append(delay)
    everything = sorted(chain.from_iterable(delays.values()))
    if not everything:
        return None
    usual = _quantile(everything, share)
    common = [sorted(each) for each in delays.values() if len(each) >= RARE * len(everything)]
    slowest = max((_quantile(each, share) for each in common), default=usual)
    return max(0.0, (slowest if slowest > SLOWER * usual else usual) / SECOND)


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[math.ceil(share * len(ordered)) - 1]


class ShadowAnswer(NamedTuple):
    """A shadow's answer to the row of a stored prediction."""

    row: Prediction
    answer: Answer
    latency_us: int


def insert_shadow_answers(connection: Connection, version: str, answers: Sequence[ShadowAnswer]) -> None:
    """Store a shadow version's answers; each once."""
    rows = [
        (
            row.prediction_id,
            row.model_name,
            version,
            to_text(answer.prediction),
            to_text_or_none(answer.probabilities),
            row.predicted_at,
            latency_us,
            sampling_level(row.prediction_id),
        )
        for row, answer, latency_us in answers
    ]
    insert_rows(connection, SHADOW_PREDICTIONS, rows, replay=True)


def purge_shadow_answers(connection: Connection, *, before: Micros, limit: int) -> int:
    """Delete old answers, to about ``limit`` rows, and give their number.

    By their own time, since the predictions may be gone already, with a partition.
    """
    table = SHADOW_PREDICTIONS.c
    old = select(table.prediction_id).where(table.predicted_at < before).order_by(table.predicted_at).limit(limit)
    ids = list(connection.execute(old).scalars())
    for part in chunks(ids):
        connection.execute(delete(SHADOW_PREDICTIONS).where(table.prediction_id.in_(part)))
    return len(ids)


class Pair(NamedTuple):
    """Hold two answers to one row, the shadow's and the served one, and the outcome or None."""

    shadow: Label
    champion: Label
    outcome: Label | None


def read_pairs(
    connection: Connection, name: str, version: str, *, rows: int, hours: float, before: Micros | None = None
) -> dict[str, list[Pair]]:
    """A shadow's answers in the window of ``read_window``, by the version that answered."""
    within = VersionRows(name, version, before, "shadow")
    level, start = within.sample(connection, rows, hours)
    ids = [prediction_id for _, prediction_id in within.latest(connection, level, rows, start)]
    shadow, champion = SHADOW_PREDICTIONS.c, PREDICTIONS.c
    found: dict[str, list[Pair]] = {}
    for part in chunks(ids):
        statement = select(champion.model_version, shadow.prediction_id, shadow.prediction, champion.prediction).where(
            shadow.prediction_id.in_(part),
            shadow.model_version == version,
            champion.prediction_id == shadow.prediction_id,
        )
        truth = revisions_of(connection, part, most=1)
        for answered_by, prediction_id, ours, theirs in connection.execute(statement):
            outcome = truth[prediction_id][-1].outcome if prediction_id in truth else None
            found.setdefault(answered_by, []).append(Pair(from_text(ours), from_text(theirs), outcome))
    return found
