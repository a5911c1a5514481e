"""plumbline report: compare two files without a service."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from app.errors import BundleError
from app.monitoring.check_request import DRIFT_SHARE, Limits
from app.monitoring.drift.report import drift_report
from app.monitoring.reference.encoding import encode, encode_labels
from app.monitoring.reference.reference import Reference
from app.reports.drift import CheckError, Column, DriftReport, DriftWindow
from app.reports.service import ShownDrift
from app.serving.bundle.schema_inference import infer_features
from app.store.queries.windows import Window
from app.types import SECOND, Feature, FeatureType, Label, Micros, ModelSchema, Row, Scalar, Task, to_rfc3339

if TYPE_CHECKING:
    import pandas as pd
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from app.commands.export import whole_file
from app.commands.tables.columns import Columns, read_columns
from app.commands.tables.dialect import Decimal, Delimiter, Dialect, Missing

_ABOUT_TIME = ("hours", "sampled_from", "from", "to")


def compare_tables(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    *,
    target: str | None = None,
    exclude: Sequence[str] = (),
    alpha: float,
    now: Micros,
    problems: Sequence[tuple[str, str]] = (),
) -> DriftReport:
    """Compare the columns of two tables, both in order of time; a drift report without a model.

    A column that cannot be compared is an entry in ``errors``.

    Args:
        target: a column that is judged like a model's answer: it stands under ``prediction``.
        exclude: columns to leave out.
        alpha: probability of any false alarm, over all columns.
        problems: column and text of what was wrong with cells when the tables were read.

    Raises:
        BundleError: a table has no rows, a named column is absent, or no column is left.
    """
    errors = [_error(*problem) for problem in problems]
    features = _features(reference, current, [*exclude, *([target] if target else [])], errors)
    answer = _target(reference, current, target)
    schema = _schema(features, answer)
    before, after = (_rows(features, table, errors) for table in (reference, current))
    answers = [_answers(answer, table) for table in (reference, current)]
    compared = Reference(
        schema,
        encode(schema, before),
        encode_labels(schema, answers[0]),
        sha256=_digest(reference),
        created_at=to_rfc3339(now),
    )
    limits = Limits(alpha * DRIFT_SHARE)
    report = drift_report(schema, compared, _window(after, answers[1]), limits, None)
    return _without_time(report, errors, target)


def _features(
    reference: pd.DataFrame, current: pd.DataFrame, apart: Sequence[str], errors: list[CheckError]
) -> tuple[Feature, ...]:
    """Infer the features as a bundle does, each column by itself."""
    _check(reference, "reference", apart)
    _check(current, "current", [])
    shared = [name for name in reference.columns if name in set(current.columns) and name not in apart]
    errors += [
        _error(name, f"only in the {side} data: not compared")
        for side, ours, theirs in (("reference", reference, current), ("current", current, reference))
        for name in ours.columns
        if name not in set(theirs.columns) and name not in apart
    ]
    found: list[Feature] = []
    for name in shared:
        try:
            found += infer_features(reference[[name]], len(reference))
        except BundleError as error:
            errors.append(_error(name, str(error)))
    if not found:
        raise BundleError("the two tables share no column that can be compared")
    return tuple(found)


def _check(table: pd.DataFrame, side: str, named: Sequence[str]) -> None:
    if not len(table):
        raise BundleError(f"the {side} data has no rows")
    if absent := [name for name in named if name not in table.columns]:
        raise BundleError(f"the {side} data has no column {', '.join(absent)}")


def _target(reference: pd.DataFrame, current: pd.DataFrame, target: str | None) -> Feature | None:
    if target is None:
        return None
    _check(current, "current", [target])
    return infer_features(reference[[target]], len(reference))[0]


def _schema(features: tuple[Feature, ...], answer: Feature | None) -> ModelSchema:
    classes: tuple[Label, ...] = ()
    if answer is not None and answer.type is FeatureType.BOOLEAN:
        classes = (False, True)
    elif answer is not None and answer.type is FeatureType.CATEGORICAL:
        classes = answer.categories
    task = (Task.BINARY if len(classes) == 2 else Task.MULTICLASS) if classes else Task.REGRESSION  # noqa: PLR2004 - binary
    return ModelSchema("", "", task, features, classes)


def _rows(features: Sequence[Feature], table: pd.DataFrame, errors: list[CheckError]) -> list[Row]:
    columns = [_values(feature, table[feature.name]) for feature in features]
    for feature, values in zip(features, columns, strict=True):
        strange = sum(isinstance(value, str) for value in values) if feature.type is not FeatureType.CATEGORICAL else 0
        if strange:
            errors.append(_error(feature.name, f"{strange} values are no numbers, and count as missing"))
    return list(zip(*columns, strict=True))


def _values(feature: Feature, column: pd.Series[Any]) -> list[Scalar]:
    """Give plain values, None for a missing one.

    Where the reference holds text, numbers are read as text.
    """
    texts = any(isinstance(category, str) for category in feature.categories)
    pairs = zip(column.astype(object).tolist(), column.isna().tolist(), strict=True)
    return [None if missing else _text(value) if texts else value for value, missing in pairs]


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _answers(answer: Feature | None, table: pd.DataFrame) -> list[Any]:
    """The target's values; without one, an answer that never changes."""
    return [0.0] * len(table) if answer is None else _values(answer, table[answer.name])


