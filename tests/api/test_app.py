"""What holds for every route: request ids, keys, errors, headers, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from tests.api.conftest import Start
from tests.support.application import Client, client_of, make_config, samples, service_log
from tests.support.models.tasks import Fitted
from tests.support.programs import require_tool

KEYS = {name: f"plumb_{name}_s3cret" for name in ("caller", "watcher", "scraper", "boss")}
SCOPES = {"caller": ["predict", "outcome"], "watcher": ["read"], "scraper": ["metrics"], "boss": ["admin"]}
ROW = {"age": 30, "income": 1.5, "channel": "web", "member": True}
CALLS = {
    "predict": ("POST", "/predict", {"features": ROW}),
    "outcome": ("POST", "/outcome", {"prediction_id": "nobody", "outcome": "good"}),
    "read": ("GET", "/predictions", None),
    "metrics": ("GET", "/metrics", None),
    "admin": ("POST", "/checks", None),
}


def keys(*names: str) -> dict[str, object]:
    """The section ``auth`` with these keys."""
    made = [
        {"name": name, "sha256": hashlib.sha256(KEYS[name].encode()).hexdigest(), "scopes": SCOPES[name]}
        for name in names
    ]
    return {"keys": made}


def call(client: Client, scope: str, headers: Mapping[str, str | bytes]) -> int:
    """The status of a call that needs a scope."""
    method, path, body = CALLS[scope]
    answer = client.get(path, headers=headers) if method == "GET" else client.post(path, body, headers=headers)
    return answer.status_code


def test_keys_open_what_their_scope_names(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key 401, with another scope 403, with the right one, or admin, the answer.

    And no key is ever logged.
    """
    client = start("mixed", auth=keys(*KEYS))
    for scope in CALLS:
        assert call(client, scope, {}) == 401
        assert call(client, scope, {"x-api-key": "wrong"}) == 401
        assert call(client, scope, {"x-api-key": b"\xff\xfe"}) == 401
        assert call(client, scope, {"authorization": f"Basic {KEYS['boss']}"}) == 401
        for name, key in KEYS.items():
            allowed = scope in SCOPES[name] or name == "boss"
            for headers in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
                assert (call(client, scope, headers) in (200, 404)) is allowed
                assert (call(client, scope, headers) == 403) is not allowed

    assert client.get("/predictions", params={"key": KEYS["boss"], "x-api-key": KEYS["boss"]}).status_code == 401
    assert "www-authenticate" in client.get("/predictions").headers
    assert "s3cret" not in capsys.readouterr().out


def test_what_is_open_stays_open(start: Start) -> None:
    """Probes, the documentation and, until a key with their scope exists, the metrics need no key."""
    client = start("mixed", auth=keys("caller", "boss"))

    paths = ("/health/live", "/health/ready", "/docs", "/openapi.json", "/metrics")

    assert [client.get(path).status_code for path in paths] == [200] * 5


def test_every_other_route_needs_a_key(start: Start) -> None:
    """No route was forgotten: all but the open ones answer 401 without a key."""
    client = start("mixed", auth=keys(*KEYS))
    opened = re.compile(r"/$|/health/|/docs|/openapi.json|/dashboard")  # the dashboard is a page; its data need a key
    guarded = [(path, method) for path, method, _ in client.routes if not opened.match(path)]

    call = {"POST": client.post, "DELETE": client.delete, "GET": client.get, "HEAD": client.get}
    assert len(guarded) > 10
    for template, method in guarded:
        answer = call[method](re.sub(r"\{[^}]*\}", "x", template))
        assert (template, answer.status_code) == (template, 401)


