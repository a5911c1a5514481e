"""False alarms of data quality: quiet windows of ten laws, at a budget that can be measured and at the user's own.

``python -m benchmarks.drift.quality [--windows 400]`` prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np

from app.monitoring.check_request import Limits, alpha_per_look
from app.monitoring.quality.report import data_quality
from app.monitoring.reference.columns import UNSEEN
from app.monitoring.reference.reference import Reference
from app.types import Feature, FeatureType, ModelSchema, Task
from benchmarks.drift.draws import Column, Draw, laws

SIZES = ((100, 1_000), (1_000, 1_000), (1_000, 10_000), (5_000, 50_000))
STRICT, GENEROUS = alpha_per_look(60, 30 * 86_400) / 2, 0.25
"""The drift family's alpha of a default look, and one that leaves data quality 5 % a window."""


def world(rng: np.random.Generator, draws: dict[str, Draw], rows: int, window: int) -> tuple[Reference, list[Column]]:
    """Draw a reference whose own extremes and categories are the schema's, and a window that knows no others."""
    reference = [draw(rng, rows) for draw in draws.values()]
    now = [draw(rng, window) for draw in draws.values()]
    features = []
    for place, name in enumerate(draws):
        if reference[place].dtype.kind == "f":
            bounds = float(np.nanmin(reference[place])), float(np.nanmax(reference[place]))
            features.append(Feature(name, FeatureType.NUMERIC, True, low=bounds[0], high=bounds[1]))
            continue
        known = np.unique(reference[place])
        features.append(Feature(name, FeatureType.CATEGORICAL, categories=tuple(str(code) for code in range(50))))
        now[place] = np.where(np.isin(now[place], known), now[place], UNSEEN).astype(np.int32)
    schema = ModelSchema("m", "1", Task.BINARY, tuple(features), ("no", "yes"), "yes")
    return Reference(schema, reference, rng.integers(0, 2, rows).astype(np.int32)), now


def rows(windows: int) -> Iterator[str]:
    """A row for each size: windows with any finding at 5 % and at the default budget, and which kinds."""
    draws = dict(laws())
    yield "| window | reference | windows | a finding at 5 % | at the default budget | kinds at 5 % | ms a window |"
    yield "| ---: | ---: | ---: | ---: | ---: | --- | ---: |"
    for window, reference_rows in SIZES:
        kinds: Counter[str] = Counter()
        found, seconds = {STRICT: 0, GENEROUS: 0}, 0.0
        for seed in range(windows):
            rng = np.random.default_rng(seed)
            reference, now = world(rng, draws, reference_rows, window)
            answers = rng.integers(0, 2, window).astype(np.int32)
            for alpha, material in ((STRICT, 0.005), (GENEROUS, 0.0)):
                started = time.perf_counter()
                limits = Limits(alpha=alpha, material_share=material)
                findings = data_quality(reference.schema, reference, now, limits, predictions=answers)["findings"]
                seconds += time.perf_counter() - started
                found[alpha] += bool(findings)
                kinds.update(finding["kind"] for finding in findings if alpha == GENEROUS)
        shares = f"{found[GENEROUS] / windows:.1%} | {found[STRICT] / windows:.1%}"
        named = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) or "none"
        spent = f"{seconds / windows / 2 * 1e3:.1f}"
        yield f"| {window:,} | {reference_rows:,} | {windows} | {shares} | {named} | {spent} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=400)
    for line in rows(parser.parse_args().windows):
        print(line)


if __name__ == "__main__":
    main()
