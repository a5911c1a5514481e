"""What a shadow does to the tail of `/predict`, and whether it keeps up: pairs of runs at half capacity."""

from __future__ import annotations

import shutil
import urllib.request
from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.bodies import example_body
from benchmarks.load.closed_loop import Figures
from benchmarks.load.pairs import COLUMNS, alternate
from benchmarks.results.table import Line, promises, table
from benchmarks.scenarios.settings import Setting, keep_rate
from benchmarks.servers.processes import EXAMPLE, MODELS, plumbline
from tests.support.models.bundles import rewrite

MAX_RATIO = 1.25
WARM_S = 3.0
QUIET = {"DRIFT__EVERY": "1d", "PERFORMANCE__EVERY": "1d", "SERVING__ACTIVE": f"{EXAMPLE}/1"}


def measure(setting: Setting) -> tuple[str, str]:
    """How it was measured, and the tables."""
    models, body = _two_versions(setting.folder / "models"), example_body()
    with plumbline(setting.folder, models=models, settings=QUIET) as (service, _):
        rate = setting.half_capacity(service.port, body)
    rows: Counter[str] = Counter()

    def run(beside: bool) -> Figures:
        settings = QUIET | ({"SERVING__SHADOWS": '["2"]'} if beside else {})
        with plumbline(setting.folder, models=models, settings=settings) as (service, _):
            keep_rate(service.port, body, rate, WARM_S)
            figures = keep_rate(service.port, body, rate, setting.seconds)
            rows.update(_shadow_rows(service.port))
        return figures

    pairs = alternate(setting.pairs, run)
    method = f"{setting.pairs} pairs of {setting.seconds:g} s at half capacity, {rows['stored']:,.0f} rows repeated"
    share, lost = pairs.p99_ratio, rows["dropped"] + rows["failed"]
    lines = [
        Line("p99 with a shadow, of the p99 without", f"{share:.2f}", f"at most {MAX_RATIO:g}", share <= MAX_RATIO),
        Line("rows that the shadow lost", f"{lost:,.0f}", "none", lost == 0),
    ]
    return method, promises(lines) + "\n" + table(COLUMNS, pairs.rows("with a shadow", "without"))


def _two_versions(models: Path) -> Path:
    """The example, and the same again as version 2."""
    for version in "12":
        shutil.copytree(MODELS / EXAMPLE / "1", models / EXAMPLE / version)
    rewrite(models / EXAMPLE / "2", version="2")
    return models


def _shadow_rows(port: int) -> dict[str, float]:
    """What became of the shadow's rows; nothing without one."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.labels["state"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "ml_shadow_rows_total"
    }