def test_an_open_door_is_refused(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Beyond loopback the service starts with keys only."""
    config = partial(make_config, tmp_path, small_models[0], "mixed", server={"host": "0.0.0.0"})  # noqa: S104 - the case
    with pytest.raises(ConfigError, match=r"auth\.keys is empty"), client_of(config()):
        pass
    with client_of(config(auth=keys("boss"))) as client:
        key = client.post("/keys", {"name": "ci", "scopes": ["read"]}, headers={"x-api-key": KEYS["boss"]}).json()
    with client_of(config()) as client:
        assert call(client, "read", {"x-api-key": key["key"]}) == 200
        assert call(client, "read", {}) == 401


@pytest.mark.parametrize("path", ["/predict", "/nowhere", "/health/live", "/predictions/none"])
def test_every_answer_has_a_request_id(mixed: Client, path: str) -> None:
    """The caller's id comes back; without one, or with one that could not stand in a log, there is a new one."""
    echoed = mixed.get(path, headers={"x-request-id": "order-7:a.b_c"})
    made = {mixed.get(path).headers["x-request-id"] for _ in range(3)}

    assert echoed.headers["x-request-id"] == "order-7:a.b_c"
    assert len(made) == 3
    for bad in ("a b", "a\tb", "x" * 129, "", '"'):
        assert mixed.get(path, headers={"x-request-id": bad}).headers["x-request-id"] != bad
    assert echoed.headers["x-content-type-options"] == "nosniff"


def test_one_request_is_one_line(capsys: pytest.CaptureFixture[str], start: Start) -> None:
    """A request's line has its id, the route's template, status and time.

    Feature values are in none, and what a client wrote into a path is no route.
    """
    mixed = start("mixed", logging={"access": "all"})
    mixed.post("/predict", {"features": {**ROW, "age": 777123}}, headers={"x-request-id": "find-me"})
    mixed.get("/models/77123")
    mixed.get("/predictions/some-id")
    mixed.get("/health/live")  # a line is written a turn of the loop after its answer
    lines = [line for line in capsys.readouterr().out.splitlines() if '"event":"request"' in line]

    assert len([line for line in lines if '"request_id":"find-me"' in line and '"status":200' in line]) == 1
    assert any('"route":"/models/{name}"' in line for line in lines)
    assert any('"route":"/predictions/{prediction_id}"' in line for line in lines)
    assert not any("77123" in line for line in lines)


@pytest.mark.parametrize(
    ("section", "statuses"),
    [
        ({}, [422, 404]),
        ({"access": "all"}, [200, 422, 404]),
        ({"access": "off"}, []),
        ({"access": "all", "level": "warning"}, []),
    ],
)
def test_requests_have_a_line_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], start: Start, section: dict[str, str], statuses: list[int]
) -> None:
    """By default a request that was answered has no line, and one that was refused has one, on each kind of route."""
    client = start("mixed", logging=section)
    client.post("/predict", {"features": ROW})
    client.post("/predict", {"features": {}})
    client.get("/predictions/nobody")
    client.wait_for(lambda: asyncio.sleep(0))
    lines = [line for line in capsys.readouterr().out.splitlines() if '"event":"request"' in line]

    assert [json.loads(line)["status"] for line in lines] == statuses


