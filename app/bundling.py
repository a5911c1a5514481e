"""Make a bundle of a fitted model: infer its schema, keep a reference, pin every file, and prove that it loads again."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.monitoring.performance import metrics
from app.monitoring.reference import encode, encode_labels, encode_probabilities, profile, save_reference
from app.serving.agreement import Layout, choose_layout
from app.serving.bundle import libraries, load_model, read_bundle
from app.serving.estimator import Estimator
from app.serving.fitted import Format, dump_model, feature_names, schema_of
from app.serving.infer import dtypes_of, infer_features, rows_of, widen
from app.serving.manifest import BUNDLE_FORMAT, MANIFEST, PROFILE, FeatureEntry, Manifest, check_name
from app.types import Feature, Json, Label, Micros, ModelSchema, Row, Scalar, Task, from_datetime, to_rfc3339

if TYPE_CHECKING:
    import pandas as pd

REFERENCE_ROWS = 10_000
"""Largest reference; of more rows, an even sample is kept."""


def build_bundle(
    model: Any,
    *,
    data: pd.DataFrame,
    target: str,
    name: str,
    holdout: pd.DataFrame | None = None,
    version: str = "1",
    models: Path = Path("models"),
    positive: Label | None = None,
    threshold: float | None = None,
    time: str | None = None,
    features: Sequence[Feature] | None = None,
    format: Format = "skops",  # noqa: A002 - the manifest's word
    trusted_types: Sequence[str] = (),
    attachments: Mapping[str, bytes] | None = None,
    replace: bool = False,
    now: Micros | None = None,
) -> Path:
    """
    Write ``models/<name>/<version>/``, whole or not at all, and give its path.

    Args:
        model: a fitted scikit-learn classifier or regressor; it is not changed.
        data: what it was fitted on: its feature columns and the target.
        holdout: rows it was not fitted on, the reference that drift and performance are judged against. Without them the
            reference is ``data``, marked in-sample, and verdicts are withheld.
        positive: the class that counts as positive; by default the second of two.
        threshold: probability of ``positive`` from which it is predicted, instead of the model's own rule.
        time: the column with the rows' times, dates or seconds since 1970; the reference is put in its order.
        features: the schema, instead of the one inferred from ``data``.
        format: ``joblib`` for models that skops cannot store; it is served only with ``serving.allow_pickle``.
        trusted_types: types in the model that skops may build beyond the reviewed list.
        attachments: further files for the bundle, by name.
        replace: whether a version of this name may be replaced.
        now: the time to note; by default the present.

    Raises:
        BundleError: the model, the data or the names are refused; one line says why.
    """
    folder = models / check_name(name, "model name") / check_name(version, "version")
    if folder.exists() and not replace:
        raise BundleError(f"{folder}: is there already; choose another version, or replace it")
    names, sample = _chosen(model, data, holdout, target, time)
    listed = _ordered(features, names) if features else widen(infer_features(data[names]), sample)
    schema = schema_of(model, name, version, listed, positive, threshold)
    served = _prove(model, schema, sample[names], dtypes_of(listed, data[names]), format, trusted_types)
    in_sample, moment = holdout is None, now or from_datetime(datetime.now(UTC))
    with _staged(folder) as staged:
        for file, content in {f"model.{format}": served.stored, **(attachments or {})}.items():
            (staged / file).write_bytes(content)
        _write_reference(staged, served, sample[target], _times(sample, time), in_sample, moment)
        _write_manifest(staged, served, format, moment)
        read_bundle(staged, allow_pickle=format == "joblib", trusted_types=trusted_types)
    return folder


def infer_schema(
    model: Any, *, data: pd.DataFrame, target: str, holdout: pd.DataFrame | None = None, time: str | None = None
) -> tuple[Feature, ...]:
    """
    The features that :func:`build_bundle` would infer, ``nullable`` wherever a value is missing.

    Raises:
        BundleError: columns are missing, or are nothing that a model takes.
    """
    names, sample = _chosen(model, data, holdout, target, time)
    return widen(infer_features(data[names]), sample)


def entries(features: Sequence[Feature]) -> list[Json]:
    """Features in the form of ``bundle.yaml``."""
    return [FeatureEntry.of(feature).model_dump(mode="json", exclude_defaults=True) for feature in features]


@dataclass(frozen=True, slots=True)
class _Served:
    """A model as it will be served, proved to answer as its maker's."""

    schema: ModelSchema
    stored: bytes
    layout: Layout
    dtypes: Mapping[str, str]
    rows: Sequence[Row]
    estimator: Estimator


def _prove(
    model: Any,
    schema: ModelSchema,
    frame: pd.DataFrame,
    dtypes: Mapping[str, str],
    format: Format,
    trusted_types: Sequence[str],  # noqa: A002
) -> _Served:
    stored = dump_model(model, format)

    def load() -> Any:
        return load_model(stored, format=format, trusted_types=trusted_types, what=f"model.{format}")

    rows = rows_of(schema.features, frame)
    layout = choose_layout(model, load, schema, frame, rows, dtypes)
    estimator = Estimator(load(), schema, layout=layout, dtypes=dtypes)
    schema = replace(schema, features=_nullable(estimator, rows))
    return _Served(schema, stored, layout, dtypes if layout == "dataframe" else {}, rows, estimator)


