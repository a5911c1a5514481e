"""A verdict that is withheld says why, and what would make it possible: rows, labels, or another reference."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from app.monitoring.check_request import Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Micros, ModelSchema, Task
from tests.support.monitoring.labelled_windows import report, window_of

FEATURES = (Feature("a", FeatureType.NUMERIC), Feature("c", FeatureType.CATEGORICAL, categories=("x", "y")))
SCHEMA = ModelSchema("m", "1", Task.BINARY, FEATURES, (0, 1), 1)
LIMITS = Limits(1e-4)
ANSWER = re.compile(r"\d+ (more |of each )?(rows|are needed)|are needed|holdout|outcomes of each class|\d+ rows")
"""A number of rows, another reference, or other outcomes."""


def reference(rows: int, **others: Any) -> Reference:
    """A reference of so many independent rows."""
    rng = np.random.default_rng(0)
    columns: list[Any] = [rng.normal(size=rows), rng.integers(0, 2, rows).astype(np.int32)]
    return Reference(SCHEMA, columns, np.zeros(rows, dtype=np.int32), sha256="abc", **others)


def window(rows: int, *, slow: bool = False, rare: float = 0.5) -> Window:
    """A window of so many rows, of which the first feature is a slow walk where asked for."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=rows)
    values = np.cumsum(values) / np.sqrt(rows) if slow else values
    features: list[Any] = [(value, "x" if rng.random() < rare else "y") for value in values.tolist()]
    nothing: list[Any] = [None] * rows
    times = [Micros(row * SECOND) for row in range(rows)]
    return Window([str(at) for at in times], features, [0] * rows, nothing, times, rows, 0.0, *[nothing] * 3)


def withheld(part: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """The place of each entry without a verdict, and all that it says of the reason."""
    if isinstance(part, dict):
        if part.get("status") in ("insufficient_data", "withheld", "no_reference"):
            why = part.get("withheld") or {}
            yield path, " ".join(str(each) for each in (part.get("reason"), part.get("message"), *why.values()) if each)
        for name, each in part.items():
            yield from withheld(each, f"{path}/{name}")


DRIFT: dict[str, tuple[Reference | None, Window, dict[str, Any]]] = {
    "few rows": (reference(500), window(20), {}),
    "no reference": (None, window(200), {}),
    "few reference rows": (reference(20), window(200), {}),
    "in sample": (reference(500, in_sample=True), window(200), {}),
    "slow": (reference(5000), window(1000, slow=True), {}),
    "few before": (reference(500), window(200), {"earlier": window(10)}),
    "small segment": (reference(500), window(200, rare=0.1), {"segments": ["c"]}),
}


@pytest.mark.parametrize("world", DRIFT)
def test_drift_says_what_a_verdict_needs(world: str) -> None:
    """Every column, segment, second reading and the report itself."""
    ours, theirs, others = DRIFT[world]
    found = dict(withheld(drift_report(SCHEMA, ours, theirs, LIMITS, None, **others)))

    assert found
    assert {path for path, text in found.items() if not ANSWER.search(text)} <= {"/data_quality"}  # the message has it


@pytest.mark.parametrize("labelled", [0, 20, 200])
def test_performance_says_what_a_verdict_needs(labelled: int) -> None:
    """Without labels, with few, and without a baseline, each metric says how many rows or which bundle it needs."""
    truth: list[Any] = [place % 2 if place < labelled else None for place in range(300)]
    rows = window_of([place % 2 for place in range(300)], truth)
    found = report(rows, None)
    silent = [name for name, text in withheld(found["realised"]) if not ANSWER.search(text)]

    assert silent == []
    assert len(found["realised"]["metrics"]) > 0 or ANSWER.search(found["message"])
