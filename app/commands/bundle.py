"""`plumbline bundle`: make a bundle of a model file and the data that it was fitted on."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from app.commands.serve import plumbline_command
from app.commands.tables.columns import read_columns
from app.commands.tables.dialect import DayFirst, Decimal, Delimiter, Dialect, Missing, TimeZone
from app.errors import BundleError
from app.serving.runtimes.formats import AUTO, FORMATS, format_of_file, storable, suffixes
from app.types import Feature, FeatureType, Json

if TYPE_CHECKING:
    import pandas as pd

    from app.serving.bundle.manifest import Manifest, ProofEntry
    from app.serving.bundle.schema_inference import KnownColumns
    from app.serving.bundle.user_code import UserCode

SHOWN_CATEGORIES = 6
CONFIDENCE = 0.95
MIN_ROWS, GOOD_ROWS = 50, 1000
"""Rows below which there is no verdict, and rows of a window as configured."""
SHOWN_DEPENDENCE = 3
Holdout = Annotated[Path | None, typer.Option(help="Rows it was not fitted on; without, verdicts are withheld.")]
Positive = Annotated[str | None, typer.Option(help="Class that counts as positive; default: the second of two.")]
Threshold = Annotated[float | None, typer.Option(min=0, max=1, help="Probability from which it is predicted.")]
InSample = Annotated[
    bool, typer.Option("--in-sample", help="Take a holdout with rows of --data; verdicts are withheld.")
]
Categorical = Annotated[
    list[str] | None, typer.Option(help="Column of codes whose order means nothing; may be given again.")
]
AllowPickle = Annotated[bool, typer.Option("--allow-pickle", help="Load a pickle, which runs the code inside it.")]
SingleRows = Annotated[bool, typer.Option("--single-rows", help="Let the model answer one row at a time.")]
Golden = Annotated[Path | None, typer.Option(help="Rows with the model's own answers, which it must give here too.")]
ReferenceRows = Annotated[
    int, typer.Option(min=100, help="Rows kept for drift and estimates; baselines are of all rows.")
]
CodePath = Annotated[
    list[Path] | None, typer.Option(help="Own module or package that the model needs; may be given again.")
]
AcceptVersion = Annotated[
    bool, typer.Option("--accept-version", help="Take a file of another scikit-learn; needs --golden.")
]


def bundle(
    *,
    model: Annotated[Path, typer.Argument(help=f"Fitted scikit-learn model or ONNX file: {suffixes()}.")],
    data: Annotated[Path, typer.Option(help="CSV, TSV, JSON lines or Parquet file that the model was fitted on.")],
    target: Annotated[str, typer.Option(help="Column with the truth.")],
    name: Annotated[str, typer.Option(help="Name of the model.")],
    holdout: Holdout = None,
    version: Annotated[str, typer.Option(help="Version of the model.")] = "1",
    models: Annotated[Path, typer.Option(help="Folder of bundles.")] = Path("models"),
    positive: Positive = None,
    threshold: Threshold = None,
    time: Annotated[str | None, typer.Option(help="Column with the rows' times.")] = None,
    time_zone: TimeZone = None,
    day_first: DayFirst = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    na: Missing = None,
    categorical: Categorical = None,
    in_sample: InSample = False,
    schema: Annotated[Path | None, typer.Option(help="Edited features, in the form that --show prints.")] = None,
    trust: Annotated[list[str] | None, typer.Option(help="Type that may be loaded beyond the reviewed list.")] = None,
    format: Annotated[str, typer.Option(help=f"How it is stored: {' or '.join([AUTO, *storable()])}.")] = AUTO,  # noqa: A002
    allow_pickle: AllowPickle = False,
    single_rows: SingleRows = False,
    golden: Golden = None,
    accept_version: AcceptVersion = False,
    reference_rows: ReferenceRows = 10_000,
    code_path: CodePath = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the version if it is there.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the inferred features as YAML and stop.")] = False,
) -> None:
    """Make a bundle of a fitted model, and prove that it answers as before."""
    from app.bundling import TimeColumn, build_bundle, known_columns

    _check_options(format, schema, categorical)
    dialect, accept = Dialect.of(delimiter, decimal, na), accept_version and golden is not None
    with Console(stderr=True).status(f"bundling {name}/{version}"):
        fitted, made_by = _load(model, allow_pickle, trust or (), code_path or (), accept=accept)
        features: Sequence[Feature] | None = None if schema is None else read_features(schema)
        read = partial(_read, dialect=dialect, known=known_columns(fitted), features=features, target=target, time=time)
        given: dict[str, Any] = {"data": read(data), "holdout": holdout and read(holdout), "target": target}
        given |= {"time": TimeColumn(time, time_zone, day_first)}
        features = features or _with_codes(fitted, categorical or (), **given)
        if show:
            return _show(features)
        given |= {"name": name, "version": version, "models": models, "positive": positive, "threshold": threshold}
        given |= {"format": format, "trusted_types": trust or (), "replace": replace, "single_rows": single_rows}
        given |= {"features": features, "in_sample": in_sample, "reference_rows": reference_rows, "made_by": made_by}
        given |= {"code_path": code_path or (), "golden": golden and read(golden, answers=True)}
        return _report(build_bundle(fitted, **given), trust or ())


def _check_options(format: str, schema: Path | None, categorical: Sequence[str] | None) -> None:  # noqa: A002 - the option's name
    if schema is not None and categorical:
        raise typer.BadParameter("an edited schema says what is categorical", param_hint="--categorical")
    if format not in (known := [AUTO, *storable()]):
        raise typer.BadParameter(f"{format} is not one of {', '.join(known)}", param_hint="--format")


def _read(
    file: Path,
    *,
    dialect: Dialect,
    known: KnownColumns,
    features: Sequence[Feature] | None,
    target: str,
    time: str | None,
    answers: bool = False,
) -> pd.DataFrame:
    """Read data with the types that the schema and the model know, and say what was assumed.

    Args:
        answers: the file has the model's answers, not the truth.
    """
    types = {**known.features, **{feature.name: feature for feature in features or ()}}
    if known.classes == ():
        types[target] = Feature(target, FeatureType.NUMERIC, nullable=True)
    columns = read_columns(
        file,
        dialect,
        names=None if known.names is None or answers else [*known.names, target],
        known=types,
        classes={target: known.classes} if known.classes else None,
        as_written=["prediction"] if answers else [] if time is None else [time],
    )
    if assumed := columns.assumptions():
        typer.echo(assumed, err=True)
    if features:
        columns.refuse_misfits()
    return columns.frame


def _with_codes(model: Any, names: Sequence[str], **data: Any) -> tuple[Feature, ...]:
    """Infer the schema, with some columns as categories; the model gets their values as before.

    Raises:
        BadParameter: the data have no such column.
    """
    from app.bundling import infer_schema

    if absent := [name for name in names if name not in data["data"].columns]:
        raise typer.BadParameter(f"the data has no column {', '.join(absent)}", param_hint="--categorical")
    kinds = dict.fromkeys(names, "category")
    coded = {key: data[key].astype(kinds) for key in ("data", "holdout") if data[key] is not None}
    return infer_schema(model, **{**data, **coded})


def _load(
    path: Path, allow_pickle: bool, trusted_types: Sequence[str], code_path: Sequence[Path], *, accept: bool
) -> tuple[Any, str | None]:
    """Load a model, and name what wrote it, where that is another version.

    Raises:
        BundleError: it is, and is not accepted; or as :func:`load_model_file`.
    """
    from app.serving.bundle.user_code import UserCode, pack
    from app.serving.runtimes.sklearn import another_version

    code = UserCode(pack(code_path)) if code_path else None
    fitted, versions = load_model_file(path, allow_pickle=allow_pickle, trusted_types=trusted_types, code=code)
    if versions and not accept:
        raise BundleError(another_version(versions, str(path)))
    return fitted, f"scikit-learn {', '.join(versions)}" if versions else None


def _show(features: Sequence[Feature]) -> None:
    from app.serving.bundle.manifest import entries

    typer.echo(yaml.safe_dump({"features": entries(features)}, sort_keys=False, allow_unicode=True), nl=False)


def _report(folder: Path, trusted_types: Sequence[str]) -> None:
    from app.serving.bundle.manifest import MANIFEST, PROFILE, parse_manifest

    manifest = parse_manifest((folder / MANIFEST).read_bytes(), str(folder / MANIFEST))
    Console().print(_described(manifest))
    typer.echo(_runtime(manifest))
    if manifest.proof is not None:
        typer.echo(_about_proof(manifest.proof, manifest.made_by))
    for line in manifest.warnings:
        typer.echo(f"warning: {line}", err=True)
    profile = json.loads((folder / PROFILE).read_bytes())
    typer.echo(_about_reference(profile))
    for line in _about_baseline(folder, manifest):
        typer.echo(line)
    for line in about_verdicts(profile, manifest):
        typer.echo(line)
    typer.echo(f"{folder}\n\nNext:\n  {_next_command(folder, manifest, trusted_types)}")


def _about_baseline(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Say how good the model's answers to the reference are, with intervals of 95 %."""
    from app.monitoring.performance.degradation import Baseline
    from app.monitoring.reference.reference import load_reference

    scored = Baseline(reference := load_reference(folder, manifest.schema_of())).scored
    if scored is None or not scored.rows:
        yield "baseline: none, since no row of the reference has a known outcome"
        return
    yield f"baseline over {scored.rows:,} rows with their outcome, with its interval of 95 %:"
    for name, measured in scored.measure(ordered=reference.times is not None).items():
        if measured.value is not None:
            low, high = measured.interval.bounds(CONFIDENCE) if measured.interval else (math.nan, math.nan)
            interval = f" [{low:.3g}, {high:.3g}]" if math.isfinite(low) and math.isfinite(high) else ""
            yield f"  {name:20} {measured.value:.4g}{interval}"


