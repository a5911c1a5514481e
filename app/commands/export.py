"""`plumbline export`: stored predictions, or a reference, in a file for other tools."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import httpx
import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from app.commands.serve import DEFAULT_URL
from app.commands.service import Url, explain_failure, explain_refusal
from app.errors import PlumblineError
from app.types import Feature, FeatureType, Json, Label, ModelSchema, Task, label_key, label_keys, named, to_rfc3339

if TYPE_CHECKING:
    import pandas as pd


class ExportFormat(StrEnum):
    """JSON lines, or CSV or Parquet with one column a feature."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


SUFFIXES = {".csv": ExportFormat.CSV, ".parquet": ExportFormat.PARQUET, ".pq": ExportFormat.PARQUET}


class Tool(StrEnum):
    """Another tool that reads the file."""

    PANDAS = "pandas"
    EVIDENTLY = "evidently"
    NANNYML = "nannyml"


def export(
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write; it takes its name once it is whole.")],
    url: Url = DEFAULT_URL,
    form: Annotated[ExportFormat | None, typer.Option("--format", help="Default: as the file is named.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="From this time on; RFC 3339 with its zone.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Before this time; RFC 3339 with its zone.")] = None,
    model_version: Annotated[str | None, typer.Option(help="Only the rows of this version.")] = None,
    labelled: Annotated[bool | None, typer.Option("--labelled/--unlabelled", help="With an outcome, or not.")] = None,
    tool: Annotated[
        Tool | None, typer.Option("--for", help="Columns and types for this tool, of one version, in CSV or Parquet.")
    ] = None,
    reference: Annotated[bool, typer.Option("--reference", help="Write the version's reference instead.")] = False,
    models: Annotated[Path, typer.Option(help="Folder of bundles, for --reference.")] = Path("models"),
    api_key: Annotated[str | None, typer.Option(envvar="PLUMBLINE_API_KEY", help="Key with the scope read.")] = None,
) -> None:
    """Write stored predictions with their outcomes to a file, in order of time."""
    asked = {"from": start, "to": end, "model_version": model_version, "labelled": labelled}
    params = {name: value for name, value in asked.items() if value is not None}
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    form = form or SUFFIXES.get(out.suffix.lower(), ExportFormat.JSONL)
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=60.0) as client:
            if tool is None and not reference:
                return _write_stream(client, {**params, "format": form.value}, out, form)
            schema = _schema(client, model_version)
            if reference:
                rows = read_reference(models / schema.name / schema.version, schema)
            else:
                rows = _read_rows(client, {**params, "format": "jsonl", "model_version": schema.version})
            return _write_table(schema, rows, out, tool or Tool.PANDAS, form)
    except httpx.TransportError as error:
        raise PlumblineError(f"{explain_failure(error, url)}; {out} is as it was") from None


def _write_stream(client: httpx.Client, params: Mapping[str, Any], out: Path, form: ExportFormat) -> None:
    """Write the export of the service as it comes."""
    rows, binary = RowCount(quoted=form is ExportFormat.CSV), form is ExportFormat.PARQUET
    console = Console(stderr=True)
    with whole_file(out) as file, client.stream("GET", "/predictions", params=dict(params)) as answer:
        _accept(answer)
        with _progress(console) as progress:
            task = progress.add_task("export", total=None, rows="")
            for part in answer.iter_bytes():
                file.write(part)
                progress.update(task, advance=len(part), rows="" if binary else f"{rows.add(part)} rows")
    console.print(f"{out.stat().st_size} bytes in {out}" if binary else f"{rows.rows} rows in {out}")


class RowCount:
    """Count rows in parts of a text: lines, without a CSV header or ends inside quotes."""

    def __init__(self, *, quoted: bool) -> None:
        self._quoted = quoted
        self._inside = False
        self._lines = 0

    @property
    def rows(self) -> int:
        """The rows so far."""
        return max(self._lines - 1, 0) if self._quoted else self._lines

    def add(self, part: bytes) -> int:
        r"""Take the next part; the rows so far.

        >>> RowCount(quoted=True).add(b'id,note\n1,"two\nlines"\n2,\n')
        2
        """
        pieces = part.split(b'"') if self._quoted else [part]
        self._lines += sum(piece.count(b"\n") for piece in pieces[self._inside :: 2])
        self._inside ^= len(pieces) % 2 == 0
        return self.rows


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name only when the block ends well and its bytes are on the disk."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise PlumblineError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _accept(answer: httpx.Response) -> None:
    """Go on with a 200; PlumblineError says what else came, and what to do."""
    url = str(answer.request.url.copy_with(raw_path=b"/")).rstrip("/")
    if answer.status_code != HTTPStatus.OK:
        answer.read()
        raise PlumblineError(explain_refusal(answer, url, "read"))
    if "x-request-id" not in answer.headers:  # which every answer of ours has
        raise PlumblineError(f"{url} answers no predictions: is this a Plumbline service?")


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.fields[rows]}"), DownloadColumn(), TimeElapsedColumn(), console=console
    )


