"""Rules on the service itself: errors, latency, missing checks, rollbacks."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from app.alerting.rules.drift import Verdicts
from app.metrics import LATENCY_BUCKETS
from app.reports.service import OutageSummary, OverdueCheck, RollbackEvidence, ServiceFigures, ShareOf, Usage
from app.store.queries.alerts import Finding
from app.store.queries.replicas import Step
from app.types import Severity

CONFIDENCE = 3.0
"""Standard errors by which a share must exceed its limit: at the limit itself, chance alone does so about once in a
thousand looks at many rows, and once in seventy at fifty."""
MIN_BAD_STEPS = 2
"""Steps with failures from which they are more than one moment's: one large request is no rate."""
QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Share:
    """Hold how many of all were bad, and in how many steps some were."""

    bad: int
    of: int
    moments: int

    @property
    def value(self) -> float:
        """The share itself; 0 of nothing."""
        return self.bad / self.of if self.of else 0.0

    @property
    def shown(self) -> ShareOf:
        """The share as a report has it."""
        return {"bad": self.bad, "of": self.of, "moments": self.moments}

    def exceeds(self, limit: float, *, least: int) -> bool | None:
        """Tell whether a share is above its limit by more than chance, or None if that is open."""
        if self.value <= limit:
            return False
        enough = self.of >= least and self.moments >= MIN_BAD_STEPS
        return True if enough and wilson_low(self.bad, self.of) > limit else None


def judged(steps: Iterable[Step]) -> list[Step]:
    """Keep the steps in which the store was there.

    Failures without it have a rule of their own.
    """
    return [step for step in steps if not step.away]


def failed_share(steps: Sequence[Step]) -> Share:
    """Rows that failed, among those that should have been answered."""
    bad = [step.failed for step in steps]
    return Share(sum(bad), sum(bad) + sum(step.answered for step in steps), sum(failed > 0 for failed in bad))


def slow_share(steps: Sequence[Step], seconds: float) -> Share:
    """Answered requests that took longer than ``seconds``, one of the bounds of the buckets."""
    first = LATENCY_BUCKETS.index(seconds) + 1
    slow = [sum(step.latencies[first:]) for step in steps]
    return Share(sum(slow), sum(sum(step.latencies) for step in steps), sum(count > 0 for count in slow))


def quantile(steps: Sequence[Step], share: float = QUANTILE) -> float | None:
    """Compute a quantile of the latency in seconds.

    >>> quantile([Step(0, 100, 0, 0, False, (100,))])
    0.000495
    """
    return quantile_of([sum(column) for column in zip(*(step.latencies for step in steps), strict=True)], share)


def quantile_of(counts: Sequence[int], share: float) -> float | None:
    """Compute a quantile from the counts of the latency's buckets, in seconds.

    It is interpolated within its bucket, as Prometheus does.
    """
    wanted = share * sum(counts)
    if not wanted:
        return None
    sums = list(accumulate(counts))
    place = bisect_left(sums, wanted)
    if place == len(LATENCY_BUCKETS):
        return LATENCY_BUCKETS[-1]
    low = LATENCY_BUCKETS[place - 1] if place else 0.0
    within: float = (LATENCY_BUCKETS[place] - low) * (wanted - sums[place] + counts[place]) / counts[place]
    return low + within


def wilson_low(bad: int, of: int, errors: float = CONFIDENCE) -> float:
    """The lower bound of a share: Wilson (1927), doi:10.1080/01621459.1927.10502953.

    >>> round(wilson_low(3, 50), 4), wilson_low(0, 50)
    (0.0126, 0.0)
    """
    share, spread = bad / of, errors**2 / of
    half = errors * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return max(0.0, (share + spread / 2 - half) / (1 + spread))


OUTAGE_RULE = "store_unreachable"
MAX_ERROR_SHARE = 0.01
"""Share of rows that may fail, and of requests that may be slow: the limit of their 99th percentile."""
MIN_ROWS = 50
MIN_REQUESTS = 100
TARGET_S = 0.5
"""The latency that 99 of 100 requests shall not exceed, in seconds."""
SLOW: Mapping[float, Severity] = {1.0: "critical", TARGET_S: "medium"}
"""Limits of the 99th percentile, in seconds, the worst first; bounds of the latency's buckets."""


def describe(steps: Sequence[Step], *, replicas: int) -> Usage:
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
        "p50_seconds": quantile(there, 0.5),
        "p95_seconds": quantile(there, 0.95),
        "p99_seconds": quantile(there),
        "failed_share": failed.shown,
        "slow_shares": {f"{limit:g}": slow_share(there, limit).shown for limit in SLOW},
    }


def judge_service(body: ServiceFigures) -> Verdicts:
    """Judge a service report; what it does not speak of is not judged."""
    verdicts: Verdicts = {}
    if "service" in body:
        verdicts |= _errors(body["service"]) | _latency(body["service"])
    if "checks" in body:
        verdicts["no_check"] = _no_check(body["checks"])
    if "rolled_back" in body:
        verdicts["rolled_back"] = _rolled_back(body["rolled_back"])
    if "outage" in body:
        verdicts[OUTAGE_RULE] = _outage(body["outage"])
    return verdicts


def failing(share: Share) -> str:
    """A share of failed rows in words."""
    return f"{share.value:.1%} of {share.of:,} rows failed"


def _errors(service: Usage) -> Verdicts:
    share = Share(**service["failed_share"])
    exceeds = share.exceeds(MAX_ERROR_SHARE, least=MIN_ROWS)
    if exceeds is None:
        return {}
    message = f"{failing(share)} in the last five minutes, limit {MAX_ERROR_SHARE:.0%}"
    return {"error_rate": Finding("critical", share.value, MAX_ERROR_SHARE, message) if exceeds else None}


def _latency(service: Usage) -> Verdicts:
    """Judge the worst limit that is broken; the rule no longer holds once the mildest is kept."""
    shares = {limit: Share(**service["slow_shares"][f"{limit:g}"]) for limit in SLOW}
    exceeds = {limit: share.exceeds(MAX_ERROR_SHARE, least=MIN_REQUESTS) for limit, share in shares.items()}
    broken = next((limit for limit in SLOW if exceeds[limit]), None)
    if broken is None:
        return {} if None in exceeds.values() else {"latency": None}
    p99, share = service["p99_seconds"], shares[broken]
    message = (
        f"the 99th percentile of the latency is {p99:.2g} s, limit {broken:g} s: "
        f"{share.value:.1%} of {share.of:,} requests in the last five minutes took longer"
    )
    return {"latency": Finding(SLOW[broken], p99, broken, message)}


def _no_check(checks: Mapping[str, OverdueCheck]) -> Finding | None:
    overdue = {kind: check for kind, check in checks.items() if check["overdue_s"] > check["limit_s"]}
    if not overdue:
        return None
    kind, worst = max(overdue.items(), key=lambda item: item[1]["overdue_s"])
    message = f"the {kind} check has been due for {worst['overdue_s']:.0f} s, and none has ended"
    return Finding("critical", worst["overdue_s"], worst["limit_s"], message)


def _rolled_back(evidence: RollbackEvidence | None) -> Finding | None:
    if evidence is None:
        return None
    message = f"version {evidence['version']} was rolled back to {evidence['to']}: {evidence['reason']}"
    return Finding("high", evidence["value"], evidence["limit"], message)


def _outage(outage: OutageSummary | None) -> Finding | None:
    if outage is None:
        return None
    message = f"the store could not be reached: {outage['reason']}"
    return Finding("critical", outage["seconds"], outage["limit_s"], message)
