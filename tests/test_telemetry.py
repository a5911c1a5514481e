"""OpenTelemetry: what a receiver of OTLP gets, and what it costs where there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.telemetry import Sender, wanted_signals
from tests.support.application import client_of, make_config, samples, service_log
from tests.support.connections import Scene, scene_of
from tests.support.models.tasks import Fitted
from tests.support.raw_client import post

ROW = {"age": 30, "income": 1.5, "channel": "web", "member": True}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "mine"}
MESSAGES: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}
STAGES = {"validate", "batch", "model", "commit"}


class Receiver:
    """What a receiver of OTLP over HTTP has got."""

    def __init__(self) -> None:
        self.port = 0
        self.bodies: list[tuple[str, bytes]] = []

    def spans(self) -> list[Any]:
        """All spans."""
        found = [part for message in self._messages("/v1/traces") for part in message.resource_spans]
        return [span for part in found for scope in part.scope_spans for span in scope.spans]

    def records(self) -> list[Any]:
        """All records of the log."""
        found = [part for message in self._messages("/v1/logs") for part in message.resource_logs]
        return [record for part in found for scope in part.scope_logs for record in scope.log_records]

    def metrics(self) -> dict[str, Any]:
        """The latest metrics by name."""
        found = [part for message in self._messages("/v1/metrics") for part in message.resource_metrics]
        return {metric.name: metric for part in found for scope in part.scope_metrics for metric in scope.metrics}

    def _messages(self, path: str) -> list[Any]:
        return [MESSAGES[path].FromString(body) for sent_to, body in self.bodies if sent_to == path]


@contextmanager
def receiving(status: int = 200) -> Iterator[Receiver]:
    """A receiver on 127.0.0.1 that answers all with one status."""
    receiver = Receiver()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.bodies.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        receiver.port = server.server_port
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


def attributes(item: Any) -> dict[str, Any]:
    """The attributes of a span or a record that are text or numbers."""
    return {each.key: each.value.string_value or each.value.int_value for each in item.attributes}


Models = tuple[Path, dict[str, Fitted]]


@pytest.mark.parametrize("by_asgi", [False, True])
def test_a_request_is_one_trace(
    tmp_path: Path, small_models: Models, monkeypatch: pytest.MonkeyPatch, *, by_asgi: bool
) -> None:
    """The receiver sees its stages under its span, which continues the caller's trace, over both paths."""
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{receiver.port}/v1/traces")
        headers = [f"{name}: {value}".encode() for name, value in IDS.items()]
        with scene_of(make_config(tmp_path, small_models[0], "mixed")) as scene:
            scene.run(ask(scene, post(json.dumps({"features": ROW, "prediction_id": "p"}).encode(), *headers), by_asgi))
        spans = {span.name: span for span in receiver.spans()}

    whole = spans.pop("POST /predict")
    assert set(spans) == STAGES
    assert {span.trace_id.hex() for span in (whole, *spans.values())} == {TRACE}
    assert whole.parent_span_id.hex() == PARENT
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    times = [spans[name].start_time_unix_nano for name in ("validate", "batch", "model", "commit")]
    assert [whole.start_time_unix_nano, *times] == sorted([whole.start_time_unix_nano, *times])
    assert all(span.end_time_unix_nano <= whole.end_time_unix_nano for span in spans.values())
    found = attributes(whole)
    assert (found["plumbline.prediction_id"], found["plumbline.model_version"]) == ("p", "1")
    assert (found["plumbline.request_id"], found["http.response.status_code"]) == ("mine", 200)


async def ask(scene: Scene, request: bytes, by_asgi: bool) -> None:
    """Send one request, and wait for its answer."""
    wire = scene.connect(by_asgi=by_asgi)
    await wire.packets([request])
    assert [reply.status for reply in await wire.replies(1)] == [200]


def test_lines_and_series_are_sent_too(tmp_path: Path, small_models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable sends all three signals: the log's lines with their trace, and the series of `/metrics`."""
    with receiving() as receiver, service_log():
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
        config = make_config(tmp_path, small_models[0], "mixed", logging={"predictions": "ids"})
        with client_of(config) as client:
            client.post("/predict", {"features": {}}, headers=IDS)
            client.post("/predict", {"features": ROW})
            names = {name for name, _ in samples(client.get("/metrics").text)}
        records, metrics, spans = receiver.records(), receiver.metrics(), receiver.spans()

    (refused,) = [each for each in records if attributes(each).get("status") == 422]
    assert (refused.trace_id.hex(), attributes(refused)["request_id"]) == (TRACE, "mine")
    (line,) = [each for each in records if each.body.string_value == "prediction"]
    own = [span for span in spans if attributes(span).get("plumbline.prediction_id")]
    assert [(span.trace_id, span.parent_span_id) for span in own] == [(line.trace_id, b"")]
    assert metrics["ml_journal_rows_total"].sum.is_monotonic
    (latency,) = metrics["ml_prediction_latency_seconds"].histogram.data_points
    assert sum(latency.bucket_counts) == latency.count == 1
    assert {name for name in names if name.startswith("ml_") and name.endswith("_total")} <= set(metrics)


def test_what_finds_no_place_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue takes no more than its variable allows; the rest is counted, and nobody waits."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
    sender = Sender("traces", "OTEL_BSP", bool)
    sender.offer(range(5))

    assert sender.dropped == {"queue": 3}


@pytest.mark.parametrize("status", [400, None])
def test_a_receiver_that_fails_costs_no_answer(
    tmp_path: Path, small_models: Models, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    """What nobody took is counted; every request is answered as ever."""
    with receiving(status or 200) as receiver:
        port = receiver.port if status else 9
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "2")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
        with client_of(make_config(tmp_path, small_models[0], "mixed")) as client:
            statuses = [client.post("/predict", {"features": ROW}).status_code for _ in range(5)]
            client.services.spans.stop()  # type: ignore[union-attr]  # it is there, or this fails
            found = samples(client.get("/metrics").text)

    assert statuses == [200] * 5
    assert found["ml_telemetry_dropped_total", (("reason", "export"), ("signal", "traces"))] > 0


@pytest.mark.parametrize(
    ("environ", "signals"),
    [
        ({}, []),
        ({"OTEL_SERVICE_NAME": "x"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ["traces", "metrics", "logs"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_LOGS_EXPORTER": "none"}, ["traces", "metrics"]),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ["traces"]),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"}, []),
    ],
)
def test_the_standard_variables_choose_the_signals(environ: dict[str, str], signals: list[str]) -> None:
    """Without a receiver nothing is sent; one variable sends all, and each signal can be left out."""
    assert wanted_signals(environ) == signals