def about_verdicts(profile: Json, manifest: Manifest) -> Iterator[str]:
    """Say which verdicts the reference is fit for, and what would make it fit for more."""
    rows, kept = profile["judged_rows"], profile["rows"]
    outcomes = bool(profile["baseline"])
    enough = kept >= MIN_ROWS
    own = enough and not profile["in_sample"]
    verdicts = {"drift of features": enough, "drift of predictions": own, "performance": own and outcomes}
    yield f"fit for verdicts on {', '.join(f'{name}: {_yes(fit=fit)}' for name, fit in verdicts.items())}"
    if profile["in_sample"]:
        yield "  to change that: give rows that the model was not fitted on with --holdout"
    if not outcomes:
        yield f"  to change that: give the truth of some rows in the column that --target names ({manifest.task.value})"
    if not enough:
        yield f"  to change that: give at least {MIN_ROWS} rows, better {GOOD_ROWS:,}; there are {rows:,}"
    elif kept < GOOD_ROWS:
        yield f"  small drifts are found sooner with more rows: {kept:,} are there, {GOOD_ROWS:,} are a window"
    if not profile["qualification"]["rows"]:
        yield "  normal variation from day to day is not known: name the column of the rows' times with --time"


def _yes(*, fit: bool) -> str:
    return "yes" if fit else "no"


