"""A small world of one model: schemas, references drawn from it, and windows that may have moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest

from app.monitoring.reference.reference import Reference, encode, encode_labels
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Label, Micros, ModelSchema, Row, Task

MakeReference: TypeAlias = Callable[..., Reference]
MakeWindow: TypeAlias = Callable[..., Window]
Draw: TypeAlias = Callable[..., list[Row]]


@pytest.fixture
def schema() -> ModelSchema:
    """Four features of every type, and two classes."""
    return ModelSchema(
        name="credit",
        version="1",
        task=Task.BINARY,
        features=(
            Feature("income", FeatureType.NUMERIC, nullable=True, low=-6.0, high=6.0),
            Feature("visits", FeatureType.INTEGER),
            Feature("member", FeatureType.BOOLEAN),
            Feature("channel", FeatureType.CATEGORICAL, nullable=True, categories=("web", "shop", "phone")),
        ),
        classes=("bad", "good"),
        positive="good",
    )


@pytest.fixture
def draw() -> Draw:
    """Draw rows of the schema; every argument after the seed moves one thing."""

    def rows(
        count: int, seed: int, *, shift: float = 0.0, missing: float = 0.01, unseen: float = 0.0, member: float = 0.3
    ) -> list[Row]:
        rng = np.random.default_rng(seed)
        income = rng.normal(shift, 1.0, count)
        gone = rng.random(count) < missing
        visits = rng.poisson(3.0, count)
        joined = rng.random(count) < member
        channel = rng.choice(["web", "shop", "phone"], count, p=[0.6, 0.3, 0.1]).tolist()
        new = rng.random(count) < unseen
        return [
            (
                None if gone[row] else float(income[row]),
                int(visits[row]),
                bool(joined[row]),
                "fax" if new[row] else channel[row],
            )
            for row in range(count)
        ]

    return rows


@pytest.fixture
def make_window() -> MakeWindow:
    """Build a window of rows, one a second."""

    def window(
        rows: Sequence[Row],
        *,
        predictions: Sequence[Label] | None = None,
        probabilities: Sequence[tuple[float, ...] | None] | None = None,
        outcomes: Sequence[Label | None] | None = None,
        values: Sequence[float | None] | None = None,
        start: int = 0,
        delay_s: int = 60,
    ) -> Window:
        count = len(rows)
        times = [Micros((start + row) * SECOND) for row in range(count)]
        truth: list[Label | None] = [None] * count if outcomes is None else list(outcomes)
        in_turn: list[Label] = ["good" if row % 2 == 0 else "bad" for row in range(count)]
        return Window(
            ids=[f"row-{start + row}" for row in range(count)],
            features=list(rows),
            predictions=in_turn if predictions is None else list(predictions),
            probabilities=[None] * count if probabilities is None else list(probabilities),
            predicted_at=times,
            sampled_from=count,
            hours=1.0,
            outcomes=truth,
            values=[None] * count if values is None else list(values),
            recorded_at=[
                None if outcome is None else Micros(time + delay_s * SECOND)
                for outcome, time in zip(truth, times, strict=True)
            ],
        )

    return window


@pytest.fixture
def make_reference(schema: ModelSchema) -> MakeReference:
    """Build a reference from rows that the model answers with both classes in turn."""

    def reference(rows: Sequence[Row], schema: ModelSchema = schema, **others: Any) -> Reference:
        answers: Sequence[Label] = (
            [schema.classes[row % 2] for row in range(len(rows))] if schema.classes else [0.0] * len(rows)
        )
        return Reference(schema, encode(schema, rows), encode_labels(schema, answers), sha256="abc", **others)

    return reference