def _chosen(
    model: Any, data: pd.DataFrame, holdout: pd.DataFrame | None, target: str, time: str | None
) -> tuple[list[str], pd.DataFrame]:
    """The names of the model's features, and the reference's rows in time order: all, or of many an even sample."""
    _check_columns(data, [target])
    names = feature_names(model, data, without=(target, time))
    frame = data if holdout is None else holdout
    _check_columns(frame, [*names, target, *([time] if time else [])])
    ordered = frame.sort_values(time, kind="stable") if time else frame
    positions = np.linspace(0, len(frame) - 1, min(len(frame), REFERENCE_ROWS)).round().astype(np.int64)
    return names, ordered.iloc[positions]


def _ordered(features: Sequence[Feature], names: Sequence[str]) -> tuple[Feature, ...]:
    by_name = {feature.name: feature for feature in features}
    if by_name.keys() != set(names):
        raise BundleError(f"the schema's features are not the model's; it takes {', '.join(names)}")
    return tuple(by_name[name] for name in names)


def _nullable(estimator: Estimator, rows: Sequence[Row]) -> tuple[Feature, ...]:
    """The features, ``nullable`` where values are missing and the model takes a missing one (it is asked with one)."""
    features = estimator.schema.features
    row = next((row for row in rows if None not in row), rows[0])
    return tuple(
        replace(feature, nullable=feature.nullable and _takes(estimator, [*row[:position], None, *row[position + 1 :]]))
        for position, feature in enumerate(features)
    )


def _takes(estimator: Estimator, row: list[Scalar]) -> bool:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator.predict([row])
    except Exception:  # noqa: BLE001 - a model can raise anything, and that is the answer
        return False
    return True


def _check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    if not len(frame):
        raise BundleError("the data has no rows")
    if absent := [name for name in names if name not in frame.columns]:
        raise BundleError(f"the data has no column {', '.join(absent)}; it has {', '.join(map(str, frame.columns))}")


def _times(sample: pd.DataFrame, time: str | None) -> NDArray[np.int64] | None:
    if time is None:
        return None
    import pandas as pd

    column = sample[time]
    try:
        seconds = pd.api.types.is_numeric_dtype(column)
        moments = pd.to_datetime(column, unit="s", utc=True) if seconds else pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise BundleError(f"column {time}: holds no times ({error})") from None
    if moments.isna().any():
        raise BundleError(f"column {time}: lacks the times of some rows")
    return moments.dt.as_unit("us").astype(np.int64).to_numpy()


def _write_reference(
    folder: Path, served: _Served, target: pd.Series[Any], times: NDArray[np.int64] | None, in_sample: bool, now: Micros
) -> None:
    schema = served.schema
    columns, answers = encode(schema, served.rows), served.estimator.predict(served.rows)
    predictions = encode_labels(schema, [answer.prediction for answer in answers])
    probabilities = encode_probabilities(schema, [answer.probabilities for answer in answers])
    outcomes = _outcomes(schema, target)
    known = np.isfinite(outcomes) if schema.task is Task.REGRESSION else outcomes >= 0
    part = None if probabilities is None else probabilities[known]
    baseline = metrics(schema, outcomes[known], predictions[known], part) if known.any() else {}
    about = profile(schema, columns, predictions, created_at=now, in_sample=in_sample, baseline=baseline)
    save_reference(
        folder, columns=columns, predictions=predictions, probabilities=probabilities, outcomes=outcomes, times=times
    )
    (folder / PROFILE).write_text(json.dumps(about, indent=1, allow_nan=False), encoding="utf-8")


def _outcomes(schema: ModelSchema, target: pd.Series[Any]) -> NDArray[Any]:
    """The target as encoded outcomes; every one that is there must be an answer that the model can give."""
    missing = target.isna().to_numpy()
    labels = [None if absent else label for label, absent in zip(target.astype(object), missing, strict=True)]
    outcomes = encode_labels(schema, labels)
    strange = np.isnan(outcomes) if schema.task is Task.REGRESSION else outcomes < 0
    if (strange & ~missing).any():
        found = sorted({str(label) for label, odd in zip(labels, strange & ~missing, strict=True) if odd})[:5]
        raise BundleError(f"column {target.name}: holds {', '.join(found)}, which the model cannot answer")
    return outcomes


def _write_manifest(folder: Path, served: _Served, format: Format, now: Micros) -> None:  # noqa: A002
    schema = served.schema
    manifest = Manifest.model_validate(
        {
            "bundle_format": BUNDLE_FORMAT,
            "name": schema.name,
            "version": schema.version,
            "task": schema.task,
            "created_at": to_rfc3339(now),
            "format": format,
            "model_file": f"model.{format}",
            "input": served.layout,
            "features": entries(schema.features),
            "dtypes": served.dtypes,
            "classes": schema.classes,
            "positive_class": schema.positive,
            "threshold": schema.threshold,
            "libraries": libraries(),
            "files": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())},
        }
    )
    (folder / MANIFEST).write_text(manifest.to_yaml(), encoding="utf-8")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes its place under ``folder`` when all has gone well."""
    name = folder.parent
    name.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=name) as making:
        staged = Path(making) / name.name / folder.name
        staged.mkdir(parents=True)
        yield staged
        if folder.exists():
            folder.rename(Path(making) / "replaced")
        staged.rename(folder)
