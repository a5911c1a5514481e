"""Report bodies as the monitor writes them, cut down to what the rules read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.alerting.rules.service import describe
from app.metrics import LATENCY_BUCKETS
from app.store.queries.replicas import Step
from app.types import SECOND, Micros


def drift_body(drifted: Mapping[str, float], *, among: int = 10, **more: object) -> Any:
    """A drift report in which these features drifted, each with its impact, among stable ones."""
    entries = {name: {"status": "drift", "impact": impact} for name, impact in drifted.items()}
    stable = {f"stable{place}": {"status": "stable", "impact": 0.0} for place in range(among - len(drifted))}
    return {
        "drift_share": len(drifted) / among,
        "drifted_features": list(drifted),
        "limits": {"material_psi": 0.01},
        "features": {**entries, **stable},
        "prediction": {"status": "stable", "impact": 0.0, "probability": None},
        "data_quality": {"status": "ok", "findings": []},
        **more,
    }


def performance_body(**statuses: str) -> Any:
    """A performance report with these realised metrics in these states; the values are the same for all."""
    return {"realised": {"labelled": 830, "metrics": _metrics(statuses)}}


def estimated_body(**statuses: str) -> Any:
    """The estimated block of a performance report, with these metrics in these states."""
    return {"estimated": {"rows": 1000, "metrics": _metrics(statuses)}}


def covered(coverage: float | None) -> Any:
    """A performance report over this share of labelled rows; None: labels are still to come."""
    return {"realised": {"coverage": coverage, "mature": coverage is not None}}


def step(
    seconds: float = 0, *, failed: int = 0, ok: int = 0, refused: int = 0, slow: float = 0.0, away: bool = False
) -> Step:
    """What a version did in two seconds: one request a row, all of this latency."""
    place = sum(bound < slow for bound in LATENCY_BUCKETS)
    latencies = tuple(ok * (bucket == place) for bucket in range(len(LATENCY_BUCKETS) + 1))
    return Step(Micros(round(seconds * SECOND)), ok, refused, failed, away, latencies)


def service_body(steps: Sequence[Step], **more: object) -> Any:
    """A service report over these steps, in which all else is well."""
    return {
        "service": describe(steps, replicas=1),
        "checks": {"drift": {"overdue_s": 0.0, "limit_s": 180.0}},
        "rolled_back": None,
        "outage": None,
        **more,
    }


def _metrics(statuses: Mapping[str, str]) -> Any:
    numbers = {"value": 0.84, "low": 0.81, "high": 0.87, "baseline": 0.95, "limit": 0.9}
    return {name: {**numbers, "status": status} for name, status in statuses.items()}
