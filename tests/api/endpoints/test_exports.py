"""Exports as Parquet: typed by the model's schema, in row groups, and a clear refusal without pyarrow."""

from __future__ import annotations

import csv
import io
import sys

import pytest
from pyarrow import parquet

from app.api.endpoints.exports import GROUP_ROWS, join_schemas, renderer
from app.errors import Invalid
from app.types import Feature, FeatureType, Json, Label, ModelSchema, Task

FEATURES = (
    Feature("age", FeatureType.INTEGER),
    Feature("member", FeatureType.BOOLEAN),
    Feature("channel", FeatureType.CATEGORICAL, categories=("web", "shop")),
    Feature("code", FeatureType.CATEGORICAL, categories=(1, 2)),
)


def schema(classes: tuple[Label, ...] = ("bad", "good"), features: tuple[Feature, ...] = FEATURES) -> ModelSchema:
    """A model with a feature of every type."""
    return ModelSchema("m", "1", Task.BINARY, features, classes, classes[-1])


def row(**changes: object) -> Json:
    """A row as an export renders it."""
    return {
        "prediction_id": "a",
        "model_name": "m",
        "model_version": "1",
        "features": {"age": 41, "member": True, "channel": "web", "code": 2},
        "context": {"region": "EU"},
        "prediction": "good",
        "probabilities": {"bad": 0.25, "good": 0.75},
        "predicted_at": "2026-01-01T00:00:00.000001Z",
        "outcome": None,
        **changes,
    }


def read(pages: list[list[Json]], of: ModelSchema) -> list[Json]:
    """What a reader finds in the exported pages."""
    rendered = renderer("parquet", of)
    parts = [*(rendered(page) for page in pages), rendered.end()]
    rows: list[Json] = parquet.read_table(io.BytesIO(b"".join(parts))).to_pylist()
    return rows


def test_every_column_has_its_type() -> None:
    """Numbers, flags, texts, coded categories and times keep their type; the context is JSON text."""
    found = read([[row(outcome={"outcome": "bad", "value": 1, "observed_at": None})]], schema())[0]

    assert (found["feature.age"], found["feature.member"]) == (41.0, True)
    assert (found["feature.channel"], found["feature.code"]) == ("web", 2)
    assert found["predicted_at"].isoformat() == "2026-01-01T00:00:00.000001+00:00"
    assert (found["outcome"], found["value"], found["observed_at"]) == ("bad", 1.0, None)
    assert found["context"] == '{"region":"EU"}'


def test_what_fits_no_type_is_null() -> None:
    """A text among numbers, a fraction among codes, a number among flags: null, and the file stays whole."""
    features = {"age": "old", "member": 7, "channel": 5, "code": 1.5}
    found = read([[row(features=features, context=None)]], schema())[0]

    assert (found["feature.age"], found["feature.member"], found["feature.code"]) == (None, None, None)
    assert (found["feature.channel"], found["context"]) == ("5", None)


@pytest.mark.parametrize(
    ("classes", "label"), [((0, 1), 1), ((False, True), True), ((0.5, 1.5), 1.5), (("a", 1), "1"), ((), 2.5)]
)
def test_labels_have_the_type_of_the_classes(classes: tuple[Label, ...], label: Label) -> None:
    """Whole numbers, flags, numbers and texts; classes of several types are text."""
    of = schema(classes) if classes else ModelSchema("m", "1", Task.REGRESSION, FEATURES)
    found = read([[row(prediction=1 if label == "1" else label, probabilities=None)]], of)[0]["prediction"]

    assert (type(found), found) == (type(label), label)


def test_versions_are_joined() -> None:
    """Columns of all versions, those of the active one first; of a version whose types are not known they are text."""
    newer = ModelSchema("m", "2", Task.BINARY, (*FEATURES, Feature("size", FeatureType.NUMERIC)), ("bad", "good"))
    noted = [{"schema": '{"task": "multiclass", "features": ["age", "shape"], "classes": ["bad", "odd"]}'}]
    joined = join_schemas(schema(), [newer], noted)
    page = [row(features={"size": 7.5}), row(features={"shape": 3}, prediction="odd", probabilities={"odd": 1.0})]
    first, second = read([page], joined)

    assert joined.feature_names == ("age", "member", "channel", "code", "size", "shape")
    assert joined.classes == ("bad", "good", "odd")
    assert (first["feature.size"], first["feature.shape"], second["feature.shape"]) == (7.5, None, "3")
    assert (second["prediction"], second["probability.odd"]) == ("odd", 1.0)


def test_a_changed_type_makes_a_column_text() -> None:
    """A feature that was a number and is a category now keeps the values of both."""
    newer = ModelSchema("m", "2", Task.BINARY, (Feature("age", FeatureType.CATEGORICAL, categories=("old",)),))
    found = read([[row(), row(features={"age": "old"})]], join_schemas(schema(), [newer], []))

    assert [each["feature.age"] for each in found] == ["41", "old"]


def test_a_changed_task_makes_labels_text() -> None:
    """Where a version was a regression, numbers and classes share their columns as text."""
    noted = [{"schema": '{"task": "regression", "features": ["age"], "classes": []}'}]
    found = read([[row(prediction=2.5), row(prediction="good")]], join_schemas(schema(), [], noted))

    assert [each["prediction"] for each in found] == ["2.5", "good"]


def test_rows_wait_for_a_full_group() -> None:
    """Bytes come with every full row group, so that an export of any length takes the memory of one."""
    rendered = renderer("parquet", schema())
    head = rendered([row()])
    sizes = [len(rendered([row()] * (GROUP_ROWS // 4))) for _ in range(8)]

    assert len(head) < 100
    assert [bool(size) for size in sizes] == [False, False, False, True] * 2
    assert len(rendered.end()) > 100


def test_no_rows_are_a_whole_file() -> None:
    """An export without rows is a Parquet file with its columns."""
    assert read([[]], schema()) == []


def test_without_pyarrow_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra is not installed, the refusal names it."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(Invalid) as refused:
        renderer("parquet", schema())

    assert "plumbline[parquet]" in str(refused.value.fields[0])


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "--1", "=HYPERLINK(A1)"])
def test_formulas_are_text_in_csv(text: str) -> None:
    """Wherever a text stands in a row, no spreadsheet runs it: an apostrophe comes first."""
    of = schema(features=(Feature("kind", FeatureType.CATEGORICAL),), classes=(text, "b"))
    outcome = {"outcome": text, "value": None, "observed_at": None}
    page = renderer("csv", of)([row(prediction_id=text, prediction=text, features={"kind": text}, outcome=outcome)])
    head, *cells = list(csv.reader(io.StringIO(page.decode(), newline="")))

    assert [cell for cell in head + cells[0] if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []
    assert cells[0].count(f"'{text}") == 4


@pytest.mark.parametrize("number", ["-1.5", "+3", "-7781", "-.5e-7"])
def test_numbers_stay_in_csv(number: str) -> None:
    """A number is no formula, whatever its sign, as a number or as text."""
    of = schema(features=(Feature("kind", FeatureType.CATEGORICAL), Feature("size", FeatureType.NUMERIC)))
    page = renderer("csv", of)([row(features={"kind": number, "size": float(number)})])

    assert "'" not in page.decode()
