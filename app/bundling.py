"""Make a bundle: infer the schema, keep a reference, pin every file, prove it loads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.monitoring.reference.encoding import encode_labels
from app.monitoring.reference_profile import record_reference
from app.serving.bundle.manifest import MANIFEST, check_name, make_manifest
from app.serving.bundle.reader import libraries, read_bundle
from app.serving.bundle.schema_inference import infer_features, widen
from app.serving.bundle.sources import FittedModel, OnnxFile, Proved, Source
from app.serving.runtimes.formats import FORMATS
from app.types import Feature, Label, Micros, ModelSchema, Task, from_datetime, to_rfc3339

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
    format: str = "skops",  # noqa: A002 - the manifest's word
    trusted_types: Sequence[str] = (),
    attachments: Mapping[str, bytes] | None = None,
    replace: bool = False,
    now: Micros | None = None,
) -> Path:
    """Write ``models/<name>/<version>/``, whole or not at all, and give its path.

    Args:
        model: a fitted scikit-learn classifier or regressor, which is not changed; or the bytes of an ONNX file.
        data: the rows it was fitted on: its feature columns, and the column ``target`` with the truth.
        holdout: rows it was not fitted on: the reference. Without them the reference is ``data``, marked in-sample.
        positive: the class that counts as positive; by default the second of two.
        threshold: probability of ``positive`` from which it is predicted, instead of the model's own rule.
        time: the column with the rows' times, dates or seconds since 1970; the reference is put in its order.
        features: the schema, instead of the one inferred from ``data``.
        format: how scikit-learn's model is stored; ``joblib`` is served only with ``serving.allow_pickle``.
        trusted_types: types in the model that skops may build beyond the reviewed list.
        attachments: further files for the bundle, by name.

    Raises:
        BundleError: the model, the data or the names are refused; one line says why.
    """
    folder = _new_folder(models, name, version, replace=replace)
    source = _source(model, format, trusted_types)
    names, sample = _chosen(source, data, holdout, target, time)
    listed = _ordered(features, names) if features else widen(infer_features(data[names]), sample)
    schema = source.schema(name, version, listed, target=data[target], positive=positive, threshold=threshold)
    proved = source.prove(schema, sample[names], data[names])
    outcomes, times = _outcomes(proved.schema, sample[target]), _times(sample, time)
    with _staged(folder) as staged:
        for file, content in {**proved.files, **(attachments or {})}.items():
            (staged / file).write_bytes(content)
        moment = now or from_datetime(datetime.now(UTC))
        _write(staged, proved, source.format, outcomes=outcomes, times=times, in_sample=holdout is None, now=moment)
        read_bundle(staged, allow_pickle=FORMATS[source.format].runs_code, trusted_types=trusted_types)
    return folder


def _new_folder(models: Path, name: str, version: str, *, replace: bool) -> Path:
    folder = models / check_name(name, "model name") / check_name(version, "version")
    if folder.exists() and not replace:
        raise BundleError(f"{folder}: is there already; choose another version, or replace it")
    return folder


def _write(
    folder: Path,
    proved: Proved,
    file_format: str,
    *,
    outcomes: NDArray[Any],
    times: NDArray[np.int64] | None,
    in_sample: bool,
    now: Micros,
) -> None:
    """Write the reference with its profile, and the manifest that pins every file."""
    record_reference(
        folder,
        proved.schema,
        proved.rows,
        proved.runtime.predict,
        outcomes=outcomes,
        times=times,
        in_sample=in_sample,
        now=now,
    )
    manifest = make_manifest(
        proved.schema,
        folder,
        file=file_format,
        layout=proved.layout,
        dtypes=proved.dtypes,
        onnx=proved.onnx,
        libraries=libraries(),
        created_at=to_rfc3339(now),
    )
    (folder / MANIFEST).write_text(manifest.to_yaml(), encoding="utf-8")


def infer_schema(
    model: Any, *, data: pd.DataFrame, target: str, holdout: pd.DataFrame | None = None, time: str | None = None
) -> tuple[Feature, ...]:
    """Infer the features as :func:`build_bundle` does, ``nullable`` wherever a value is missing.

    Raises:
        BundleError: columns are missing, or are nothing that a model takes.
    """
    names, sample = _chosen(_source(model), data, holdout, target, time)
    return widen(infer_features(data[names]), sample)


def _source(model: Any, format: str = "skops", trusted_types: Sequence[str] = ()) -> Source:  # noqa: A002 - the manifest's word
    return OnnxFile(model) if isinstance(model, bytes) else FittedModel(model, format, trusted_types)


def _chosen(
    source: Source, data: pd.DataFrame, holdout: pd.DataFrame | None, target: str, time: str | None
) -> tuple[list[str], pd.DataFrame]:
    """Choose the model's features, and the reference's rows in time order.

    Of many rows, an even sample is taken.
    """
    _check_columns(data, [target])
    names = source.feature_names(data, without=(target, time))
    frame = data if holdout is None else holdout
    _check_columns(frame, [*names, target, *([time] if time else [])])
    times = _times(frame, time)
    order = np.arange(len(frame)) if times is None else times.argsort(kind="stable")
    kept = np.linspace(0, len(frame) - 1, min(len(frame), REFERENCE_ROWS)).round().astype(np.int64)
    return names, frame.iloc[order[kept]]


def _ordered(features: Sequence[Feature], names: Sequence[str]) -> tuple[Feature, ...]:
    by_name = {feature.name: feature for feature in features}
    if by_name.keys() != set(names):
        raise BundleError(f"the schema's features are not the model's; it takes {', '.join(names)}")
    return tuple(by_name[name] for name in names)


def _check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    if not len(frame):
        raise BundleError("the data has no rows")
    if absent := [name for name in names if name not in frame.columns]:
        raise BundleError(f"the data has no column {', '.join(absent)}; it has {', '.join(map(str, frame.columns))}")


def _times(frame: pd.DataFrame, time: str | None) -> NDArray[np.int64] | None:
    if time is None:
        return None
    import pandas as pd

    column = frame[time]
    try:
        seconds = pd.api.types.is_numeric_dtype(column)
        moments = pd.to_datetime(column, unit="s", utc=True) if seconds else pd.to_datetime(column, utc=True)
    except (ValueError, TypeError) as error:
        raise BundleError(f"column {time}: holds no times ({error})") from None
    if moments.isna().any():
        raise BundleError(f"column {time}: lacks the times of some rows")
    return np.asarray(moments.dt.as_unit("us").astype(np.int64), dtype=np.int64)


def _outcomes(schema: ModelSchema, target: pd.Series[Any]) -> NDArray[Any]:
    """Encode the target as outcomes.

    Every one must be an answer that the model can give.
    """
    missing = target.isna().to_numpy()
    labels = [None if absent else label for label, absent in zip(target.astype(object), missing, strict=True)]
    outcomes = encode_labels(schema, labels)
    strange = np.isnan(outcomes) if schema.task is Task.REGRESSION else outcomes < 0
    if (strange & ~missing).any():
        found = sorted({str(label) for label, odd in zip(labels, strange & ~missing, strict=True) if odd})[:5]
        raise BundleError(f"column {target.name}: holds {', '.join(found)}, which the model cannot answer")
    return outcomes


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a folder to fill, which takes the place of ``folder`` when all has gone well."""
    name = folder.parent
    name.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=name) as making:
        staged = Path(making) / name.name / folder.name
        staged.mkdir(parents=True)
        yield staged
        if folder.exists():
            folder.rename(Path(making) / "replaced")
        staged.rename(folder)
