"""Usage of this replica in steps, read from the counters that ``/metrics`` exports."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from typing import TypeAlias

from app.metrics import JournalMetrics, ServingMetrics
from app.store.database import Readers
from app.store.journal.journal import Journal
from app.store.queries.replicas import Pulse, Step
from app.types import SECOND, Micros, new_id

KEPT_S = 300
"""How far back steps are kept, and how far back the service is evaluated."""
Version: TypeAlias = tuple[str, str]
"""Name and version of a model."""
Counts: TypeAlias = tuple[int, ...]


class Meter:
    """Keeps the steps of every version in this replica; it costs a request nothing."""

    def __init__(self, serving: ServingMetrics, ledger: JournalMetrics, journal: Journal, readers: Readers) -> None:
        self.replica = new_id()
        self._serving = serving
        self._ledger = ledger
        self._journal = journal
        self._readers = readers
        self._read_at: Micros | None = None
        self._rows: Mapping[Version, Counts] = {}
        self._latencies: dict[Version, Counts] = {}
        self._store_failures = 0
        self._steps: defaultdict[Version, deque[Step]] = defaultdict(deque)
        self._fresh: set[Version] = set()

    def read(self, clock: Micros) -> None:
        """End a step: all that was counted since the step before belongs to it."""
        began = clock if self._read_at is None else self._read_at
        failures = self._ledger.store_failures + self._readers.failures
        away = self._journal.outage is not None or failures > self._store_failures
        rows = _rows(self._serving)
        for version, counts in rows.items():
            latencies = tuple(self._serving.latency.labels(*version).counts)
            answered, refused, failed = _less(counts, self._rows.get(version))
            if answered or refused or failed:
                slow = _less(latencies, self._latencies.get(version))
                self._steps[version].append(Step(began, answered, refused, failed, away, slow))
                self._fresh.add(version)
            self._latencies[version] = latencies
        for steps in self._steps.values():
            while steps and steps[0].began < clock - KEPT_S * SECOND:
                steps.popleft()
        self._rows, self._store_failures, self._read_at = rows, failures, clock

    def pulses(self) -> list[Pulse]:
        """The pulses of the versions that did anything since :meth:`noted`."""
        return [Pulse(self.replica, *version, tuple(self._steps[version])) for version in self._fresh]

    def noted(self) -> None:
        """Note that the pulses are stored."""
        self._fresh.clear()


def _less(now: Counts, before: Counts | None) -> Counts:
    return tuple(count - earlier for count, earlier in zip(now, before, strict=True)) if before else now


def _rows(serving: ServingMetrics) -> dict[Version, Counts]:
    """Rows answered, refused and failed, by version, since the process began.

    A version that is being loaded may have some of its series only.
    """
    found: defaultdict[Version, Counter[str]] = defaultdict(Counter)
    for family in serving.predictions.collect():
        for sample in family.samples:
            if not sample.name.endswith("_total"):
                continue  # when the series was made
            version = sample.labels["model_name"], sample.labels["model_version"]
            found[version][sample.labels["status"]] = int(sample.value)
    return {
        version: (rows["ok"] + rows["replayed"], rows["refused"], rows["failed"]) for version, rows in found.items()
    }
