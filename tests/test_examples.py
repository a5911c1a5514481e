"""The example bundles are real, load, and come with live rows that the model has not seen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from app.monitoring.reference.reference import load_reference
from app.serving.bundle.reader import Bundle, read_bundle
from app.serving.bundle.schema_inference import rows_of
from app.types import FeatureType
from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def breast_cancer(example_models: Path) -> Bundle:
    """The smaller example."""
    return read_bundle(example_models / "breast_cancer" / "1")


@pytest.fixture(scope="module")
def flights(flights_models: Path) -> Bundle:
    """The larger example."""
    return read_bundle(flights_models / "flights" / "1")


def live_accuracy(bundle: Bundle, rows: int) -> float:
    """Share of live rows that the served model answers rightly."""
    live = pd.read_csv(bundle.folder / "live.csv")
    assert [*bundle.schema.feature_names, "outcome"] == live.columns.tolist()
    answers = bundle.estimator.predict(rows_of(bundle.schema.features, live[:rows]))
    return float((live["outcome"][:rows] == [answer.prediction for answer in answers]).mean())


def test_breast_cancer(breast_cancer: Bundle) -> None:
    """The smaller example is as right about live rows as its baseline says, within what chance explains."""
    assert (
        breast_cancer.schema.positive,
        breast_cancer.input,
        breast_cancer.in_sample,
    ) == ("malignant", "array", False)
    assert breast_cancer.runtime == "onnx"
    assert "mean_radius" in breast_cancer.schema.feature_names
    assert live_accuracy(breast_cancer, 200) == pytest.approx(breast_cancer.baseline["accuracy"], abs=0.06)


def test_flights(flights: Bundle) -> None:
    """The larger example has numbers, categories and nulls, and is as right about live rows as on its reference."""
    types = {feature.type for feature in flights.schema.features}
    assert {FeatureType.NUMERIC, FeatureType.INTEGER, FeatureType.CATEGORICAL} == types
    assert any(feature.nullable for feature in flights.schema.features)
    assert flights.runtime == "onnx"
    assert load_reference(flights.folder, flights.schema).rows == 10_000
    assert live_accuracy(flights, 20_000) == pytest.approx(flights.baseline["accuracy"], abs=0.012)


def test_deterministic(breast_cancer: Bundle, tmp_path: Path) -> None:
    """Built again, an example has the same rows, reference and answers."""
    subprocess.run([sys.executable, ROOT / "models" / "examples.py", "breast_cancer", "--models", tmp_path], check=True)
    again = tmp_path / "breast_cancer" / "1"

    assert (breast_cancer.folder / "live.csv").read_bytes() == (again / "live.csv").read_bytes()
    assert breast_cancer.estimator.predict(breast_cancer.golden_rows) == read_bundle(again).estimator.predict(
        breast_cancer.golden_rows
    )