OWN = ("prediction_id", "model_version", "predicted_at", "prediction", "outcome", "value", "observed_at")
"""The columns beside features and probabilities."""
TIMES = ("predicted_at", "observed_at")
TAIL = ("outcome", "value", "observed_at")


@dataclass(frozen=True)
class Layout:
    """The names of the columns of a table.

    A feature has the name of the schema. Another column that would have the same name begins with ``plumbline.``.

    Attributes:
        own: by the names of :data:`OWN`.
        probabilities: by the text of a class.
    """

    schema: ModelSchema
    own: Mapping[str, str]
    probabilities: Mapping[str, str]

    @classmethod
    def of(cls, schema: ModelSchema) -> Layout:
        """The layout of a version's rows."""
        taken = set(schema.feature_names)
        free = {name: f"plumbline.{name}" if name in taken else name for name in OWN}
        shares = {key: f"probability.{key}" for key in label_keys(schema.classes)}
        return cls(schema, free, {key: f"plumbline.{name}" if name in taken else name for key, name in shares.items()})

    @property
    def positive(self) -> str | None:
        """The column with the probability of the positive class."""
        return None if self.schema.positive is None else self.probabilities[label_key(self.schema.positive)]


def table_of(schema: ModelSchema, rows: Sequence[Mapping[str, Any]], tool: Tool) -> tuple[pd.DataFrame, Json]:
    """The rows as a table with typed columns, and how a tool is to read them.

    An integer stays one where every value is whole; an empty column keeps its type. Evidently and NannyML get classes
    and booleans as text, and NannyML a binary class as 1 for the positive one and 0 for the others.
    """
    import pandas as pd

    layout = Layout.of(schema)
    cells = {column: [row[name] for row in rows] for name, column in layout.own.items() if name not in TAIL}
    cells |= {name: [row["features"].get(name) for row in rows] for name in schema.feature_names}
    cells |= {
        column: [(row["probabilities"] or {}).get(key) for row in rows] for key, column in layout.probabilities.items()
    }
    cells |= {layout.own[name]: [(row["outcome"] or {}).get(name) for row in rows] for name in TAIL}
    types = dict.fromkeys(cells, "string") | dict.fromkeys(
        [*layout.probabilities.values(), layout.own["value"]], "Float64"
    )
    types |= {feature.name: _type_of(feature, tool) for feature in schema.features}
    for name in ("prediction", "outcome"):
        column = layout.own[name]
        types[column] = _type_of_labels(schema, tool)
        if tool is Tool.NANNYML and schema.positive is not None:
            cells[column] = [None if cell is None else int(cell == schema.positive) for cell in cells[column]]
    columns = {name: _column(values, types[name]) for name, values in cells.items()}
    for name in TIMES:
        times = pd.to_datetime(cells[layout.own[name]], utc=True, format="ISO8601")
        columns[layout.own[name]] = pd.Series(times, dtype="datetime64[us, UTC]")
    table = pd.DataFrame(columns)
    if tool is not Tool.PANDAS:
        kinds = {name: PLAIN.get(str(kind), str(kind)) for name, kind in table.dtypes.items()}
        holed = {name for name, kind in kinds.items() if kind == "int64" and table[name].hasnans}
        table = table.astype(kinds | dict.fromkeys(holed, "float64"))
    return table, _mapping(layout, table, tool)


