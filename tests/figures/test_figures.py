"""Completeness of the tables of figures: an entry is measured, exported, usable in rules, shown, described, counted."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pytest

from app.alerting.rules.configured import look_up, rule_set
from app.config.settings import Rule
from app.figures.drift import (
    ALL,
    DRIFT_STATISTICS,
    FEATURE_CHECKS,
    WINDOW_CHECKS,
    DriftStatistic,
    checks_of,
    finding_kinds,
)
from app.figures.performance import PERFORMANCE_METRICS, PerformanceMetric, metrics_of
from app.monitoring.performance.metrics import VALUES
from app.monitoring.performance.standard_errors import INTERVALS
from app.monitoring.quality.report import FEATURE_TESTS, WINDOW_TESTS
from app.monitoring.quality.traffic import quality_tests
from app.statistics.distances import OF_HISTOGRAMS, OF_VALUES
from app.types import FeatureType, Micros, ModelSchema, Report, Task
from docs.generate_figures import TABLES, filled
from tests.support.application import Client, client_of, make_config, samples
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT

MODELS = {Task.BINARY: "mixed", Task.MULTICLASS: "three", Task.REGRESSION: "price"}


@dataclass(frozen=True)
class Watched:
    """What a running service says after a check, everywhere it says it."""

    schema: ModelSchema
    bodies: dict[str, Any]
    pages: dict[str, str]
    exported: set[frozenset[tuple[str, str]]]

    def value(self, figure: str) -> float | None:
        """What a rule over a figure sees in the stored reports."""
        kind = figure.partition(".")[0]
        return look_up(figure, Report("r", kind, "m", "1", Micros(0), "ok", self.bodies[kind]))

    def has_series(self, **labels: str) -> bool:
        """Tell whether ``/metrics`` has a series with these labels."""
        return any(frozenset(labels.items()) <= found for found in self.exported)


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> dict[Task, Watched]:
    """A service of each task, after rows with outcomes and a check."""
    models, fitted = small_models
    return {task: _watch(tmp_path_factory.mktemp("figures"), models, fitted[name]) for task, name in MODELS.items()}


def _watch(folder: Path, models: Path, fitted: Fitted) -> Watched:
    rows, truth = fitted.rows, fitted.data["y"].tolist()
    with client_of(make_config(folder, models, fitted.name)) as client:
        answers = client.post("/predict", {"instances": rows}).json()["predictions"]
        outcomes = [
            {"prediction_id": answer["prediction_id"], "outcome": label}
            for answer, label in zip(answers, truth, strict=True)
        ]
        client.post("/outcome", {"outcomes": outcomes})
        reports = {each["kind"]: each["report_id"] for each in client.post("/checks").json()["reports"]}
        return Watched(
            client.services.registry.active.schema,
            {kind: client.get(f"/reports/{report}").json() for kind, report in reports.items()},
            {kind: client.get(f"/reports/{report}.html").text for kind, report in reports.items()},
            _series(client),
        )


def _series(client: Client) -> set[frozenset[tuple[str, str]]]:
    """Every series of ``/metrics`` as its labels and its name."""
    return {frozenset([*labels, ("series", name)]) for name, labels in samples(client.get("/metrics").text)}


def test_types_are_those_of_features() -> None:
    """The tables name every type that a feature can have, and no other."""
    assert set(ALL) == {each.value for each in FeatureType}


def test_every_statistic_is_measured() -> None:
    """Each distance of the table has a function under its name, and each function is in the table."""
    named = {statistic.name for statistic in DRIFT_STATISTICS if statistic.is_distance}
    floors = {*OF_HISTOGRAMS, *(name for name, distance in OF_VALUES.items() if distance.noise_floor is not None)}

    assert named == {*OF_HISTOGRAMS, *OF_VALUES}
    assert {statistic.name for statistic in DRIFT_STATISTICS if statistic.noise_floor} == floors


@pytest.mark.parametrize("statistic", DRIFT_STATISTICS, ids=lambda each: each.name)
def test_every_statistic_is_everywhere(watched: dict[Task, Watched], statistic: DriftStatistic) -> None:
    """It is in the report, on /metrics with its noise floor, a figure for rules, and on the page with its meaning."""
    found = watched[Task.BINARY]
    features = [feature for feature in found.schema.features if feature.type in statistic.types]

    assert features
    for feature in features:
        figure = f"drift.feature.{feature.name}.{statistic.name}"
        labels = {"series": "ml_drift_statistic", "feature_name": feature.name}
        rule_set([Rule.model_validate({"name": "mine", "metric": figure, "warning": 1.0})], found.schema, ())

        assert found.value(figure) is not None, figure
        assert found.has_series(**labels, statistic=statistic.name), figure
        assert not statistic.noise_floor or found.has_series(**labels, statistic=statistic.noise_floor), figure
    assert f"<dt>{escape(statistic.title)}</dt>" in found.pages["drift"]
    assert escape(statistic.description).replace("&#x27;", "&#39;") in found.pages["drift"]


def test_no_distance_is_left_out_of_the_table(watched: dict[Task, Watched]) -> None:
    """Every number of a column's entry is a figure of the table, a noise floor, or about the rows it rests on."""
    known = {statistic.name for statistic in DRIFT_STATISTICS} | {each.noise_floor for each in DRIFT_STATISTICS}
    about_rows = {"effect", "effective_rows", "inflation"}
    entries = watched[Task.BINARY].bodies["drift"]["features"].values()
    numbers = {
        name
        for entry in entries
        for name, value in entry.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }

    assert numbers - about_rows <= known