def _next_command(folder: Path, manifest: Manifest, trusted_types: Sequence[str]) -> str:
    """The command that serves the bundle from the current folder."""
    entry = FORMATS[manifest.format]
    settings = {
        "ACTIVE": f"{manifest.name}/{manifest.version}",
        "MODELS": "" if folder.parents[1] == Path("models") else str(folder.parents[1]),
        "ALLOW_PICKLE": "true" if entry.runs_code or _runs_own_code(manifest) else "",
        "TRUSTED_TYPES": json.dumps(list(trusted_types)) if trusted_types else "",
    }
    words = [f"PLUMBLINE__SERVING__{name}={shlex.quote(value)}" for name, value in settings.items() if value]
    return " ".join([*words, plumbline_command(), "serve"])


def _runs_own_code(manifest: Manifest) -> bool:
    """Whether the bundle's own modules run where it is served: an ONNX graph needs none."""
    from app.serving.bundle.user_code import CODE

    return CODE in manifest.files and not (manifest.onnx and manifest.onnx.file)


def load_model_file(
    path: Path, *, allow_pickle: bool, trusted_types: Sequence[str], code: UserCode | None = None
) -> tuple[Any, list[str]]:
    """Load the model in a file, by its name's ending, and list other versions that wrote it.

    It is a fitted model, or the bytes of an ONNX file.

    Raises:
        BundleError: it cannot be loaded, or is a pickle without permission.
    """
    from app.serving.runtimes.sklearn import load_model

    name = format_of_file(path)
    entry = FORMATS[name]
    if entry.runs_code and not allow_pickle:
        raise BundleError(f"{path}: loading it runs the code inside it; pass --allow-pickle if you trust its source")
    data = _bytes(path)
    if entry.load is None:
        return data, []
    own = sorted(code.names) if code else []
    trusted = [*trusted_types, *(f"{each}.*" for each in own)]
    names = code.under_own_names() if code else None
    return load_model(data, file=name, trusted_types=trusted, what=str(path), names=names)


