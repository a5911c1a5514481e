"""Figures of the service: rows and latencies of a stretch of time, and whether a share of them is too large."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from app.metrics import LATENCY_BUCKETS
from app.store.pulses import Step

CONFIDENCE = 3.0
"""Standard errors by which a share must exceed its limit: at the limit itself, chance alone does so about once in a
thousand looks at many rows, and once in seventy at fifty."""
LEAST_MOMENTS = 2
"""Steps with failures from which they are more than one moment's: one large request is no rate."""
QUANTILE = 0.99


@dataclass(frozen=True, slots=True)
class Share:
    """How many of all were bad, and in how many steps some were."""

    bad: int
    of: int
    moments: int

    @property
    def value(self) -> float:
        """The share itself; 0 of nothing."""
        return self.bad / self.of if self.of else 0.0

    def exceeds(self, limit: float, *, least: int) -> bool | None:
        """Whether the share of at least so many is above its limit by more than chance; None where that is open."""
        if self.value <= limit:
            return False
        enough = self.of >= least and self.moments >= LEAST_MOMENTS
        return True if enough and wilson_low(self.bad, self.of) > limit else None


def judged(steps: Iterable[Step]) -> list[Step]:
    """Those in which the store was there: failures without it are not the version's, and have a rule of their own."""
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
    """The latency below which this share of the requests lies, in seconds, even within its bucket as Prometheus has it.

    >>> quantile([Step(0, 100, 0, 0, False, (100,))])
    0.000495
    """
    counts = [sum(column) for column in zip(*(step.latencies for step in steps), strict=True)]
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