def test_every_metric_is_measured() -> None:
    """Each metric has a function for its value and one for its interval, and no function is without its metric."""
    assert {metric.name for metric in PERFORMANCE_METRICS} == VALUES.keys() == INTERVALS.keys()


CASES = [(task, metric) for task in Task for metric in metrics_of(task)]


@pytest.mark.parametrize(("task", "metric"), CASES, ids=lambda each: getattr(each, "name", each))
def test_every_metric_is_everywhere(watched: dict[Task, Watched], task: Task, metric: PerformanceMetric) -> None:
    """It is in the report, on /metrics on each basis that it has, a figure for rules, and explained on the page."""
    found = watched[task]
    bases = ["realised", "estimated"] if metric.is_estimated else ["realised"]

    for basis in bases:
        figure = f"performance.{basis}.{metric.name}"
        rule_set([Rule.model_validate({"name": "mine", "metric": figure, "warning": 1.0})], found.schema, ())

        assert found.value(figure) is not None, figure
    for basis in [*bases, "baseline"]:
        assert found.has_series(series="ml_model_performance", metric=metric.name, basis=basis), basis
    shown = found.pages["performance"]
    assert f">{metric.name.replace('_', ' ')}</td>" in shown
    assert f'title="{escape(metric.description).replace("&#x27;", "&#39;")}"' in shown


@pytest.mark.parametrize("task", Task)
def test_the_report_has_the_metrics_of_the_table(watched: dict[Task, Watched], task: Task) -> None:
    """A report has the metrics that the table gives its task, in that order, and estimates those that it says."""
    body = watched[task].bodies["performance"]

    assert list(body["realised"]["metrics"]) == [metric.name for metric in metrics_of(task)]
    assert set(body["estimated"]["metrics"]) == {metric.name for metric in metrics_of(task) if metric.is_estimated}


def test_every_quality_check_runs_and_is_counted() -> None:
    """Each check of the lists has its function, and the budget is divided by as many tests as one feature can have."""
    most = max(len(checks_of(feature_type)) for feature_type in FeatureType)

    assert [check.name for check in FEATURE_CHECKS] == list(FEATURE_TESTS)
    assert [check.name for check in WINDOW_CHECKS] == list(WINDOW_TESTS)
    assert quality_tests(10) == 10 * most + len(WINDOW_CHECKS)
    assert {name for feature_type in FeatureType for name in checks_of(feature_type)} == set(FEATURE_CHECKS)


@pytest.mark.parametrize("kind", finding_kinds())
def test_every_kind_of_finding_is_exported_and_described(watched: dict[Task, Watched], kind: str) -> None:
    """The series of a kind exists from the start, and the page on data quality says what it is."""
    described = (ROOT / "docs" / "data-quality.md").read_text(encoding="utf-8")

    assert watched[Task.BINARY].has_series(series="ml_data_quality_findings", kind=kind)
    assert f"| `{kind}` |" in described


@pytest.mark.parametrize("page", sorted({page for page, _ in TABLES.values()}))
def test_the_documentation_has_the_tables(page: str) -> None:
    """The tables of the documentation are those that ``docs/generate_figures.py`` writes."""
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == filled(page)
