"""How often a small reference calls a window of its own law drift, at one in a hundred."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.monitoring.drift.column_tests import compare
from app.monitoring.reference.columns import ReferenceColumn, Subject
from app.monitoring.reference.encoding import encode
from app.types import Feature, FeatureType, ModelSchema, Task

LEVEL = 0.01
REFERENCES, WINDOWS = (30, 50, 100, 171, 300), (100, 1000)
Values = NDArray[Any]
Draw = Callable[[np.random.Generator, int], Values]


def _amounts(rng: np.random.Generator, rows: int) -> Values:
    return np.where(rng.random(rows) < 0.8, 0.0, np.round(rng.exponential(20, rows)))


def _ratings(rng: np.random.Generator, rows: int) -> Values:
    """Stars, of which a tenth are means of several."""
    stars = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], rows, p=[0.1, 0.1, 0.2, 0.3, 0.3])
    return np.where(rng.random(rows) < 0.1, np.round(rng.uniform(1, 5, rows), 1), stars)


def _gaps(draw: Draw, share: float = 0.15) -> Draw:
    return lambda rng, rows: np.where(rng.random(rows) < share, np.nan, draw(rng, rows))


def _texts(weights: NDArray[np.float64], missing: float = 0.0) -> Draw:
    def draw(rng: np.random.Generator, rows: int) -> Values:
        codes = rng.choice(len(weights), rows, p=weights / weights.sum())
        gone = rng.random(rows) < missing
        texts = [None if lost else f"c{code}" for code, lost in zip(codes.tolist(), gone.tolist(), strict=True)]
        return np.array(texts, dtype=object)

    return draw


def _ids(rng: np.random.Generator, rows: int) -> Values:
    return np.array([f"id-{number}" for number in rng.integers(0, 2**62, rows)], dtype=object)


def laws() -> Mapping[str, Draw]:
    """Every kind of column, by name; text is encoded by the categories that the reference shows."""
    spread = np.random.default_rng(0).dirichlet(np.ones(800))
    return {
        "normal": lambda rng, rows: rng.normal(size=rows),
        "lognormal": lambda rng, rows: rng.lognormal(size=rows),
        "Student t, 2": lambda rng, rows: rng.standard_t(2, rows),
        "counts, Poisson 3": lambda rng, rows: rng.poisson(3.0, rows).astype(np.float64),
        "counts, Poisson 20": lambda rng, rows: rng.poisson(20.0, rows).astype(np.float64),
        "counts, geometric": lambda rng, rows: rng.geometric(0.1, rows).astype(np.float64),
        "tied, tenths": lambda rng, rows: np.round(rng.normal(size=rows), 1),
        "tied, prices in halves": lambda rng, rows: np.round(rng.lognormal(2.5, 0.5, rows) * 2) / 2,
        "ratings with means": _ratings,
        "zero-inflated amounts": _amounts,
        "a fifth are zero": lambda rng, rows: np.where(rng.random(rows) < 0.2, 0.0, rng.lognormal(size=rows)),
        "three values": lambda rng, rows: rng.choice(3, rows, p=[0.6, 0.3, 0.1]).astype(np.float64),
        "two values, rare": lambda rng, rows: (rng.random(rows) < 0.02).astype(np.float64),
        "twenty values": lambda rng, rows: rng.integers(0, 20, rows).astype(np.float64),
        "thirty values": lambda rng, rows: rng.integers(0, 30, rows).astype(np.float64),
        "three categories": _texts(np.array([0.6, 0.3, 0.1])),
        "twelve categories, Zipf": _texts(1 / np.arange(1.0, 13.0)),
        "50 categories, even": _texts(np.ones(50)),
        "200 categories, Zipf": _texts(1 / np.arange(1.0, 201.0)),
        "800 categories, uneven": _texts(spread),
        "text ids": _ids,
        "normal, 15 % missing": _gaps(lambda rng, rows: rng.normal(size=rows)),
        "amounts, 15 % missing": _gaps(_amounts),
        "twelve categories, 15 % missing": _texts(1 / np.arange(1.0, 13.0), missing=0.15),
        "200 categories, 15 % missing": _texts(1 / np.arange(1.0, 201.0), missing=0.15),
    }


def encoded(reference: Values, window: Values) -> tuple[ReferenceColumn, NDArray[Any]]:
    """Both sides as a check sees them: numbers as they are, text by the categories of the reference."""
    if reference.dtype.kind == "f":
        return ReferenceColumn(Subject("x", "numeric"), reference), window
    shown = tuple(sorted({value for value in reference.tolist() if value is not None}))
    feature = Feature("x", FeatureType.CATEGORICAL, nullable=True, categories=shown)
    schema = ModelSchema("m", "1", Task.REGRESSION, (feature,))
    ours, theirs = (encode(schema, [(value,) for value in side.tolist()])[0] for side in (reference, window))
    return ReferenceColumn(Subject("x", "categorical", shown), ours), theirs


def rejections(law: str, n: int, m: int, looks: int) -> float:
    """Share of quiet windows of m rows that are significant against a fresh reference of n rows each."""
    draw, rng = laws()[law], np.random.default_rng([zlib.crc32(law.encode()), n, m])
    pairs = (encoded(draw(rng, n), draw(rng, m)) for _ in range(looks))
    return sum(compare(reference, window).evidence.p_value <= LEVEL for reference, window in pairs) / looks


def cells() -> list[tuple[str, int, int]]:
    """Every law at every size of reference and window."""
    return [(law, n, m) for law in laws() for n in REFERENCES for m in WINDOWS]


def table(results: list[float], looks: int) -> Iterator[str]:
    """Write the measured shares as Markdown, a column for each pair of sizes."""
    pairs = [(n, m) for n in REFERENCES for m in WINDOWS]
    found = dict(zip(cells(), results, strict=True))
    yield f"{looks:,} windows of the reference's own law for each cell, a fresh reference for each, level 1 %; in %."
    yield ""
    yield f"| law | {' | '.join(f'{n} / {m:,}' for n, m in pairs)} |"
    yield f"| --- | {' | '.join(['---:'] * len(pairs))} |"
    for law in laws():
        yield f"| {law} | {' | '.join(f'{100 * found[law, n, m]:.2f}' for n, m in pairs)} |"
