"""Every Prometheus series, on a registry that is passed in.

Labels come from fixed sets only, never from a client's text, and series exist from the start, so that a rule can tell
zero from absent.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import accumulate
from threading import Lock

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from app.types import ModelSchema, OutcomeStatus

LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
FAILURES = ("store", "taken", "refused", "conflict")
"""Why an accepted row was not stored: the store was away, another replica had the id first, the database refused it.

A ``conflict`` alone was acknowledged: it was spooled, and its id was another replica's; the spool's file keeps it.
"""
STATUSES = ("ok", "replayed", "refused", "failed")
"""What became of a row: answered, answered again, refused with a 4xx, failed with a 5xx."""
PREDICTION_TYPES = ("realtime", "batch")
"""How a row came: alone as ``features``, or in a list."""

SHADOW_STATES = ("stored", "dropped", "failed")
"""What became of a row for a shadow: its answer is stored; it came faster than the shadow answers; it has no answer."""

LOST_LINES = ("output", "content", "queue")
"""Why a line was not written: its output took nothing, it could not be rendered, too many lines were waiting."""


class JournalMetrics(Collector):
    """Count the ledger: accepted = stored + forwarded + failed + waiting + spooled.

    This holds at any moment, and so in every scrape.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = Lock()
        self._rows = dict.fromkeys(("accepted", "stored", "forwarded", "conflict"), 0)
        self._failed = dict.fromkeys(FAILURES, 0)
        self._queued = 0
        self._undecided = 0
        self._spooled = 0
        self.commit_seconds = Histogram(
            "ml_journal_commit_seconds", "Time of one group commit", buckets=LATENCY_BUCKETS, registry=registry
        )
        registry.register(self)

    @property
    def store_failures(self) -> int:
        """Rows that failed because the store was away."""
        return self._failed["store"]

    def accept(self, rows: int, undecided: int = 0) -> None:
        """The journal has taken rows, and more that may turn out to be replays."""
        with self._lock:
            self._rows["accepted"] += rows
            self._queued += rows
            self._undecided += undecided

    def decide(self, rows: int, *, replays: int) -> None:
        """Accept those of the undecided rows that are no replays."""
        with self._lock:
            self._undecided -= rows
            self._rows["accepted"] += rows - replays
            self._queued += rows - replays

    def finish(self, rows: int, *, failure: str | None, spooled: bool = False) -> None:
        """Count rows that were stored, spooled, or failed for a reason out of :data:`FAILURES`."""
        with self._lock:
            if failure:
                self._failed[failure] += rows
            elif spooled:
                self._spooled += rows
            else:
                self._rows["stored"] += rows
            self._queued -= rows

    def find_spooled(self, rows: int) -> None:
        """A spool was found at start: its rows were accepted in an earlier life of this process."""
        with self._lock:
            self._rows["accepted"] += rows
            self._spooled += rows

    def forward(self, rows: int, *, conflicts: int) -> None:
        """Count rows that went from the spool to the store, and conflicts.

        Conflicts count as failed too.
        """
        with self._lock:
            self._rows["forwarded"] += rows
            self._rows["conflict"] += conflicts
            self._failed["conflict"] += conflicts
            self._spooled -= rows + conflicts

    def collect(self) -> Iterator[Metric]:
        """The ledger as it stands; called from the scrape's thread."""
        with self._lock:
            states, reasons, queued, spooled = dict(self._rows), dict(self._failed), self._queued, self._spooled
            undecided = self._undecided
        yield _counter(
            "ml_journal_rows",
            "Rows by state; accepted = stored + forwarded + failed + queued + spooled",
            "state",
            states,
        )
        yield _counter(
            "ml_journal_failed_rows",
            "Accepted rows answered with an error, and spooled rows whose id was another replica's (conflict)",
            "reason",
            reasons,
        )
        yield GaugeMetricFamily("ml_journal_queue_rows", "Accepted rows that are not yet stored", queued)
        yield GaugeMetricFamily(
            "ml_journal_undecided_rows",
            "Rows with an id of the caller's on their way to the store; accepted once they prove to be no replays",
            undecided,
        )
        yield GaugeMetricFamily(
            "ml_journal_spooled_rows", "Acknowledged rows in the local spool, to be forwarded", spooled
        )


