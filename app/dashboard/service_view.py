"""What the page of a service report says first."""

from __future__ import annotations

from typing import Any

from app.dashboard.words import duration, number, share
from app.types import Json


def service_view(report: Json) -> dict[str, Any]:
    """The level and headline of a service report: the worst that it says."""
    headline = _headline(report)
    return {"level": "ok" if headline is None else "bad", "headline": headline or "The service is well"}


def _headline(report: Json) -> str | None:
    if report["status"] == "ok":
        return None
    outage, back, service = report.get("outage"), report.get("rolled_back"), report.get("service") or {}
    overdue = [kind for kind, check in (report.get("checks") or {}).items() if check["overdue_s"] > check["limit_s"]]
    if outage:
        return f"The store was away for {duration(outage['seconds'])}"
    if overdue:
        return f"The {overdue[0]} check does not run"
    if back:
        return f"Version {back['version']} was rolled back to {back['to']}"
    failed = f"{share(service.get('error_rate'))} of the rows failed"
    return f"{failed}; 99 % of the answers came within {number(service.get('p99_seconds'))} s"
