"""Write the tables of figures in ``docs/`` from ``app/figures``: ``python docs/generate_figures.py``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.figures import drift, performance  # noqa: E402 - as above
from app.serving.runtimes import formats  # noqa: E402 - as above
from app.types import FeatureType, Task  # noqa: E402 - as above


def _table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
    columns = head.split(" | ")
    lines = [f"| {head} |", f"| {' | '.join('---' for _ in columns)} |", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def statistics() -> str:
    """The drift statistics, for docs/drift.md."""
    return _table(
        "field | is | unit | more drift | of | noise floor",
        (
            (
                f"`{'.'.join((*each.place, each.name))}`",
                each.description,
                each.unit,
                each.more_drift,
                _types(each.types),
                f"`{each.noise_floor}`" if each.noise_floor else "",
            )
            for each in drift.DRIFT_STATISTICS
        ),
    )


def metrics() -> str:
    """The performance metrics, for docs/performance.md."""
    return _table(
        "metric | tasks | is | unit | better | degradation is a part of | estimated",
        (
            (
                f"`{each.name}`",
                ", ".join(each.tasks),
                each.description,
                each.unit,
                "nearer 0" if each.better == "zero" else each.better,
                each.limit,
                "yes" if each.is_estimated else "no",
            )
            for each in performance.PERFORMANCE_METRICS
        ),
    )


def checks() -> str:
    """The tests of data quality and their number, for docs/data-quality.md."""
    rows = [
        (f"`{each.kind}`", _types(each.types) if each.types else "whole rows", each.description, each.compared_with)
        for each in (*drift.FEATURE_CHECKS, *drift.WINDOW_CHECKS)
    ]
    rows.append((f"`{drift.UNREADABLE}`", "all", "The column could not be judged; this is no test.", "none"))
    most = max(len(drift.checks_of(each)) for each in FeatureType)
    numbers = f"{most} tests for each feature and {len(drift.WINDOW_CHECKS)} for the window"
    counted = f"The false-alarm budget counts {numbers}, whether they apply or not."
    return _table("kind | of | what | compared with", rows) + f"\n\n{counted}"


def rules() -> str:
    """The figures of a feature and of performance that rules take, for docs/rules.md."""
    statistics_of = {
        "every feature": [each.name for each in drift.DRIFT_STATISTICS if each.types == drift.ALL],
        "features with an order": [each.name for each in drift.DRIFT_STATISTICS if each.types != drift.ALL],
    }
    rows = [(f"drift, of {of}", _names(names)) for of, names in statistics_of.items()]
    rows += [
        (f"performance, {task.value}", _names(each.name for each in performance.metrics_of(task))) for task in Task
    ]
    return _table("in the report of | names", rows)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _types(types: tuple[str, ...]) -> str:
    return "all" if types == drift.ALL else ", ".join(types)


def model_formats() -> str:
    """The formats of model files, for docs/operations.md."""
    return _table(
        "format | files | runs on | loading it | made by `plumbline bundle`",
        (
            (
                f"`{name}`",
                ", ".join(f"`{suffix}`" for suffix in entry.suffixes),
                entry.runtime,
                "runs the code inside it: only where `serving.allow_pickle` is set"
                if entry.runs_code
                else "runs no code",
                "yes" if entry.dump else "taken as it is",
            )
            for name, entry in formats.FORMATS.items()
        ),
    )


TABLES: Mapping[str, tuple[str, Callable[[], str]]] = {
    "statistics": ("drift.md", statistics),
    "metrics": ("performance.md", metrics),
    "checks": ("data-quality.md", checks),
    "figures": ("rules.md", rules),
    "formats": ("operations.md", model_formats),
}
"""For each marker, the page that has it, and its table."""


def filled(page: str) -> str:
    """A page of ``docs/`` with each of its tables as it should be."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for marker, (where, table) in TABLES.items():
        if where == page:
            before, start, rest = text.partition(f"<!-- {marker} -->\n")
            _, end, after = rest.partition(f"<!-- end of {marker} -->")
            if not start or not end:
                raise SystemExit(f"docs/{page}: lacks the marker {marker}, or its end")
            text = f"{before}{start}{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for name, _ in TABLES.values():
        (ROOT / "docs" / name).write_text(filled(name), encoding="utf-8")
