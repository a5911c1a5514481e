"""Make a bundle: infer the schema, keep a reference, pin every file, prove it loads."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace as replace_fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.monitoring.reference.encoding import encode_labels
from app.monitoring.reference_profile import Batch, record_reference, stratified
from app.serving.bundle.answers import GOLDEN, dump_golden
from app.serving.bundle.bundle_warnings import find_warnings
from app.serving.bundle.manifest import MANIFEST, PROFILE, check_name, make_manifest
from app.serving.bundle.proof import Data, Proved, prove_golden
from app.serving.bundle.reader import libraries, read_bundle
from app.serving.bundle.schema_inference import KnownColumns, infer_features, rows_of, widen
from app.serving.bundle.sources import BoosterModel, FittedModel, OnnxFile, Source
from app.serving.bundle.times import TimeColumn
from app.serving.bundle.user_code import CODE, UserCode, pack
from app.serving.runtimes.formats import AUTO, FORMATS
from app.types import Feature, Json, Label, Micros, ModelSchema, Task, from_datetime, to_rfc3339

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TimeColumn", "build_bundle", "check_unseen", "infer_schema", "known_columns"]

REFERENCE_ROWS = 10_000
"""Rows that are kept of a larger reference, unless another number is asked for."""
MAX_STRATA = 100
"""Distinct outcomes from which they are numbers rather than classes."""
MAX_ANSWERS = 4_000_000
"""Most answers (rows times classes) behind a baseline; it bounds a bundle and its checks."""
SHOWN_NAMES = 12
MAX_SEEN_SHARE = 0.05
"""Share of the holdout's rows that may be rows of the training data, beyond those that are equal by chance."""


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
    time: str | TimeColumn | None = None,
    in_sample: bool = False,
    features: Sequence[Feature] | None = None,
    format: str = AUTO,  # noqa: A002 - the manifest's word
    trusted_types: Sequence[str] = (),
    attachments: Mapping[str, bytes] | None = None,
    single_rows: bool = False,
    golden: pd.DataFrame | None = None,
    made_by: str | None = None,
    reference_rows: int = REFERENCE_ROWS,
    code_path: Sequence[Path] = (),
    replace: bool = False,
    now: Micros | None = None,
) -> Path:
    """Write ``models/<name>/<version>/``, whole or not at all, and give its path.

    Args:
        model, data: a fitted scikit-learn model, or the bytes of an ONNX file; the rows it was fitted on.
        holdout, in_sample: rows it was not fitted on: the reference, else ``data``, marked in-sample; take both.
        positive, threshold: the class that counts as positive; the probability from which it is predicted.
        time, reference_rows: the column with the rows' times; rows kept of the reference, whose baseline is of all.
        features, format: the schema, instead of the one inferred; ``joblib`` is served with ``serving.allow_pickle``.
        trusted_types, attachments: types that skops may build beyond the reviewed list; further files by name.
        code_path, single_rows, golden, made_by: own modules; one row at a time; answers given elsewhere, and by what.

    Raises:
        BundleError: the model, the data or the names are refused; one line says why.
    """
    folder = _new_folder(models, name, version, replace=replace)
    model, trusted_types, added = _with_code(model, trusted_types, code_path)
    data, holdout = _tables(source := _source(model, format, trusted_types), data, holdout)
    names, sample, times, whole = _chosen(source, data, holdout, target, TimeColumn.of(time), reference_rows)
    seen = in_sample or holdout is None or check_unseen(data[[*names, target]], holdout[[*names, target]])
    listed = _ordered(features, names) if features else _inferred(source, data[names], sample)
    schema = source.schema(name, version, listed, target=data[target], positive=positive, threshold=threshold)
    tables = Data(sample[names], sample[target], data[names])
    proved = _proved_by_user(source.prove(schema, tables, single_rows=single_rows), golden, made_by)
    known: Json = _truth(proved.schema, sample, whole, names, target) | {"times": times, "in_sample": seen, "now": now}
    return _write(folder, {**proved.files, **(attachments or {}), **added}, proved, source, known, trusted_types)


