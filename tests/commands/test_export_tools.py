"""`plumbline export --for TOOL`: the tables that other tools read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.commands.export import Tool, table_of
from app.types import Feature, FeatureType, Json, ModelSchema, Task
from tests.support.models.tasks import Fitted
from tests.support.processes import Service, serving
from tests.support.programs import run_command


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service over features of every type, whose rows have an outcome, but the last ten."""
    fitted = small_models[1]["mixed"]
    settings = {"SERVING__ACTIVE": "mixed"}
    with serving(tmp_path_factory.mktemp("tools"), models=small_models[0], settings=settings) as running:
        status, answer = running.call("POST", "/predict", {"instances": fitted.rows})
        assert status == 200
        given = list(zip(answer["predictions"], fitted.data["y"].tolist(), strict=True))[:-10]
        outcomes = [{"prediction_id": item["prediction_id"], "outcome": label} for item, label in given]
        assert running.call("POST", "/outcome", {"outcomes": outcomes})[0] == 200
        yield running


def exported(service: Service, out: Path, *options: str) -> tuple[pd.DataFrame, Json]:
    """A table as pandas reads it by its mapping, and the mapping."""
    done = run_command("export", "--url", f"http://127.0.0.1:{service.port}", "--out", out, *options)
    assert done.returncode == 0, done.stderr
    mapping = json.loads(out.with_name(f"{out.name}.mapping.json").read_text(encoding="utf-8"))
    if "parquet" in options:
        return pd.read_parquet(out), mapping
    return pd.read_csv(out, **mapping["read_csv"]), mapping


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_pandas_reads_names_and_types_of_the_schema(
    service: Service, tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], form: str
) -> None:
    """Columns have the schema's names, integers stay integers beside missing ones, an empty column has its type."""
    fitted = small_models[1]["mixed"]
    table, mapping = exported(service, tmp_path / "rows", "--for", "pandas", "--format", form)
    kinds = {name: str(kind) for name, kind in table.dtypes.items()}

    assert mapping["features"] == list(fitted.rows[0])
    read = table[mapping["features"]].astype(object)
    expected = [{name: row.get(name) for name in mapping["features"]} for row in fitted.rows]
    assert read.where(read.notna(), None).to_dict("records") == expected
    assert (kinds["age"], kinds["income"], kinds["member"], kinds["channel"]) == (
        "Int64", "Float64", "boolean", "string",
    )  # fmt: skip
    assert kinds["predicted_at"].startswith("datetime64[")
    assert (kinds["value"], bool(table["value"].isna().all())) == ("Float64", True)
    assert table[str(mapping["target"])].isna().tolist().count(True) == 10


@pytest.mark.parametrize("tool", Tool)
def test_a_reference_has_the_same_columns(
    service: Service, tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], tool: Tool
) -> None:
    """Reference and rows can be compared: same names in the same order, and the same known categories."""
    options = ("--for", tool.value)
    rows, _ = exported(service, tmp_path / "rows.csv", *options)
    kept, mapping = exported(service, tmp_path / "kept.csv", *options, "--reference", "--models", str(small_models[0]))

    assert list(kept.columns) == list(rows.columns)
    assert len(kept) > 0
    assert set(kept["channel"].dropna()) <= set(rows["channel"].dropna())
    assert kept["prediction"].notna().all()
    assert mapping.keys() == exported(service, tmp_path / "rows.csv", *options)[1].keys()


def test_evidently_gets_its_definition(service: Service, tmp_path: Path) -> None:
    """Every column of the definition is in the file and has a value; booleans are categories."""
    table, mapping = exported(service, tmp_path / "rows.csv", "--for", "evidently")
    definition = mapping["data_definition"]
    named = [*definition["numerical_columns"], *definition["categorical_columns"]]

    assert sorted(definition["numerical_columns"]) == ["age", "income"]
    assert {"channel", "member"} <= {*definition["categorical_columns"]}
    assert all(table[name].notna().any() for name in named)
    assert mapping["binary_classification"]["prediction_probas"] in table
    assert mapping["binary_classification"]["pos_label"] in set(table["prediction"])


def test_nannyml_gets_zeros_and_ones(service: Service, tmp_path: Path) -> None:
    """A binary class is 1 or 0, so that realised performance and CBPE are numbers, and a missing outcome is missing."""
    table, mapping = exported(service, tmp_path / "rows.csv", "--for", "nannyml")

    assert set(table[mapping["y_pred"]]) == {0, 1}
    assert set(table[mapping["y_true"]].dropna()) == {0, 1}
    assert table[str(mapping["y_true"])].isna().tolist().count(True) == 10
    assert mapping["problem_type"] == "classification_binary"
    agreeing = (table[mapping["y_pred_proba"]] >= 0.5) == (table[mapping["y_pred"]] == 1)
    assert bool(agreeing.all())


def row(**more: Any) -> Json:
    """A stored row with one feature."""
    return {
        "prediction_id": "p", "model_version": "1", "predicted_at": "2026-11-20T10:00:00.000000Z", "prediction": 1.5,
        "probabilities": None, "outcome": None, "features": {}, **more,
    }  # fmt: skip


def test_a_feature_keeps_its_name_where_a_column_has_it_too() -> None:
    """The other column gives way: a feature called ``value`` or ``outcome`` is the feature."""
    features = (Feature("value", FeatureType.INTEGER), Feature("outcome", FeatureType.NUMERIC))
    schema = ModelSchema("m", "1", Task.REGRESSION, features)
    told = {"outcome": 2.5, "value": -1.0, "observed_at": None}
    table, mapping = table_of(schema, [row(features={"value": 7, "outcome": 0.5}, outcome=told)], Tool.PANDAS)

    assert (table["value"].tolist(), table["outcome"].tolist()) == ([7], [0.5])
    assert (table[str(mapping["target"])].tolist(), table["plumbline.value"].tolist()) == ([2.5], [-1.0])


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        (FeatureType.INTEGER, [1, None, 2.0], "Int64"),
        (FeatureType.INTEGER, [1, 2.5], "Float64"),
        (FeatureType.INTEGER, [1, 10**19], "Float64"),
        (FeatureType.NUMERIC, [1, 2], "Float64"),
        (FeatureType.NUMERIC, ["sha256:ab", None], "string"),
        (FeatureType.BOOLEAN, [True, None, 0], "boolean"),
        (FeatureType.INTEGER, [None, None], "Int64"),
        (FeatureType.BOOLEAN, [None], "boolean"),
        (FeatureType.CATEGORICAL, [None], "string"),
    ],
)
def test_a_column_has_the_type_that_holds_its_values(kind: FeatureType, cells: list[Any], expected: str) -> None:
    """Fractions, large numbers and hashes lose nothing, and a column without a value has the type of the schema."""
    schema = ModelSchema("m", "1", Task.REGRESSION, (Feature("x", kind),))
    table, _ = table_of(schema, [row(features={"x": cell}) for cell in cells], Tool.PANDAS)

    assert str(table["x"].dtype) == expected
    assert table["x"].isna().tolist() == [cell is None for cell in cells]