def test_unknown_paths_and_methods_are_errors_like_others(mixed: Client) -> None:
    """404 and 405 are JSON with a detail."""
    assert mixed.get("/nowhere").json() == {"detail": "Not Found"}
    refused = mixed.get("/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert "detail" in refused.json()


def test_a_refused_method_is_told_those_of_its_path(mixed: Client) -> None:
    """`Allow` of a 405 has each method of the path, over all its routes, and HEAD where there is GET."""
    for path, item in mixed.get("/openapi.json").json()["paths"].items():
        taken = {method.upper() for method in item}
        refused = mixed.ask("TRACE", path.replace("{name}", "mixed"))

        assert refused.status_code == 405, path
        assert set(refused.headers["allow"].split(", ")) == taken | ({"HEAD"} if "GET" in taken else set()), path


def test_head_is_get_without_its_body(mixed: Client) -> None:
    """Probes may ask with HEAD on every GET route: the same status and headers, no body; an export stops at once."""
    paths = {path for path, method, _ in mixed.routes if method == "GET" and "{" not in path}
    for path in {
        *paths,
        "/predictions/nobody",
        "/predictions?format=csv",
        "/drift?nonsense=1",
        "/docs/assets/favicon.png",
    }:
        asked, told = mixed.get(path), mixed.head(path)

        assert (told.status_code, told.content) == (asked.status_code, b""), path
        assert told.headers.get("content-type") == asked.headers.get("content-type"), path
    assert len(paths) > 10
    assert mixed.head("/predict").status_code == 405
    assert mixed.post("/health/ready").headers["allow"] == "GET, HEAD"


def test_unknown_query_parameters_are_named(mixed: Client) -> None:
    """A misspelled filter is a 422 that names it and what is taken, on every route and on the hot ones."""
    for path, method, _ in mixed.routes:
        call = {"GET": mixed.get, "POST": mixed.post, "DELETE": mixed.delete}.get(method)
        if call is None or path.startswith("/docs/assets"):
            continue
        options: dict[str, Any] = {"json": {}} if method == "POST" else {}
        answer = call(f"{path}?nonsence=1&model_verzion=2", **options)

        assert answer.status_code == 422, (method, path)
        assert [error["field"] for error in answer.json()["detail"]] == ["nonsence", "model_verzion"], path
        assert [error["loc"] for error in answer.json()["detail"]] == [
            ["query", "nonsence"],
            ["query", "model_verzion"],
        ]
    assert mixed.post("/predict?model_version=1", {"features": ROW}).status_code == 200
    assert "model_version" in mixed.get("/drift?x=1").json()["detail"][0]["expected"]


def test_the_unexpected_gives_an_error_id_and_nothing_else(
    capsys: pytest.CaptureFixture[str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 shows an id; the log has the place and the type under that id, on the hot path and off it."""
    text = "s3cret inside"

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(text)

    with service_log(), monkeypatch.context() as patch:
        client = start("mixed")
        patch.setattr("app.api.endpoints.predictions.find", broken)
        patch.setattr(type(client.services.predictor), "predict", broken)
        answers = [client.get("/predictions/x"), client.post("/predict", {"features": ROW})]

    for answer in answers:
        assert answer.status_code == 500
        assert answer.json() == {"detail": f"internal error; error id {answer.headers['x-request-id']}"}
    log = capsys.readouterr().out
    assert all(answer.headers["x-request-id"] in log for answer in answers)
    assert log.count("RuntimeError") >= len(answers)
    assert "in broken" in log
    assert text not in log


def test_paths_make_no_series(mixed: Client) -> None:
    """10,000 paths, ids and versions of a scanner make no more series than the first few hundred of them."""
    rng = random.Random(7)
    app, receive = mixed.app, None

    async def scan(paths: int) -> None:
        async def send(_message: object) -> None: ...

        for _ in range(paths):
            word = f"{rng.getrandbits(64):x}"
            path = rng.choice(["/", "/predict/", "/models/", "/predictions/"]) + word
            scope = {
                "type": "http", "method": rng.choice(["GET", "POST", "BREW"]), "path": path, "raw_path": path.encode(),
                "query_string": f"model_version={word}".encode(), "headers": [], "app": app, "root_path": "",
                "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            }  # fmt: skip
            await app(scope, receive, send)  # type: ignore[arg-type]  # these routes read no body

    mixed.portal.call(scan, 300)
    before = len(samples(mixed.get("/metrics").text))
    mixed.portal.call(scan, 10_000)

    assert len(samples(mixed.get("/metrics").text)) == before


def test_metrics_lint_clean(mixed: Client) -> None:
    """Prometheus' own tool finds nothing to criticise, neither before the first prediction nor after."""
    tool = require_tool("promtool")
    mixed.post("/predict", {"features": ROW})
    exposition = mixed.get("/metrics").content

    checked = subprocess.run([tool, "check", "metrics"], input=exposition, capture_output=True, check=False)

    assert (checked.returncode, checked.stderr.decode()) == (0, "")


def test_metrics_speak_the_format_that_is_asked_for(mixed: Client) -> None:
    """Prometheus text by default, OpenMetrics where it is accepted."""
    plain = mixed.get("/metrics")
    modern = mixed.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert modern.text.endswith("# EOF\n")


@pytest.mark.parametrize("name", ["price", "zero_one", "mixed"])
def test_every_histogram_has_a_count_and_a_sum(start: Start, name: str, fitted: dict[str, Fitted]) -> None:
    """Count and sum stand beside the buckets in both formats, also where the first bound is negative."""
    client = start(name)
    client.post("/predict", {"instances": fitted[name].rows[:20]})
    for accept in ("text/plain", "application/openmetrics-text; version=1.0.0"):
        lines = client.get("/metrics", headers={"accept": accept}).text.splitlines()
        kinds = {line.split()[2] for line in lines if line.startswith("# TYPE") and line.endswith("histogram")}
        series = {kind: {line.split(" ")[0] for line in lines if line.startswith(kind)} for kind in kinds}

        assert kinds >= {"ml_feature_value", "ml_prediction_value", "ml_prediction_latency_seconds"}
        for kind, found in series.items():
            every = {line.replace("_bucket{", "_count{") for line in found if 'le="+Inf"' in line}
            wanted = {
                line.replace('le="+Inf",', "").replace(',le="+Inf"', "").replace('{le="+Inf"}', "") for line in every
            }
            assert wanted <= found, kind
            assert {line.replace("_count", "_sum") for line in wanted} <= found, kind
    assert name == "mixed" or any('le="-' in line for line in series["ml_feature_value"])


def test_the_named_series_exist_from_the_start(start: Start) -> None:
    """A rule can tell zero from absent: the series of the contract are there before the first prediction."""
    text = start("mixed").get("/metrics").text
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))

    assert names >= {
        "ml_predictions_total", "ml_prediction_latency_seconds", "ml_requests_in_progress", "ml_feature_value",
        "ml_prediction_value", "ml_prediction_confidence", "ml_model_loaded", "ml_batch_rows", "ml_journal_rows_total",
        "ml_journal_failed_rows_total", "ml_journal_queue_rows", "ml_journal_undecided_rows",
        "ml_journal_spooled_rows", "ml_journal_commit_seconds",
        "ml_outcomes_total", "ml_build_info", "process_resident_memory_bytes",
    }  # fmt: skip
    for state in ("accepted", "stored", "forwarded", "conflict"):
        assert f'ml_journal_rows_total{{state="{state}"}} 0.0' in text


def test_a_config_error_is_a_plumbline_error() -> None:
    """Expected failures carry the exit code that they stand for."""
    assert ConfigError.exit_code == 2