def _with_code(
    model: Any, trusted_types: Sequence[str], code_path: Sequence[Path]
) -> tuple[Any, Sequence[str], dict[str, bytes]]:
    """Give a model of own classes, the types that it may build, and the file of its code."""
    if not code_path:
        return model, trusted_types, {}
    code = UserCode(pack(code_path))
    return code.bind(model), [*trusted_types, f"{code.package}.*"], {CODE: code.archive}


def _write(
    folder: Path,
    files: Mapping[str, bytes],
    proved: Proved,
    source: Source,
    known: Json,
    trusted_types: Sequence[str],
) -> Path:
    """Write all files of a bundle, read it again, and give its folder."""
    with _staged(folder) as staged:
        for file, content in files.items():
            (staged / file).write_bytes(content)
        _record(staged, proved, source, known)
        runs_code = FORMATS[source.format].runs_code or CODE in files
        read_bundle(staged, allow_pickle=runs_code, trusted_types=trusted_types)
    return folder


def _proved_by_user(proved: Proved, golden: pd.DataFrame | None, made_by: str | None) -> Proved:
    """Let golden rows of the user prove the model, see :func:`prove_golden`.

    Args:
        made_by: the other version of scikit-learn that wrote the model; it takes golden rows.

    Raises:
        BundleError: there are none, or the model answers them otherwise.
    """
    if golden is not None:
        proved = prove_golden(proved, _with_text_names(golden))
    elif made_by is not None:
        raise BundleError(f"the model was written by {made_by}; only golden rows with its answers there prove it here")
    return replace_fields(proved, found={**proved.found, "made_by": made_by})


def _new_folder(models: Path, name: str, version: str, *, replace: bool) -> Path:
    folder = models / check_name(name, "model name") / check_name(version, "version")
    if folder.exists() and not replace:
        raise BundleError(f"{folder}: is there already; choose another version, or replace it")
    return folder


def _record(folder: Path, proved: Proved, source: Source, known: Json) -> None:
    """Write the reference with its profile, golden rows, and the manifest."""
    if proved.golden:
        (folder / GOLDEN).write_bytes(dump_golden(proved.golden, proved.runtime.predict(proved.golden)))
    known |= {"now": known["now"] or from_datetime(datetime.now(UTC))}
    record_reference(folder, proved.schema, proved.rows, proved.runtime.predict, **known)
    about: Json = json.loads((folder / PROFILE).read_bytes())
    doubts = [
        *find_warnings(proved.schema, proved.rows, known["outcomes"], about["baseline"]),
        *_doubts_of_entity(about["entity"], len(proved.rows)),
    ]
    manifest = make_manifest(
        proved.schema,
        folder,
        file=source.format,
        libraries=libraries(),
        created_at=to_rfc3339(known["now"]),
        warnings=[*_doubts_of_names(source, proved.schema.feature_names), *doubts],
        **proved.found,
    )
    (folder / MANIFEST).write_text(manifest.to_yaml(), encoding="utf-8")


def _doubts_of_names(source: Source, names: Sequence[str]) -> Iterator[str]:
    """Say that a model without names for its columns gets them in the order of the file."""
    if len(names) > 1 and not source.is_named(names):
        more = ", …" if len(names) > SHOWN_NAMES else ""
        yield (
            f"the model has no names for its {len(names)} columns: they are taken in the order of the file "
            f"({', '.join(names[:SHOWN_NAMES])}{more})"
        )


def _others(frame: pd.DataFrame, without: set[str]) -> dict[str, list[Any]]:
    """Give the values of the columns that are neither features nor outcomes."""
    others = {str(name): frame[name] for name in frame.columns if name not in without}
    return {name: column.astype(object).where(column.notna(), None).tolist() for name, column in others.items()}


