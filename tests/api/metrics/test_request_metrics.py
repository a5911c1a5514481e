"""The series of requests, predictions and feature values on ``/metrics``."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from app.api.endpoints.probes import ERROR_REASONS, RequestCounts, render
from app.metrics import LastPredictions
from app.types import FeatureType
from tests.api.conftest import Start
from tests.support.application import Client, samples
from tests.support.models.tasks import Fitted

MODEL = {"model_name": "mixed", "model_version": "1"}
FROM_THE_START = [
    "ml_alerts_firing",
    "ml_batch_rows",
    "ml_build_info",
    "ml_business_value",
    "ml_check_duration_seconds",
    "ml_check_last_success_timestamp_seconds",
    "ml_data_freshness_seconds",
    "ml_data_quality_findings",
    "ml_drift_detected",
    "ml_drift_drifted_features",
    "ml_drift_limit",
    "ml_drift_overall",
    "ml_drift_p_value_min",
    "ml_drift_psi_max",
    "ml_drift_share",
    "ml_drift_statistic",
    "ml_event_loop_stall_seconds",
    "ml_feature_category_total",
    "ml_feature_value",
    "ml_journal_commit_seconds",
    "ml_journal_failed_rows_total",
    "ml_journal_queue_rows",
    "ml_journal_rows_total",
    "ml_journal_spooled_rows",
    "ml_label_coverage_ratio",
    "ml_last_prediction_timestamp_seconds",
    "ml_model_accuracy",
    "ml_model_info",
    "ml_model_loaded",
    "ml_model_performance",
    "ml_outcomes_total",
    "ml_prediction_confidence",
    "ml_prediction_latency_seconds",
    "ml_prediction_value",
    "ml_predictions_total",
    "ml_request_errors_total",
    "ml_requests_in_progress",
    "ml_requests_total",
]


def value(client: Client, name: str, **labels: str) -> float | None:
    """The value of one series, or None where there is none."""
    return samples(client.get("/metrics").text).get((name, tuple(sorted(labels.items()))))


def requests(client: Client, route: str, method: str, status: str) -> float | None:
    """The number of requests of one group."""
    return value(client, "ml_requests_total", route=route, method=method, status=status)


def test_every_family_exists_from_the_start(start: Start) -> None:
    """A dashboard finds every family before the first prediction and the first check."""
    client = start("mixed")
    families = {family.name for family in text_string_to_metric_families(client.get("/metrics").text)}

    assert value(client, "ml_drift_overall", **MODEL) == 0
    assert {name.removesuffix("_total") for name in FROM_THE_START} <= families | {"ml_build_info", "ml_model_info"}


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_the_text_is_the_librarys(accept: str) -> None:
    """Samples of every kind, with labels that need escaping and values at the ends, read as the library writes them."""
    registry = CollectorRegistry()
    Counter("a", "counter", ["x", "b"], registry=registry).labels('quote " and \\', "line\nend").inc(1e9)
    Histogram("h", "histogram\nof two lines", registry=registry).observe(0.3)
    Info("i", "info", registry=registry).info({"version": "1"})
    gauge = Gauge("g", "gauge", ["n"], registry=registry)
    for number in (float("nan"), float("inf"), -0.0, 1e-300, 123456789.125):
        gauge.labels(str(number)).set(number)
    encode, _ = choose_encoder(accept)

    assert render(registry, encode) == encode(registry)


def test_requests_are_counted_by_route_method_and_class(start: Start, fitted: dict[str, Fitted]) -> None:
    """A template stands for its paths, and one heading for all paths that no route has."""
    client = start("mixed")
    assert requests(client, "/predict", "POST", "5xx") == 0
    assert requests(client, "/predictions/{prediction_id}", "GET", "2xx") == 0

    client.post("/predict", {"features": fitted["mixed"].rows[0], "prediction_id": "one"})
    client.post("/predict", {"features": {}})
    client.get("/predictions/one")
    client.get("/predictions/none")
    client.get("/secret-of-a-client")

    assert requests(client, "/predict", "POST", "2xx") == 1
    assert requests(client, "/predict", "POST", "4xx") == 1
    assert requests(client, "/predictions/{prediction_id}", "GET", "2xx") == 1
    assert requests(client, "/predictions/{prediction_id}", "GET", "4xx") == 1
    assert requests(client, "unmatched", "GET", "4xx") == 1
    assert "secret" not in client.get("/metrics").text


def test_errors_are_counted_by_reason(start: Start, fitted: dict[str, Fitted]) -> None:
    """A refused row, a body that is no JSON, another content type and a conflict have reasons of their own."""
    client, (row, other) = start("mixed"), fitted["mixed"].rows[:2]
    for reason in ERROR_REASONS.values():
        assert value(client, "ml_request_errors_total", route="/predict", reason=reason) == 0

    client.post("/predict", {"features": {}})
    client.post("/predict", content=b"{}", headers={"content-type": "text/plain"})
    client.post("/predict", {"features": row, "prediction_id": "one"})
    client.post("/predict", {"features": other, "prediction_id": "one"})
    client.post("/outcome", {"prediction_id": "nobody", "outcome": "good"})

    for route, reason in (
        ("/predict", "invalid"),
        ("/predict", "media_type"),
        ("/predict", "conflict"),
        ("/outcome", "not_found"),
    ):
        assert value(client, "ml_request_errors_total", route=route, reason=reason) == 1, reason


def test_labels_of_requests_are_never_a_clients_text() -> None:
    """A method that nobody knows, and a status without a name, count as other."""
    registry = CollectorRegistry()
    counts = RequestCounts(registry)
    counts.count("BREW", "/predict", [418, 418, 200])

    labels = {"route": "/predict", "method": "other"}
    assert registry.get_sample_value("ml_requests_total", {**labels, "status": "4xx"}) == 2
    assert registry.get_sample_value("ml_requests_total", {**labels, "status": "2xx"}) == 1
    assert registry.get_sample_value("ml_request_errors_total", {"route": "/predict", "reason": "other"}) == 2


def test_a_prediction_is_realtime_or_batch(start: Start, fitted: dict[str, Fitted]) -> None:
    """One row is realtime and a list is batch, refused ones too; the task is a label of the model."""
    client, rows = start("mixed"), fitted["mixed"].rows[:3]
    client.post("/predict", {"features": rows[0]})
    client.post("/predict", {"instances": rows})
    client.post("/predict", {"features": {}})

    for kind, status, expected in (("realtime", "ok", 1), ("batch", "ok", 3), ("realtime", "refused", 1)):
        assert value(client, "ml_predictions_total", **MODEL, prediction_type=kind, status=status) == expected
    assert value(client, "ml_model_info", **MODEL, task="binary") == 1


def test_every_feature_has_a_distribution(start: Start, fitted: dict[str, Fitted]) -> None:
    """Numbers have buckets; categories and booleans are counted by the values of the reference."""
    client, rows = start("mixed"), fitted["mixed"].rows[:20]
    client.post("/predict", {"instances": [*rows, {**rows[0], "channel": "a-clients-text"}]})
    client.post("/predict", {"features": {**rows[0], "income": None}})
    found = samples(client.get("/metrics").text)

    for feature in client.services.registry.active.schema.features:
        series = "ml_feature_value_bucket" if feature.type.is_number else "ml_feature_category_total"
        of_feature = [(name, dict(labels)) for name, labels in found if ("feature_name", feature.name) in labels]
        assert series in {name for name, _ in of_feature}, feature.name
        if feature.type is FeatureType.BOOLEAN:
            assert {labels.get("category") for _, labels in of_feature} >= {"true", "false"}
    channels = {
        dict(labels)["category"]: count
        for (name, labels), count in found.items()
        if name == "ml_feature_category_total" and ("feature_name", "channel") in labels
    }
    assert channels["other"] == 1
    assert sum(channels.values()) == 22
    assert "a-clients-text" not in channels


def test_values_of_private_features_are_not_counted(start: Start, fitted: dict[str, Fitted]) -> None:
    """A feature that is not stored clear has no distribution: a scrape would tell its values one by one."""
    client = start("mixed", privacy={"features": {"channel": "hash", "age": "off", "income": "clear"}})
    client.post("/predict", {"features": fitted["mixed"].rows[0]})
    counted = {
        dict(labels)["feature_name"]
        for name, labels in samples(client.get("/metrics").text)
        if name in {"ml_feature_value_count", "ml_feature_category_total"}
    }

    assert counted == {"income", "member"}


def test_confidence_has_buckets_up_to_one(start: Start) -> None:
    """A model that is sure of all its answers can be told from one that is nearly sure."""
    text = start("mixed").get("/metrics").text

    for bound in ("0.95", "0.99", "1.0", "+Inf"):
        assert value_of_bucket(text, bound) == 0


def value_of_bucket(text: str, bound: str) -> float:
    """The rows up to a bound of confidence."""
    return samples(text)["ml_prediction_confidence_bucket", (("le", bound), *sorted(MODEL.items()))]


def test_the_last_prediction_is_that_of_all_replicas(start: Start, fitted: dict[str, Fitted]) -> None:
    """A prediction sets the time; what another replica stored counts as well, and an older one takes nothing back."""
    client = start("mixed")
    assert value(client, "ml_last_prediction_timestamp_seconds", **MODEL) == 0
    assert value(client, "ml_data_freshness_seconds", **MODEL) is None

    client.post("/predict", {"features": fitted["mixed"].rows[0]})
    last = value(client, "ml_last_prediction_timestamp_seconds", **MODEL)

    assert last is not None
    assert last > 1_700_000_000
    assert (value(client, "ml_data_freshness_seconds", **MODEL) or 0) >= 0


def test_freshness_is_the_age_of_the_latest_prediction() -> None:
    """It grows with the clock, and a prediction that was stored earlier does not change it."""
    registry = CollectorRegistry()
    last = LastPredictions(registry, clock=lambda: 130.0)
    last.note("m", "1", 100.0)
    last.note("m", "1", 90.0)

    labels = {"model_name": "m", "model_version": "1"}
    assert registry.get_sample_value("ml_data_freshness_seconds", labels) == pytest.approx(30.0)


def test_drift_has_figures_over_all_features(start: Start, fitted: dict[str, Fitted]) -> None:
    """The largest PSI, the smallest adjusted p-value and the number of drifted features are those of the report."""
    client, rows = start("mixed"), fitted["mixed"].rows
    client.post("/predict", {"instances": [{**row, "age": int(row["age"]) + 40} for row in rows]})
    client.post("/checks")
    drift = client.get("/drift").json()
    entries = drift["features"].values()

    assert value(client, "ml_drift_overall", **MODEL) == (drift["status"] == "drift")
    assert value(client, "ml_drift_psi_max", **MODEL) == pytest.approx(max(entry["psi"] for entry in entries))
    smallest = min(entry["adjusted_p_value"] for entry in entries)
    assert value(client, "ml_drift_p_value_min", **MODEL) == pytest.approx(smallest)
    assert value(client, "ml_drift_drifted_features", **MODEL) == len(drift["drifted_features"]) > 0