def add_histogram(
    family: HistogramMetricFamily, labels: Mapping[str, str], buckets: Sequence[tuple[str, float]], total: float
) -> None:
    """Add one histogram with its count and its sum, whatever its bounds are.

    The library leaves both out where the first bound is negative, since a sum of negative values may fall and so is no
    counter. Prometheus takes them, and a dashboard needs the count of every feature.
    """
    family.add_metric(list(labels.values()), list(buckets), sum_value=None)
    family.add_sample(f"{family.name}_count", dict(labels), buckets[-1][1])
    family.add_sample(f"{family.name}_sum", dict(labels), total)


def _counter(name: str, help_text: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def by_reason(lost: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    """The numbers of lost lines by their label."""
    return {(reason,): lost.get(reason, 0) for reason in LOST_LINES}


class KeptCounter(Collector):
    """A counter whose numbers are kept by others.

    Args:
        counts: gives them by their labels; called from the scrape's thread.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        help_text: str,
        labels: Sequence[str],
        counts: Callable[[], Mapping[tuple[str, ...], int]],
    ) -> None:
        self._name, self._help, self._labels, self._counts = name, help_text, labels, counts
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The numbers as they stand."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, count in self._counts().items():
            family.add_metric(labels, count)
        yield family


class Latencies(Collector):
    """``ml_prediction_latency_seconds`` of each model version.

    The event loop alone observes: the library's histogram takes a lock for each bucket, which costs more than the rest.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._versions: dict[tuple[str, str], Latency] = {}
        registry.register(self)

    def labels(self, model_name: str, model_version: str) -> Latency:
        """One version's histogram."""
        return self._versions.setdefault((model_name, model_version), Latency())

    @property
    def versions(self) -> Collection[tuple[str, str]]:
        """The name and version of each histogram."""
        return self._versions.keys()

    def collect(self) -> Iterator[Metric]:
        """The histograms as they stand; called from the scrape's thread."""
        family = HistogramMetricFamily(
            "ml_prediction_latency_seconds",
            "Time from reading a request's first byte to its answer, with what its caller took to send the rest",
            labels=["model_name", "model_version"],
        )
        bounds = [*map(str, LATENCY_BUCKETS), "+Inf"]
        for version, latency in tuple(self._versions.items()):
            labels = dict(zip(("model_name", "model_version"), version, strict=True))
            add_histogram(family, labels, list(zip(bounds, accumulate(latency.counts), strict=True)), latency.total)
        yield family


class Latency:
    """One histogram over :data:`LATENCY_BUCKETS`, and the requests that got no answer.

    Attributes:
        slowest: the longest time since somebody set it to 0.
        refused, failed: requests that were answered with a 4xx, and with a 5xx.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS) + 1)
        self.total = 0.0
        self.slowest = 0.0
        self.refused = 0
        self.failed = 0

    def observe(self, ended_at: float, received_at: Sequence[float]) -> None:
        """Count requests that are answered together."""
        for began_at in received_at:
            seconds = ended_at - began_at
            self.counts[bisect_left(LATENCY_BUCKETS, seconds)] += 1
            self.total += seconds
            self.slowest = max(self.slowest, seconds)


class LastPredictions(Collector):
    """The time of each version's latest prediction, and its age.

    A scrape first adds what other replicas have stored. 0 stands for none, and has no age.
    """

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        self._seconds: dict[tuple[str, str], float] = {}
        self._clock = clock
        registry.register(self)

    def note(self, model_name: str, model_version: str, seconds: float) -> None:
        """Note a prediction, by its time since the epoch."""
        version = (model_name, model_version)
        self._seconds[version] = max(seconds, self._seconds.get(version, 0.0))

    def collect(self) -> Iterator[Metric]:
        """The times as they stand; called from the scrape's thread."""
        labels, now = ("model_name", "model_version"), self._clock()
        last = GaugeMetricFamily(
            "ml_last_prediction_timestamp_seconds", "Time of the latest prediction; 0 before the first", labels=labels
        )
        age = GaugeMetricFamily("ml_data_freshness_seconds", "Age of the latest prediction", labels=labels)
        for version, seconds in dict(self._seconds).items():
            last.add_metric(version, seconds)
            if seconds:
                age.add_metric(version, max(0.0, now - seconds))
        yield from (last, age)


@dataclass(slots=True)
class InProgress:
    """Count the requests in progress; the number is read when somebody scrapes."""

    requests: int = 0


CONNECTIONS_REFUSED = ("connections", "address", "descriptors", "idle")
"""Why a connection was refused, or closed for another one: all places taken, those of its address, no descriptor."""
STALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ConnectionMetrics:
    """The connections of the server and its event loop.

    Attributes:
        open: connections that are open now; read when somebody scrapes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open = 0
        gauge = Gauge("ml_connections_open", "Open connections", registry=registry)
        gauge.set_function(lambda: float(self.open))
        refused = Counter(
            "ml_connections_refused", "Connections refused, or closed for another one", ["reason"], registry=registry
        )
        self.refused = {reason: refused.labels(reason) for reason in CONNECTIONS_REFUSED}
        self.stalls = Histogram(
            "ml_event_loop_stall_seconds",
            "Time by which the event loop came late to its timer",
            buckets=STALL_BUCKETS,
            registry=registry,
        )


class ServingMetrics:
    """The data path: predictions, their latency and values, batches, outcomes.

    Args:
        version: the running version.
    """

    def __init__(self, registry: CollectorRegistry, version: str = "") -> None:
        model = ["model_name", "model_version"]
        self.predictions = Counter(
            "ml_predictions", "Rows asked for", [*model, "prediction_type", "status"], registry=registry
        )
        self.latency = Latencies(registry)
        self.last_predictions = LastPredictions(registry)
        self.in_progress = InProgress()
        in_progress = Gauge("ml_requests_in_progress", "Requests being answered", registry=registry)
        in_progress.set_function(lambda: float(self.in_progress.requests))
        self.info = Gauge("ml_model_info", "The task of a version", [*model, "task"], registry=registry)
        self.loaded = Gauge("ml_model_loaded", "1 while the version is loaded", model, registry=registry)
        self.followed = Gauge(
            "ml_activation_followed", "0 while the activated version cannot be loaded here", registry=registry
        )
        self.followed.set(1)
        self.batch_rows = Histogram(
            "ml_batch_rows", "Rows in one call of the model", buckets=ROW_BUCKETS, registry=registry
        )
        outcomes = Counter("ml_outcomes", "Outcomes reported", ["status"], registry=registry)
        self.outcomes = {status: outcomes.labels(status.value) for status in OutcomeStatus}
        self.shadow_rows = Counter(
            "ml_shadow_rows", "Rows for a shadow version by what became of them", [*model, "state"], registry=registry
        )
        self.connections = ConnectionMetrics(registry)
        Info("ml_build", "The running version", registry=registry).info({"version": version})

    def for_model(self, schema: ModelSchema) -> ModelMetrics:
        """The series of one loaded version, made once so that the hot path looks nothing up."""
        return ModelMetrics(self, schema)

    def for_shadow(self, schema: ModelSchema) -> dict[str, Counter]:
        """The counters of one shadow version."""
        return {state: self.shadow_rows.labels(schema.name, schema.version, state) for state in SHADOW_STATES}


class ModelMetrics:
    """The bound series of one model version.

    Attributes:
        rows: counters by type of prediction and status.
    """

    def __init__(self, serving: ServingMetrics, schema: ModelSchema) -> None:
        labels = (schema.name, schema.version)
        self.rows = {
            (kind, status): serving.predictions.labels(*labels, kind, status)
            for kind in PREDICTION_TYPES
            for status in STATUSES
        }
        self.last_predictions = serving.last_predictions
        self.last_predictions.note(*labels, 0.0)
        serving.info.labels(*labels, schema.task.value).set(1)
        self.latency = serving.latency.labels(*labels)
        self.loaded = serving.loaded.labels(*labels)


def new_registry() -> CollectorRegistry:
    """A registry with the figures of the process."""
    disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves it untyped
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


def package_version() -> str:
    """The installed version, or that of a checkout that is not installed."""
    try:
        return metadata.version("plumbline")
    except metadata.PackageNotFoundError:
        return "checkout"