def _doubts_of_entity(entity: Json | None, rows: int) -> Iterator[str]:
    """Say that rows come in groups, and how the service can know them."""
    if entity is not None:
        name, count = entity["name"], entity["entities"]
        yield (
            f"rows of one {name} resemble each other ({count} in {rows} rows of the reference): send {name} in the "
            f"context of each row, so that many rows of few count as what they are worth; or set drift.entity: {name}"
        )


def infer_schema(
    model: Any,
    *,
    data: pd.DataFrame,
    target: str,
    holdout: pd.DataFrame | None = None,
    time: str | TimeColumn | None = None,
) -> tuple[Feature, ...]:
    """Infer the features as :func:`build_bundle` does, ``nullable`` wherever a value is missing.

    Raises:
        BundleError: columns are missing, or are nothing that a model takes.
    """
    source = _source(model)
    data, holdout = _tables(source, data, holdout)
    names, sample, *_ = _chosen(source, data, holdout, target, TimeColumn.of(time), REFERENCE_ROWS)
    return _inferred(source, data[names], sample)


def known_columns(model: Any) -> KnownColumns:
    """The knowledge of a fitted model, or of an ONNX file, of the columns of its data."""
    return _source(model).known()


def _with_text_names(frame: Any) -> Any:
    """Give a table's columns named by numbers these as text, as a request names them."""
    return frame if frame is None or all(isinstance(name, str) for name in frame.columns) else frame.rename(columns=str)


def _tables(source: Source, data: Any, holdout: Any) -> tuple[Any, Any]:
    """Give both tables the names and the categories that the model knows."""
    data, holdout = _with_text_names(data), _with_text_names(holdout)
    if not isinstance(source, BoosterModel):
        return data, holdout
    from app.serving.runtimes.boosters import with_categories

    first, second = with_categories(source.model, data, [data, holdout])
    return first, second


def _inferred(source: Source, data: pd.DataFrame, sample: pd.DataFrame) -> tuple[Feature, ...]:
    """Infer the features; a column of names has categories, though they be numbers."""
    codes = source.model.content.codes if isinstance(source, BoosterModel) else ()
    kinds = dict.fromkeys(set(codes) & set(map(str, data.columns)), "category")
    return widen(infer_features(data.astype(kinds)), sample.astype(kinds))


def _source(model: Any, format: str = AUTO, trusted_types: Sequence[str] = ()) -> Source:  # noqa: A002 - the manifest's word
    from app.serving.runtimes.boosters import Booster, as_booster, library_of

    if isinstance(model, bytes):
        return OnnxFile(model)
    library = library_of(model)
    if library is not None and (format == AUTO or isinstance(model, Booster)):
        booster = as_booster(model, library)
        return BoosterModel(booster, library, trusted_types, made=None if booster is model else model)
    return FittedModel(model, "skops" if format == AUTO else format, trusted_types)


def _chosen(
    source: Source, data: pd.DataFrame, holdout: pd.DataFrame | None, target: str, clock: TimeColumn, rows: int
) -> tuple[list[str], pd.DataFrame, NDArray[np.int64] | None, pd.DataFrame]:
    """Choose the model's features, and the reference's rows in time order with their times.

    Of many rows, a sample is taken in which each outcome has its share, evenly spread over time; all of them are the
    last value, which is empty where all are kept.
    """
    _check_columns(data, [target])
    names = source.feature_names(data, without=(target, clock.name))
    frame = data if holdout is None else holdout
    _check_columns(frame, [*names, target, *([clock.name] if clock.name else [])])
    if (times := clock.read(frame)) is not None:
        order = times.argsort(kind="stable")
        frame, times = frame.iloc[order], times[order]
        frame = frame[[name for name in frame.columns if name in names or name != clock.name]]
    kept = stratified(_strata(frame[target]), rows)
    whole = frame if len(kept) < len(frame) else frame.iloc[:0]
    return names, frame.iloc[kept], None if times is None else times[kept], whole


