"""A window: the rows of one model version that a check looks at."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from app.store.outcomes import revisions_of
from app.store.predictions import find
from app.store.sampling import VersionRows
from app.store.shadows import answers_of
from app.types import Label, Micros, Role, Row


@dataclass(frozen=True, slots=True)
class Window:
    """Stored predictions, and what became of them, ordered by (predicted_at, id).

    Attributes:
        probabilities: in the order of the schema's classes; None where the model gave none.
        sampled_from: the estimated number of rows from which the window was drawn.
        hours: the time that the window was asked to span.
        outcomes, values, recorded_at: aligned with ``ids``; None where no outcome came (0, False and "" are outcomes).
    """

    ids: list[str]
    features: list[Row]
    predictions: list[Label]
    probabilities: list[tuple[float, ...] | None]
    predicted_at: list[Micros]
    sampled_from: int
    hours: float
    outcomes: list[Label | None]
    values: list[float | None]
    recorded_at: list[Micros | None]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.ids)


def read_window(
    connection: Connection,
    name: str,
    version: str,
    *,
    rows: int,
    hours: float,
    before: Micros | None = None,
    role: Role = "active",
) -> Window:
    """The latest ``rows`` predictions of a version; where these span less than ``hours``, an even sample of them.

    A row's level is the number of trailing zero bits of a hash of its id, so the rows of level k or more are an even
    sample of one in 2^k, the same on every replica. Taken is the smallest k at which at most ``rows`` rows lie within
    ``hours`` of the window's end. Cost: O(rows) at any traffic and history, by the index on (version, level, time).

    Args:
        hours: 0 takes the latest rows, whatever they span.
        before: look only at predictions made before this moment.
        role: a shadow's answers lie beside the predictions that it repeated.
    """
    within = VersionRows(name, version, before, role)
    level, start = within.sample(connection, rows, hours)
    keys = within.latest(connection, level, rows, start)
    return _load(connection, within, [prediction_id for _, prediction_id in keys], len(keys) << level, hours)


def newer_rows(
    connection: Connection, name: str, version: str, *, after: Micros, most: int, role: Role = "active"
) -> int:
    """How many predictions a version made after a moment, counted up to ``most``."""
    within = VersionRows(name, version, None, role)
    return min(most, sum(within.count(connection, level, after + 1, most) for level in within.levels(connection)))


def _load(connection: Connection, within: VersionRows, ids: list[str], sampled_from: int, hours: float) -> Window:
    stored = find(connection, ids)
    truth = {prediction_id: revisions[-1] for prediction_id, revisions in revisions_of(connection, ids).items()}
    there = [stored[prediction_id].prediction for prediction_id in ids if prediction_id in stored]
    shadow = answers_of(connection, within.version, ids) if within.role == "shadow" else {}
    answers = [shadow.get(row.prediction_id, row.answer) for row in there]
    labels = [truth.get(row.prediction_id) for row in there]
    return Window(
        ids=[row.prediction_id for row in there],
        features=[row.features for row in there],
        predictions=[answer.prediction for answer in answers],
        probabilities=[answer.probabilities for answer in answers],
        predicted_at=[row.predicted_at for row in there],
        sampled_from=sampled_from,
        hours=hours,
        outcomes=[None if label is None else label.outcome for label in labels],
        values=[None if label is None else label.value for label in labels],
        recorded_at=[None if label is None else label.recorded_at for label in labels],
    )
