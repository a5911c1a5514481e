"""A day of a stream as the store takes it: rows that the model has answered, and the labels that came for them."""

from __future__ import annotations

from typing import NamedTuple

from app.serving.bundle.reader import Bundle
from app.store.queries.outcomes import Revision
from app.store.tables import to_text
from app.types import Micros, Prediction
from benchmarks.months.stream import Stream


class Arrivals(NamedTuple):
    """Rows, and labels of which some come a day later."""

    rows: list[Prediction]
    labels: list[Revision]


def arrivals_of(stream: Stream, bundle: Bundle, day: int) -> Arrivals:
    """The same rows with the same ids whenever they are asked for."""
    drawn, schema = stream.day(day), bundle.schema
    features = [tuple(row) for row in drawn.features.tolist()]
    answered = zip(drawn.times.tolist(), features, bundle.estimator.predict(features), strict=True)
    rows = [
        Prediction(f"{day}-{place}", schema.name, schema.version, row, answer, Micros(moment), 1, "simulated")
        for place, (moment, row, answer) in enumerate(answered)
    ]
    truth = zip(drawn.labels.tolist(), drawn.came.tolist(), strict=True)
    labels = [
        Revision(f"{day}-{place}", 1, to_text(label), None, None, Micros(came), None)
        for place, (label, came) in enumerate(truth)
        if came >= 0
    ]
    return Arrivals(rows, labels)