def _strata(target: pd.Series[Any]) -> NDArray[np.int64]:
    """Give each row the code of its outcome; of numbers with many values, all one."""
    codes = target.astype("category").cat.codes.to_numpy(dtype=np.int64)
    return np.where(codes.max(initial=0) < MAX_STRATA, codes, 0)


def _truth(schema: ModelSchema, sample: pd.DataFrame, whole: pd.DataFrame, names: Sequence[str], target: str) -> Json:
    return {
        "outcomes": _outcomes(schema, sample[target]),
        "whole": _batches(schema, whole, names, target),
        "others": _others(sample, {*names, target}),
    }


def _batches(schema: ModelSchema, frame: pd.DataFrame, names: Sequence[str], target: str) -> Iterator[Batch]:
    """Give rows with their outcomes, as many as :data:`MAX_ANSWERS` lets, a batch at a time."""
    frame = frame.iloc[stratified(_strata(frame[target]), MAX_ANSWERS // max(len(schema.classes), 1))]
    for start in range(0, len(frame), REFERENCE_ROWS):
        part = frame.iloc[start : start + REFERENCE_ROWS]
        yield rows_of(schema.features, part[names]), _outcomes(schema, part[target])


def check_unseen(data: pd.DataFrame, holdout: pd.DataFrame) -> Literal[False]:
    """Refuse a holdout with rows that the model was fitted on; False: it has none.

    Rows of few distinct values are equal by chance: as many as there are equal pairs within the training data are
    expected (four more, since pairs are rare events), and four standard deviations more.

    Raises:
        BundleError: it has more; the text says how many.
    """
    trained, held = _row_hashes(data), _row_hashes(holdout)
    values, counts = np.unique(trained, return_counts=True)
    equal, rows = int(np.isin(held, values).sum()), max(len(held), 1)
    chance = float(counts[counts > 1].sum() + 4) / (len(trained) + 4)
    noise = 4 * (chance * (1 - chance) * (1 / rows + 1 / max(len(trained), 1))) ** 0.5
    same = len(held) == len(trained) and np.array_equal(np.sort(held), np.sort(trained))
    if same or equal > rows * (chance + noise + MAX_SEEN_SHARE) + 3:
        raise BundleError(
            f"{equal} of {len(held)} rows of the holdout ({equal / rows:.0%}) are rows of the training data, where "
            f"chance explains {chance:.0%}: what the model knows by heart says nothing about other rows. Give rows "
            "that it was not fitted on, or say --in-sample: verdicts on predictions and performance are then withheld"
        )
    return False


def _row_hashes(frame: pd.DataFrame) -> NDArray[np.uint64]:
    """A number for each row, the same for equal rows whatever their dtypes."""
    import pandas as pd
    from pandas.util import hash_pandas_object

    numbers, flags = pd.api.types.is_any_real_numeric_dtype, pd.api.types.is_bool_dtype
    plain = {
        place: column.to_numpy(dtype=float, na_value=np.nan)
        if numbers(column.dtype) or flags(column.dtype)
        else column.astype(str).to_numpy(dtype=object)
        for place, (_, column) in enumerate(frame.items())
    }
    return np.asarray(hash_pandas_object(pd.DataFrame(plain), index=False), dtype=np.uint64)


def _ordered(features: Sequence[Feature], names: Sequence[str]) -> tuple[Feature, ...]:
    by_name = {feature.name: feature for feature in features}
    if by_name.keys() != set(names):
        raise BundleError(f"the schema's features are not the model's; it takes {', '.join(names)}")
    return tuple(by_name[name] for name in names)


def _check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    if not len(frame):
        raise BundleError("the data has no rows")
    if absent := [name for name in names if name not in frame.columns]:
        has = ", ".join(repr(str(name)) for name in frame.columns)
        raise BundleError(f"the data has no column {', '.join(map(repr, absent))}; it has {has}")


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
