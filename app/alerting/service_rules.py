"""The rules over the figures of the service: what fails, what is slow, what is not checked, what was rolled back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from app.alerting.figures import Share, failed_share, judged, quantile, slow_share
from app.alerting.rules import Verdicts
from app.store.alerts import Finding
from app.store.pulses import Step
from app.types import Json, Severity

LARGEST_SHARE = 0.01
"""Share of rows that may fail, and of requests that may be slow: the limit of their 99th percentile."""
LEAST_ROWS = 50
LEAST_REQUESTS = 100
SLOW: Mapping[float, Severity] = {1.0: "critical", 0.5: "medium"}
"""Limits of the 99th percentile, in seconds, the worst first; bounds of the latency's buckets."""


def describe(steps: Sequence[Step], *, replicas: int) -> Json:
    """The figures of the last minutes as a report has them."""
    there = judged(steps)
    failed = failed_share(there)
    return {
        "replicas": replicas,
        "rows": failed.of,
        "failed": failed.bad,
        "refused": sum(step.refused for step in steps),
        "error_rate": failed.value,
        "requests": sum(sum(step.latencies) for step in there),
        "p99_seconds": quantile(there),
        "failed_share": asdict(failed),
        "slow_shares": {f"{limit:g}": asdict(slow_share(there, limit)) for limit in SLOW},
    }


def judge_service(body: Json) -> Verdicts:
    """Judge a service report; what it does not speak of is not judged."""
    verdicts: Verdicts = {}
    if "service" in body:
        verdicts |= _errors(body["service"]) | _latency(body["service"])
    if "checks" in body:
        verdicts["no_check"] = _no_check(body["checks"])
    if "rolled_back" in body:
        verdicts["rolled_back"] = _rolled_back(body["rolled_back"])
    if "outage" in body:
        verdicts["store_unreachable"] = _outage(body["outage"])
    return verdicts


def failing(share: Share) -> str:
    """A share of failed rows in words."""
    return f"{share.value:.1%} of {share.of:,} rows failed"


def _errors(service: Json) -> Verdicts:
    share = Share(**service["failed_share"])
    exceeds = share.exceeds(LARGEST_SHARE, least=LEAST_ROWS)
    if exceeds is None:
        return {}
    message = f"{failing(share)} in the last five minutes, limit {LARGEST_SHARE:.0%}"
    return {"error_rate": Finding("critical", share.value, LARGEST_SHARE, message) if exceeds else None}


def _latency(service: Json) -> Verdicts:
    """Judge the worst limit that is broken; the rule no longer holds once the mildest is kept."""
    shares = {limit: Share(**service["slow_shares"][f"{limit:g}"]) for limit in SLOW}
    exceeds = {limit: share.exceeds(LARGEST_SHARE, least=LEAST_REQUESTS) for limit, share in shares.items()}
    broken = next((limit for limit in SLOW if exceeds[limit]), None)
    if broken is None:
        return {} if None in exceeds.values() else {"latency": None}
    p99, share = service["p99_seconds"], shares[broken]
    message = (
        f"the 99th percentile of the latency is {p99:.2g} s, limit {broken:g} s: "
        f"{share.value:.1%} of {share.of:,} requests in the last five minutes took longer"
    )
    return {"latency": Finding(SLOW[broken], p99, broken, message)}


def _no_check(checks: Mapping[str, Json]) -> Finding | None:
    overdue = {kind: check for kind, check in checks.items() if check["overdue_s"] > check["limit_s"]}
    if not overdue:
        return None
    kind, worst = max(overdue.items(), key=lambda item: item[1]["overdue_s"])
    message = f"the {kind} check has been due for {worst['overdue_s']:.0f} s, and none has ended"
    return Finding("critical", worst["overdue_s"], worst["limit_s"], message)


def _rolled_back(evidence: Json | None) -> Finding | None:
    if evidence is None:
        return None
    message = f"version {evidence['version']} was rolled back to {evidence['to']}: {evidence['reason']}"
    return Finding("high", evidence["value"], evidence["limit"], message)


def _outage(outage: Json | None) -> Finding | None:
    if outage is None:
        return None
    message = f"the store could not be reached: {outage['reason']}"
    return Finding("critical", outage["seconds"], outage["limit_s"], message)