def read_features(path: Path) -> list[Feature]:
    """Read the features of an edited schema.

    It is the list under ``features`` in ``bundle.yaml``, or what ``--show`` prints.

    Raises:
        BundleError: it is no such list.
    """
    from app.serving.bundle.manifest import FeatureEntry, explain, read_yaml

    content = read_yaml(_bytes(path), str(path))
    listed = content.get("features") if isinstance(content, dict) else content
    try:
        found = TypeAdapter(list[FeatureEntry]).validate_python(listed)
    except ValidationError as error:
        raise BundleError(f"{path}: features: {explain(error)}") from None
    return [entry.feature() for entry in found]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror})") from None


def _described(manifest: Manifest) -> Table:
    answers = f": {', '.join(map(str, manifest.classes))}" if manifest.classes else ""
    table = Table(title=f"{manifest.name} {manifest.version}, {manifest.task.value}{answers}")
    for column in ("feature", "type", "nullable", "values"):
        table.add_column(column)
    for entry in manifest.features:
        table.add_row(entry.name, entry.type.value, "yes" if entry.nullable else "no", _values(entry.feature()))
    return table


def _runtime(manifest: Manifest) -> str:
    """Say what will run the model, and why."""
    made = manifest.onnx
    if made is None:
        return "runs on onnxruntime"
    runtime = FORMATS[manifest.format].runtime
    own = "scikit-learn" if runtime == "sklearn" else runtime
    if made.file is None:
        return f"runs on {own}, not on onnxruntime: {made.reason}"
    return f"runs on onnxruntime: {made.rows} rows answered as by {own}, to {made.difference:.1e}"


def _about_proof(proof: ProofEntry, made_by: str | None) -> str:
    """Say what the model was proved on, and that another version made it."""
    told = f"proved on {proof.rows} rows of {proof.source}: alone, together, and in {proof.pairs} pairs with odd rows"
    return f"{told}; written by {made_by}" if made_by else told


def _about_reference(profile: Json) -> str:
    """Say how the reference was qualified, and what the answer depends on most."""
    shares = sorted(profile["dependence"].items(), key=lambda item: -item[1])[:SHOWN_DEPENDENCE]
    listed = ", ".join(f"{name} ({share:.0%})" for name, share in shares if share)
    depends = f"; the answer depends on {listed}" if listed else ""
    return f"reference of {profile['rows']} rows {profile['qualification']['reason']}{depends}"


def _values(feature: Feature) -> str:
    if feature.categories:
        rest = len(feature.categories) - SHOWN_CATEGORIES
        shown = ", ".join(map(str, feature.categories[:SHOWN_CATEGORIES]))
        return f"{shown} and {rest} more" if rest > 0 else shown
    return "" if feature.low is None or feature.high is None else f"{feature.low:g} to {feature.high:g}"
