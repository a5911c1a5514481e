"""OpenTelemetry: traces of requests, the log and the metrics, sent by OTLP over HTTP.

It is off, and its libraries are not loaded, unless the standard variables ``OTEL_*`` name a receiver.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, pairwise
from logging import LogRecord, getLogger
from threading import Condition, Thread
from typing import Any, cast

import orjson
import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from app.errors import describe_error
from app.logging import LineHandler, line_as_json, line_outputs, trace_id_of
from app.metrics import KeptCounter
from app.types import RequestSpan, new_id

SIGNALS = ("traces", "metrics", "logs")
STOP_S = 3.0
"""How long a stop waits for the last batch of a signal."""
W3C = ("traceparent", "tracestate")
OWN_LOGGERS = ("opentelemetry", "urllib3", "requests")
"""What they log of a failed export is not exported: it would never end."""


class Sender:
    """Sends batches of one signal, in a thread of its own; its queue is bounded.

    Args:
        prefix: the variables' names begin with it, for example ``OTEL_BSP``.
        send: sends a batch; False or an exception where nobody took it.

    Attributes:
        dropped: items that were not sent, by reason.
    """

    def __init__(self, name: str, prefix: str, send: Callable[[Sequence[Any]], bool]) -> None:
        self.name = name
        self.dropped: Counter[str] = Counter()
        self._send = send
        self._most = _number(f"{prefix}_MAX_QUEUE_SIZE", 2048)
        self._batch = min(_number(f"{prefix}_MAX_EXPORT_BATCH_SIZE", 512), self._most)
        self._delay_s = _number(f"{prefix}_SCHEDULE_DELAY", 5000) / 1000
        self._queue: deque[Any] = deque()
        self._news = Condition()
        self._is_ending = False
        self._thread = Thread(target=self._run, name=f"plumbline-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, items: Iterable[Any]) -> None:
        """Take items, and return at once."""
        with self._news:
            for item in items:
                if len(self._queue) < self._most:
                    self._queue.append(item)
                else:
                    self.dropped["queue"] += 1
            if len(self._queue) >= self._batch:
                self._news.notify()

    def stop(self) -> None:
        """Send what is waiting, as far as a few seconds allow."""
        with self._news:
            self._is_ending = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def _run(self) -> None:
        while batch := self._next_batch():
            try:
                is_sent = self._send(batch)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is counted, and the next batch follows
                structlog.get_logger("opentelemetry").warning("export_failed", error=describe_error(error))
                is_sent = False
            if not is_sent:
                self.dropped["export"] += len(batch)

    def _next_batch(self) -> list[Any]:
        """The next items, after the delay or as soon as a batch is full; none at the end."""
        with self._news:
            while not self._queue and not self._is_ending:
                self._news.wait()
            self._news.wait_for(lambda: self._is_ending or len(self._queue) >= self._batch, self._delay_s)
            return [self._queue.popleft() for _ in range(min(self._batch, len(self._queue)))]


def _number(name: str, default: int) -> int:
    """The positive whole number in a variable; what is none counts as not there."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default


class _Collected:
    """Stands where the SDK expects an exporter, and keeps what it makes."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    def export(self, batch: Sequence[Any]) -> None:
        self.items += batch

    def shutdown(self) -> None:
        """There is nothing to end."""

    def take(self) -> list[Any]:
        items, self.items = self.items, []
        return items


class _TraceIds:
    """Gives a span without a parent the trace id that the log has already."""

    trace_id = 0

    def generate_span_id(self) -> int:
        return int.from_bytes(os.urandom(8)) or 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def is_trace_id_random(self) -> bool:
        return True


def span_sender(resource: Any) -> Sender:
    """Makes the spans of requests with the SDK, by its sampler and its limits, and sends them."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    made, ids, exporter = _Collected(), _TraceIds(), OTLPSpanExporter()
    provider = TracerProvider(resource=resource, shutdown_on_exit=False, id_generator=cast("Any", ids))
    provider.add_span_processor(SimpleSpanProcessor(cast("Any", made)))
    tracer, propagator = provider.get_tracer("plumbline"), TraceContextTextMapPropagator()

    def make(request: RequestSpan, epoch_ns: int) -> None:
        """The span of a request with one for each of its stages."""
        sent = {name: request.headers.get(name.encode(), b"").decode("latin-1") for name in W3C}
        context = propagator.extract(sent) if trace_id_of(request.headers) else None
        ids.trace_id = int(request.stages.trace_id, 16)
        begin, end = (epoch_ns + int(moment * 1e9) for moment in request.interval)
        name = f"{request.method} {request.route}"
        span = tracer.start_span(name, context, SpanKind.SERVER, _attributes_of(request), start_time=begin)
        inside = set_span_in_context(span)
        for stage, interval in request.stages.intervals():
            first, last = (epoch_ns + int(moment * 1e9) for moment in interval)
            tracer.start_span(stage, inside, start_time=first).end(last)
        if request.status >= 500:  # noqa: PLR2004 - as the conventions for HTTP say
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    def send(batch: Sequence[RequestSpan]) -> bool:
        epoch_ns = time.time_ns() - time.perf_counter_ns()
        for request in batch:
            make(request, epoch_ns)
        spans = made.take()
        return not spans or exporter.export(spans) is SpanExportResult.SUCCESS

    return Sender("traces", "OTEL_BSP", send)


