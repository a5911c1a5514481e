"""How often each deciding test rejects at one in a hundred when nothing has changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from app.monitoring.drift.column_tests import compare
from benchmarks.drift.draws import laws, reference_of

LEVEL, REFERENCE_ROWS, PER_REFERENCE = 0.01, 10_000, 10
OF_STREAMS = ("Poisson 20", "AR(1) 0.8")
WINDOWS = (100, 300, 1000, 5000)
COLUMNS = ("anderson-darling", "mood", "chi-square", "largest-share", "the column")


def cells() -> list[tuple[str, int]]:
    """Every law at every size of the window."""
    return [(law, rows) for law in laws() if law not in OF_STREAMS for rows in WINDOWS]


def rejections(law: str, rows: int, looks: int) -> dict[str, float]:
    """Share of quiet windows that each test, and the column as a whole, rejects; a fresh reference for each ten."""
    draw, rng = laws()[law], np.random.default_rng([len(law), rows])
    rejected: dict[str, int] = defaultdict(int)
    for _ in range(looks // PER_REFERENCE):
        reference = reference_of(draw(rng, REFERENCE_ROWS))
        for _ in range(PER_REFERENCE):
            evidence = compare(reference, draw(rng, rows)).evidence
            for name, p_value in {**evidence.each, "the column": evidence.p_value}.items():
                rejected[name] += p_value <= LEVEL
    return {name: count / looks for name, count in rejected.items()}


def table(results: list[dict[str, float]], looks: int) -> Iterator[str]:
    """Write the measured shares as Markdown."""
    yield f"{looks:,} quiet windows for each cell, references of {REFERENCE_ROWS:,}, level 1 %; in %."
    yield ""
    yield f"| law | window | {' | '.join(COLUMNS)} |"
    yield f"| --- | ---: | {' | '.join(['---:'] * len(COLUMNS))} |"
    for (law, rows), found in zip(cells(), results, strict=True):
        shares = [f"{100 * found[name]:.2f}" if name in found else "" for name in COLUMNS]
        yield f"| {law} | {rows:,} | {' | '.join(shares)} |"
