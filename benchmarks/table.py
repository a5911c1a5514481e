"""The table of results in Markdown, with the machine and the versions that it speaks of."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "scikit-learn", "sqlalchemy")


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement: answers a second, latencies in milliseconds, and requests without a good answer."""

    rate: float
    p50_ms: float
    p99_ms: float
    failed: int


Measured: TypeAlias = dict[tuple[str, int], list[Figures]]
"""Figures of each run by (server, connections)."""


def render(measured: Measured, *, method: str, now: datetime) -> str:
    """The table: medians over the runs, each rate also as a share of the floor's at as many connections."""
    lines = [
        f"{now:%Y-%m-%d}: {method}.",
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".",
        "",
        "| server | connections | requests/s | share of the floor | p50 ms | p99 ms | failed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (server, connections), runs in measured.items():
        floor = statistics.median(figures.rate for figures in measured["floor", connections])
        rate = statistics.median(figures.rate for figures in runs)
        p50 = statistics.median(figures.p50_ms for figures in runs)
        p99 = statistics.median(figures.p99_ms for figures in runs)
        failed = sum(figures.failed for figures in runs)
        cells = (server, connections, f"{rate:,.0f}", f"{rate / floor:.2f}", f"{p50:.2f}", f"{p99:.2f}", failed)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def _processor() -> str:
    """The processor's name, or its architecture where the system does not tell."""
    file = Path("/proc/cpuinfo")
    names = [line for line in file.read_text().splitlines() if line.startswith("model name")] if file.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.machine()
