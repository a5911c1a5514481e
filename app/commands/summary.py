"""What a simulation found, as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rich.table import Table

from app.commands.traffic import Tally
from app.types import Json


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The bodies of `/drift` and `/performance`; None where the service did not give them."""

    drift: Json | None
    performance: Json | None


def render(tally: Tally, verdicts: Verdicts) -> Table:
    """The summary: rows, outcomes, latency, and the monitor's verdicts."""
    table = Table(show_header=False, title="Simulation")
    for name, text in {**describe_traffic(tally), **describe_verdicts(verdicts)}.items():
        table.add_row(name, text)
    return table


def describe_traffic(tally: Tally) -> dict[str, str]:
    """Lines on what was sent."""
    return {
        "rows sent": str(tally.sent),
        "rows stored": str(tally.stored),
        "rows refused": _counts(tally.refused) or "0",
        "outcomes": _counts(tally.outcomes) or "none",
        "latency of a request": f"p50 {tally.latency(0.5):.1f} ms, p99 {tally.latency(0.99):.1f} ms",
    }


def describe_verdicts(verdicts: Verdicts) -> dict[str, str]:
    """Lines on what the monitor says.

    >>> describe_verdicts(Verdicts({"status": "drift", "drifted_features": ["age"]}, None))
    {'drift': 'drift: age', 'performance': 'not available'}
    """
    return {"drift": _drift(verdicts.drift), "performance": _performance(verdicts.performance)}


def _drift(report: Json | None) -> str:
    if report is None:
        return "not available"
    names = ", ".join(report.get("drifted_features") or ())
    return f"{report['status']}: {names}" if names else str(report["status"])


def _performance(report: Json | None) -> str:
    if report is None:
        return "not available"
    metrics = (report.get("realised") or {}).get("metrics") or {}
    name = next((name for name in ("accuracy", "rmse") if name in metrics), None)
    value = metrics[name].get("value") if name else None
    if value is None:
        return str(report["status"])
    baseline = metrics[name].get("baseline")
    against = f" against {baseline:.3f} at the reference" if baseline is not None else ""
    return f"{report['status']}: {name} {value:.3f}{against}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()) if count)