def _attributes_of(request: RequestSpan) -> dict[str, Any]:
    """The attributes of a request's span; ours begin with ``plumbline``."""
    http = {"http.request.method": request.method, "http.response.status_code": request.status}
    notes = {"request_id": request.request_id, **request.notes}
    own = {f"plumbline.{name}": value for name, value in notes.items() if name not in ("key", "trace_id")}
    return {**http, "http.route": request.route, **own}


def line_sender(resource: Any) -> Sender:
    """Sends the lines of the log as records."""
    from opentelemetry._logs import LogRecord as Record
    from opentelemetry._logs import SeverityNumber
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import LogRecordExportResult, SimpleLogRecordProcessor
    from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

    made, exporter = _Collected(), OTLPLogExporter()
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(cast("Any", made)))
    logger = provider.get_logger("plumbline")
    numbers = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}

    def send(batch: Sequence[tuple[int, str]]) -> bool:
        for moment, line in batch:
            try:
                event = orjson.loads(line)
            except ValueError:  # half a character
                event = {"event": line}
            level, body = event.pop("level", "info"), event.pop("event", "")
            trace_id = int(event.get("trace_id", "0"), 16)
            record = Record(
                timestamp=moment,
                context=set_span_in_context(NonRecordingSpan(SpanContext(trace_id, 0, is_remote=True))),
                severity_text=level.upper(),
                severity_number=SeverityNumber(numbers.get(level, 9)),
                body=body,
                attributes={name: value for name, value in event.items() if name != "time" and value is not None},
            )
            logger.emit(record)
        return exporter.export(made.take()) is LogRecordExportResult.SUCCESS

    return Sender("logs", "OTEL_BLRP", send)


class LineExport(LineHandler):
    """The log's lines, on their way to the sender."""

    def __init__(self, sender: Sender) -> None:
        super().__init__()
        self._sender = sender
        known: Any = line_outputs()[0].formatter
        remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
        last = (remove, lambda _logger, _name, event: line_as_json(event))
        before = known.foreign_pre_chain if isinstance(known, structlog.stdlib.ProcessorFormatter) else None
        self.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=before, processors=last))

    def filter(self, record: LogRecord) -> bool:
        """Leave out what the export itself logs."""
        return record.name.partition(".")[0] not in OWN_LOGGERS

    def _write(self, text: str, number: int) -> None:
        del number
        self._sender.offer((time.time_ns(), line) for line in text.rstrip("\n").split("\n"))