PLAIN = {"Int64": "int64", "Float64": "float64", "string": "object"}
"""NumPy's types for those of pandas with a missing value of their own: Evidently and NannyML fail on these."""


def _type_of(feature: Feature, tool: Tool) -> str:
    if feature.type.is_number:
        return "Int64" if feature.type is FeatureType.INTEGER else "Float64"
    if tool is not Tool.PANDAS:
        return "string"
    return "boolean" if feature.type is FeatureType.BOOLEAN else _type_of_values(feature.categories)


def _type_of_labels(schema: ModelSchema, tool: Tool) -> str:
    if schema.task is Task.REGRESSION:
        return "Float64"
    if tool is Tool.NANNYML and schema.positive is not None:
        return "Int64"
    return _type_of_values(schema.classes) if tool is Tool.PANDAS else "string"


def _type_of_values(values: Sequence[Label]) -> str:
    kinds = {type(value) for value in values}
    return {bool: "boolean", int: "Int64", float: "Float64"}.get(kinds.pop(), "string") if len(kinds) == 1 else "string"


def _column(cells: Sequence[Any], kind: str) -> pd.Series[Any]:
    """A typed column; values that do not fit make it one of text or of doubles."""
    import pandas as pd

    known = [cell for cell in cells if cell is not None]
    if any(isinstance(cell, str) for cell in known) or (kind == "boolean" and not {*known} <= {0, 1}):
        kind = "string"
    if kind == "Int64" and not all(int(cell) == cell and abs(cell) < 2**63 for cell in known):
        kind = "Float64"
    if kind == "string":
        return pd.Series([None if cell is None else label_key(cell) for cell in cells], dtype="string")
    made = {"Int64": int, "Float64": float, "boolean": bool}[kind]
    return pd.Series([None if cell is None else made(cell) for cell in cells], dtype=kind)


def _mapping(layout: Layout, table: pd.DataFrame, tool: Tool) -> Json:
    """The columns in the words of a tool's parameters; those without a value are left out."""
    schema, own = layout.schema, layout.own
    full = [feature for feature in schema.features if bool(table[feature.name].notna().any())]
    numbers = [feature.name for feature in full if feature.type.is_number]
    others = [feature.name for feature in full if not feature.type.is_number]
    times = [own[name] for name in TIMES]
    time = own["predicted_at"] if bool(table[own["predicted_at"]].notna().any()) else None
    types = {name: str(kind) for name, kind in table.dtypes.items() if name not in times}
    read: Json = {"dtype": types, "parse_dates": times, "keep_default_na": False, "na_values": [""]}
    answers = {"target": own["outcome"], "prediction": own["prediction"]}
    if tool is Tool.PANDAS:
        return {"read_csv": read, "features": [*schema.feature_names], **answers}
    if tool is Tool.EVIDENTLY:
        definition: Json = {"id_column": own["prediction_id"], "timestamp": time}
        definition |= {"numerical_columns": numbers, "categorical_columns": others}
        return {"read_csv": read, "data_definition": definition, **_evidently(layout, answers)}
    return {"read_csv": read, "timestamp_column_name": time, "column_names": numbers + others,
            "treat_as_categorical": others, "y_true": own["outcome"], "y_pred": own["prediction"],
            **_nannyml(layout)}  # fmt: skip


def _evidently(layout: Layout, answers: Json) -> Json:
    schema, labels = layout.schema, {"target": answers["target"], "prediction_labels": answers["prediction"]}
    if schema.task is Task.REGRESSION:
        return {"regression": answers}
    if schema.positive is None:
        return {"multiclass_classification": {**labels, "prediction_probas": [*layout.probabilities.values()]}}
    positive = {"prediction_probas": layout.positive, "pos_label": label_key(schema.positive)}
    return {"binary_classification": labels | positive}


def _nannyml(layout: Layout) -> Json:
    if layout.schema.task is Task.REGRESSION:
        return {"problem_type": "regression"}
    shares = layout.positive or dict(layout.probabilities)
    return {"problem_type": f"classification_{layout.schema.task.value}", "y_pred_proba": shares}