def _window(rows: list[Row], answers: list[Any]) -> Window:
    nothing: list[None] = [None] * len(rows)
    return Window(
        ids=[str(place) for place in range(len(rows))],
        features=rows,
        predictions=answers,
        probabilities=list(nothing),
        predicted_at=[Micros(place * SECOND) for place in range(len(rows))],
        sampled_from=len(rows),
        hours=0.0,
        outcomes=list(nothing),
        values=list(nothing),
        recorded_at=list(nothing),
    )


def _without_time(report: DriftReport, errors: list[CheckError], target: str | None) -> DriftReport:
    """Take out what a table does not have: times, and an answer where no column was named."""
    window = {name: value for name, value in report["window"].items() if name not in _ABOUT_TIME}
    report["window"] = cast("DriftWindow", window)  # without the keys that a table has no value for
    report["limits"]["false_alarm_every"] = None
    answer: list[Column] = [report["prediction"]] if report["prediction"] else []
    judged = [entry for entry in [*report["features"].values(), *answer] if entry["status"] in ("stable", "drift")]
    for entry in [*judged, report["multivariate"]]:
        entry.pop("since", None)
        entry.pop("last_significant_at", None)
    for each in report.get("unjudged", []):
        each.pop("since", None)
    if target is None:
        report["prediction"] = None
        report["errors"] = [error for error in report["errors"] if error["feature"] != "prediction"]
    report["errors"] = errors + report["errors"]
    return report | {"target": target}


def _digest(table: pd.DataFrame) -> str:
    from pandas.util import hash_pandas_object

    return hashlib.sha256(hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()


def _error(feature: str, reason: str) -> CheckError:
    return {"feature": feature, "reason": reason}


def report(
    *,
    reference: Annotated[Path, typer.Argument(help="CSV, TSV, JSON lines or Parquet file of what is normal.")],
    current: Annotated[Path, typer.Argument(help="File to compare with it.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", dir_okay=False, help="File to write: .html for a page, .json for the figures."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column that is judged like a model's answer.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Column to leave out; may be given again.")] = None,
    alpha: Annotated[
        float, typer.Option(min=1e-9, max=0.2, help="Probability of a false alarm, over all columns.")
    ] = 0.01,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    na: Missing = None,
    fail_on_drift: Annotated[bool, typer.Option("--fail-on-drift", help="Exit with 1 when there is drift.")] = False,
) -> None:
    """Compare two tables: which columns have drifted, and what is broken in the second one."""
    if output is not None and output.suffix not in (".html", ".json"):
        raise typer.BadParameter(f"{output}: ends in neither .html nor .json", param_hint="--output")

    moment = Micros(time.time_ns() // 1000)
    with Console(stderr=True).status(f"comparing {current} with {reference}"):
        before, after = read_both(reference, current, Dialect.of(delimiter, decimal, na))
        problems = [(name, f"{each}, taken as missing") for side in (before, after) for name, each in side.missing()]
        tables, left_out = (before.frame, after.frame), exclude or ()
        body = compare_tables(*tables, target=target, exclude=left_out, alpha=alpha, now=moment, problems=problems)
    found: ShownDrift = {
        "report_id": None,
        "kind": "drift",
        "model_name": f"{current.name} against {reference.name}",
        "model_version": "",
        "checked_at": to_rfc3339(moment),
        **body,
    }
    if output is not None:
        _write(output, found)
    typer.echo(verdict(found))
    if fail_on_drift and found["status"] == "drift":
        raise typer.Exit(1)


def read_both(reference: Path, current: Path, dialect: Dialect) -> tuple[Columns, Columns]:
    """Read two tables, the second with the types of the first, and say what was assumed."""
    before = read_columns(reference, dialect)
    known: dict[str, Feature] = {}
    for name in before.frame.columns:
        with suppress(BundleError):  # compare_tables says that it cannot be compared
            known[name] = infer_features(before.frame[[name]])[0]
    after = read_columns(current, dialect, known=known)
    for side in (before, after):
        if assumed := side.assumptions():
            typer.echo(assumed, err=True)
    return before, after


def verdict(found: DriftReport) -> str:
    """One line on a drift report.

    >>> quality = {"findings": [{}]}
    >>> verdict(
    ...     {"status": "drift", "drifted_features": ["age"], "features": {"age": {}, "x": {}}, "data_quality": quality}
    ... )
    'drift: age (1 of 2 columns); 1 finding on data quality'
    """
    drifted, findings = found["drifted_features"], len(found["data_quality"]["findings"])
    named = f": {', '.join(drifted)} ({len(drifted)} of {len(found['features'])} columns)" if drifted else ""
    reason = f": {found['message']}" if found.get("message") else ""
    unjudged = [each["feature"] for each in found.get("unjudged", [])] if not reason else []
    blind = f"; no verdict on {', '.join(unjudged)}" if unjudged else ""
    quality = f"; {findings} finding{'' if findings == 1 else 's'} on data quality" if findings else ""
    return f"{found['status']}{named}{reason}{blind}{quality}"


def _write(output: Path, found: ShownDrift) -> None:
    if output.suffix == ".json":
        text = json.dumps(found, indent=1, allow_nan=False)
    else:
        from app.dashboard.report_page import render_report

        text = render_report(found)
    with whole_file(output) as file:
        file.write(text.encode())