def metric_sender(series: CollectorRegistry, resource: Any) -> Sender:
    """Sends the series of ``/metrics`` under the same names; a batch is one look at all of them."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, ResourceMetrics, ScopeMetrics
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    exporter, began_ns = OTLPMetricExporter(), time.time_ns()

    def send(_batch: Sequence[object]) -> bool:
        now_ns = time.time_ns()
        metrics = [_metric(family, began_ns, now_ns) for family in series.collect()]
        scope = ScopeMetrics(InstrumentationScope("plumbline"), metrics, "")
        return exporter.export(MetricsData([ResourceMetrics(resource, [scope], "")])) is MetricExportResult.SUCCESS

    return Sender("metrics", "OTEL_METRIC", send)


def _metric(family: Metric, began_ns: int, now_ns: int) -> Any:
    """A family of series in the data model of OpenTelemetry."""
    from opentelemetry.sdk.metrics import export

    data: Any
    if family.type == "histogram":
        data = export.Histogram(list(_histograms(family, began_ns, now_ns)), export.AggregationTemporality.CUMULATIVE)
        return export.Metric(family.name, family.documentation, family.unit, data)
    points = [export.NumberDataPoint(each.labels, began_ns, now_ns, each.value) for each in family.samples]
    if family.type == "counter":
        data = export.Sum(points, export.AggregationTemporality.CUMULATIVE, is_monotonic=True)
        return export.Metric(f"{family.name}_total", family.documentation, family.unit, data)
    return export.Metric(family.name, family.documentation, family.unit, export.Gauge(points))


def _histograms(family: Metric, began_ns: int, now_ns: int) -> Iterator[Any]:
    """A point for each histogram of a family; only Prometheus adds buckets up."""
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    def labels_of(sample: Any) -> list[tuple[str, str]]:
        return sorted((name, value) for name, value in sample.labels.items() if name != "le")

    for labels, group in groupby(sorted(family.samples, key=labels_of), labels_of):
        samples = list(group)
        buckets = sorted((float(each.labels["le"]), each.value) for each in samples if "le" in each.labels)
        counts = [later - before for before, later in pairwise([0.0, *(value for _, value in buckets)])]
        total = next((each.value for each in samples if each.name.endswith("_sum")), 0.0)
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=int(buckets[-1][1]),
            sum=total,
            bucket_counts=[int(count) for count in counts],
            explicit_bounds=[bound for bound, _ in buckets[:-1]],
            min=cast("Any", None),
            max=cast("Any", None),
        )


class Telemetry:
    """The signals that are sent, and their threads.

    Attributes:
        spans: takes the requests that were answered; None where traces are not sent.
    """

    def __init__(self, signals: Iterable[str], series: CollectorRegistry, version: str) -> None:
        resource = _resource(version)
        makers: dict[str, Callable[[Any], Sender]] = {"traces": span_sender, "logs": line_sender}
        makers["metrics"] = partial(metric_sender, series)
        self._senders = {signal: makers[signal](resource) for signal in signals}
        self.spans = self._senders.get("traces")
        self._lines: LineExport | None = None
        self._looks: asyncio.Task[None] | None = None
        about = "Spans, lines and looks at the metrics that were not sent"
        KeptCounter(series, "ml_telemetry_dropped", about, ["signal", "reason"], self.dropped)

    def dropped(self) -> dict[tuple[str, ...], int]:
        """The number of items that were not sent, by signal and reason."""
        found = {name: self._senders[name].dropped if name in self._senders else Counter[str]() for name in SIGNALS}
        return {(name, reason): counts[reason] for name, counts in found.items() for reason in ("queue", "export")}

    def start(self, refresh: Callable[[], Awaitable[None]]) -> None:
        """Start the threads, in the event loop; ``refresh`` reads the metrics of the store."""
        for sender in self._senders.values():
            sender.start()
        if "logs" in self._senders:
            self._lines = LineExport(self._senders["logs"])
            getLogger().addHandler(self._lines)
        if "metrics" in self._senders:
            look = self._look(self._senders["metrics"], refresh)
            self._looks = asyncio.create_task(look, name="plumbline-work-otlp-metrics")

    async def stop(self) -> None:
        """Send what is waiting, then end."""
        if self._looks:
            self._looks.cancel()
            self._senders["metrics"].offer([None])
        if self._lines:
            getLogger().removeHandler(self._lines)
        await asyncio.gather(*(asyncio.to_thread(sender.stop) for sender in self._senders.values()))

    @staticmethod
    async def _look(sender: Sender, refresh: Callable[[], Awaitable[None]]) -> None:
        every_s = _number("OTEL_METRIC_EXPORT_INTERVAL", 60_000) / 1000
        while True:
            await asyncio.sleep(every_s)
            try:
                async with asyncio.timeout(every_s):
                    await refresh()
            except Exception as error:  # noqa: BLE001 - the figures of before are sent then
                structlog.get_logger("opentelemetry").warning("metrics_not_read", error=describe_error(error))
            sender.offer([None])


def _resource(version: str) -> Any:
    """The service and this replica, unless the environment names them."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    own = {"service.name": "plumbline", "service.version": version, "service.instance.id": new_id()}
    return Resource.create(own).merge(OTELResourceDetector().detect())


def wanted_signals(environ: Mapping[str, str]) -> list[str]:
    """The signals for which the variables name a receiver."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    found = []
    for signal in SIGNALS:
        exporter = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
        names = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        if "otlp" in exporter.split(",") or (not exporter and any(map(environ.get, names))):
            found.append(signal)
    return found


def open_telemetry(environ: Mapping[str, str], series: CollectorRegistry, version: str) -> Telemetry | None:
    """Open the telemetry that the environment asks for; None without any that can be had.

    That is a warning: a platform may set the variables for all its services.
    """
    signals = wanted_signals(environ)
    if not signals:
        return None
    log = structlog.get_logger("opentelemetry")
    for signal in signals:
        names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        if (protocol := next(filter(None, map(environ.get, names)), "http/protobuf")) != "http/protobuf":
            log.warning("telemetry_off", reason=f"{signal}: the protocol {protocol} is not there; use http/protobuf")
            return None
    try:
        return Telemetry(signals, series, version)
    except ImportError:
        log.warning("telemetry_off", reason="its libraries are missing", advice="pip install 'plumbline[otel]'")
    except Exception as error:  # noqa: BLE001 - a wrong variable costs the telemetry, never the service
        log.warning("telemetry_off", reason=describe_error(error))
    return None
