"""A real Prometheus scrapes a real service."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.processes import free_port, serving
from tests.support.programs import require_tool


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """A Prometheus that scrapes 127.0.0.1:``target`` every second; gives its address."""
    program = require_tool("prometheus")
    port = free_port()
    config = folder / "prometheus.yml"
    job = {"job_name": "plumbline", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    options = (f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}")
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [program, *options, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_S)


def value_of(address: str, query: str) -> float:
    """The one value of a query, as soon as Prometheus has one."""
    found: list[Any] = []

    def ask() -> bool:
        with suppress(OSError), urlopen(f"{address}/api/v1/query?query={quote(query)}", timeout=DEADLINE_S) as answer:  # noqa: S310 - our own address
            found[:] = json.load(answer)["data"]["result"]
        return bool(found)

    wait_until(ask, lambda: f"Prometheus has no value for {query}")
    return float(found[0]["value"][1])


def test_a_real_prometheus_scrapes_the_ledger(tmp_path: Path, example_models: Path) -> None:
    """What the service has stored stands in Prometheus, and the ledger adds up there."""
    with serving(tmp_path, models=example_models) as service, prometheus(tmp_path, service.port) as address:
        _, model = service.call("GET", "/openapi.json")
        post = model["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
        assert service.call("POST", "/predict", post["examples"]["one"]["value"])[0] == 200
        stored = 'ml_journal_rows_total{state="stored"}'
        balance = f'ml_journal_rows_total{{state="accepted"}} - ignoring(state) {stored}'

        assert value_of(address, f"{stored} > 0") == pytest.approx(1)
        assert value_of(address, balance) == 0
        assert value_of(address, "ml_model_loaded") == 1
