"""Predictions beside their outcomes: what realised performance reads, without the features it does not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Select, select

from app.store.encoding import many_from_text
from app.store.sampling import VersionRows
from app.store.tables import OUTCOMES, PREDICTIONS
from app.types import Label, Micros, Role, Scalar

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
    """A window of stored predictions with what became of them, ordered by (predicted_at, id); all of one length.

    Attributes:
        probabilities: in the order of the schema's classes; None where the model gave none.
        outcomes, values: of the latest revision; None where no outcome came (0, False and "" are outcomes).
        recorded_at: when the first revision came.
        segments: the values of the features, or keys of the context, that were asked for.
        sampled_from: the estimated number of rows from which the window was drawn.
    """

    predictions: Sequence[Label]
    probabilities: Sequence[Sequence[float] | None]
    predicted_at: Sequence[Micros]
    outcomes: Sequence[Label | None]
    values: Sequence[float | None]
    recorded_at: Sequence[Micros | None]
    segments: Mapping[str, Sequence[Scalar]] = field(default_factory=dict)
    sampled_from: int = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.predicted_at)


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
    """The window that :func:`app.store.windows.read_window` describes, as columns; 100,000 rows in half a second.

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
    """Answers from a moment on with every revision of their outcomes, a row for each; of none, a row of nulls."""
    table, truth, rows = within.table.c, OUTCOMES.c, PREDICTIONS.c
    wanted = [table.predicted_at, table.prediction_id, truth.revision, table.prediction, table.probabilities]
    wanted += [truth.outcome, truth.value, truth.recorded_at, *([rows.features, rows.context] if segments else [])]
    answered = within.table.outerjoin(OUTCOMES, truth.prediction_id == table.prediction_id)
    if segments and within.role == "shadow":
        answered = answered.join(PREDICTIONS, rows.prediction_id == table.prediction_id)
    return select(*wanted).select_from(answered).where(*within.at(level), table.predicted_at >= start)
