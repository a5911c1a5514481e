"""What a whole check costs: time by the clock, and memory on top of the window and the reference that are given."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np

from app.monitoring.check_request import Limits
from app.monitoring.drift.column_tests import answers, compare_all
from app.monitoring.drift.report import drift_report
from app.monitoring.drift.verdict import Look, judge
from app.monitoring.quality.report import data_quality
from app.monitoring.reference.encoding import encode
from app.monitoring.reference.reference import Reference
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Micros, ModelSchema, Row, Task

SIZES = ((1_000, 20, 10_000), (1_000, 100, 100_000), (10_000, 50, 100_000), (10_000, 100, 100_000))
TIMES = 5


def made(rows: int, features: int, reference_rows: int) -> tuple[ModelSchema, Reference, Window]:
    """A window and a reference of numbers, as the store and the bundle give them."""
    rng = np.random.default_rng(1)
    schema = ModelSchema(
        "m", "1", Task.REGRESSION, tuple(Feature(f"x{i}", FeatureType.NUMERIC) for i in range(features))
    )
    reference = Reference(schema, list(rng.normal(size=(features, reference_rows))), rng.normal(size=reference_rows))
    values: list[Row] = [tuple(row) for row in rng.normal(size=(rows, features)).tolist()]
    window = Window(
        ids=[str(row) for row in range(rows)],
        features=values,
        predictions=rng.normal(size=rows).tolist(),
        probabilities=[None] * rows,
        predicted_at=[Micros(row * SECOND) for row in range(rows)],
        sampled_from=rows,
        hours=0.0,
        outcomes=[None] * rows,
        values=[None] * rows,
        recorded_at=[None] * rows,
    )
    return schema, reference, window


def check(schema: ModelSchema, reference: Reference, window: Window) -> None:
    """Do what a check does to every column: encode, judge the quality, compare, and give the verdicts."""
    columns, answered, limits = encode(schema, window.features), answers(schema, window), Limits(alpha=1e-4)
    data_quality(schema, reference, columns, limits, predictions=answered[0])
    found = compare_all([*reference.features, *reference.answers], columns + answered, [])
    judge(Look(limits, "", ""), found, [None] * len(found))


def measured(rows: int, features: int, reference_rows: int) -> tuple[float, float, float, float]:
    """Seconds of the first check and of a later one (the best of five), MiB at its peak, and kB of the report."""
    schema, reference, window = made(rows, features, reference_rows)
    seconds = []
    for _ in range(TIMES + 1):
        started = time.perf_counter()
        check(schema, reference, window)
        seconds.append(time.perf_counter() - started)
    tracemalloc.start()
    check(schema, reference, window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    report = drift_report(schema, reference, window, Limits(alpha=1e-4), None, earlier=window)
    return seconds[0], min(seconds[1:]), peak / 2**20, len(json.dumps(report)) / 1000


def table() -> Iterator[str]:
    """Measure each size, one after the other, and write Markdown."""
    yield "All statistics and data quality, without the domain classifier, the window before, and the reading of rows."
    yield ""
    yield "| window | features | reference | first check s | later s | MiB at its peak | report kB |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    for rows, features, reference_rows in SIZES:
        first, later, peak, size = measured(rows, features, reference_rows)
        line = f"| {rows:,} | {features} | {reference_rows:,} | {first:.2f} | {later:.3f} "
        yield f"{line}| {peak:.0f} | {size:.0f} |"