def _write_table(
    schema: ModelSchema, rows: Sequence[Mapping[str, Any]], out: Path, tool: Tool, form: ExportFormat
) -> None:
    """Write the table and its mapping; JSON lines have no columns, and are CSV here."""
    table, mapping = table_of(schema, rows, tool)
    with whole_file(out) as file:
        if form is ExportFormat.PARQUET:
            from app.api.endpoints.exports import import_parquet

            import_parquet()
            table.to_parquet(file, index=False)
        else:
            table.to_csv(file, index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")
    beside = out.with_name(f"{out.name}.mapping.json")
    with whole_file(beside) as file:
        file.write(json.dumps(mapping, indent=1, ensure_ascii=False).encode() + b"\n")
    Console(stderr=True).print(f"{len(table)} rows in {out}, their columns in {beside}")


def _schema(client: httpx.Client, version: str | None) -> ModelSchema:
    """The schema of a loaded version, by default of the one that answers."""
    answer = client.get("/models")
    _accept(answer)
    [model] = answer.json()["items"]
    for found in model["versions"]:
        if "features" in found and (found["version"] == version if version else found["role"] == "active"):
            return _parse_schema(model["name"], found)
    raise PlumblineError(f"version {version} is not loaded: its columns are not known; leave out --for")


def _parse_schema(name: str, found: Json) -> ModelSchema:
    features = tuple(
        Feature(each["name"], FeatureType(each["type"]), categories=tuple(each["categories"]))
        for each in found["features"]
    )
    return ModelSchema(
        name, found["version"], Task(found["task"]), features, tuple(found["classes"]), found["positive_class"]
    )


def _read_rows(client: httpx.Client, params: Mapping[str, Any]) -> list[Json]:
    with client.stream("GET", "/predictions", params=dict(params)) as answer:
        _accept(answer)
        return [json.loads(line) for line in answer.iter_lines()]


def read_reference(folder: Path, schema: ModelSchema) -> list[Json]:
    """The reference of a bundle in the form of stored rows.

    Raises:
        BundleError: it cannot be read.
    """
    from app.monitoring.reference.reference import load_reference

    reference = load_reference(folder, schema)
    columns = [
        _decoded(feature, values.tolist()) for feature, values in zip(schema.features, reference.columns, strict=True)
    ]
    predictions = _decoded_labels(schema, reference.predictions.tolist())
    empty = [None] * reference.rows
    outcomes = empty if reference.outcomes is None else _decoded_labels(schema, reference.outcomes.tolist())
    shares = empty if reference.probabilities is None else reference.probabilities.tolist()
    times = empty if reference.times is None else [to_rfc3339(time) for time in reference.times.tolist()]
    return [
        {
            "prediction_id": f"reference-{place}",
            "model_version": schema.version,
            "predicted_at": time,
            "features": dict(zip(schema.feature_names, row, strict=True)),
            "prediction": prediction,
            "probabilities": None if share is None else named(schema.classes, share),
            "outcome": {"outcome": outcome},
        }
        for place, (row, prediction, outcome, share, time) in enumerate(
            zip(zip(*columns, strict=True), predictions, outcomes, shares, times, strict=True)
        )
    ]


def _decoded(feature: Feature, values: Sequence[Any]) -> list[Any]:
    """The values behind their codes; an unseen category has none any more."""
    if feature.type is FeatureType.CATEGORICAL:
        return [feature.categories[code] if code >= 0 else None for code in values]
    present = [None if value != value else value for value in values]  # noqa: PLR0124 - NaN differs from itself
    return (
        [None if value is None else bool(value) for value in present]
        if feature.type is FeatureType.BOOLEAN
        else present
    )


def _decoded_labels(schema: ModelSchema, codes: Sequence[Any]) -> list[Label | None]:
    if schema.task is Task.REGRESSION:
        return [None if code != code else code for code in codes]  # noqa: PLR0124 - as above
    return [schema.classes[code] if code >= 0 else None for code in codes]
