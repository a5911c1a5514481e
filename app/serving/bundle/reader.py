"""Read a bundle: verify its files, load its model, check golden rows."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from app.errors import BundleError, one_line
from app.serving.bundle.answers import (
    GOLDEN,
    GOLDEN_ROWS,
    MISSING,
    UNSEEN,
    DependsOnBatch,
    check_answers,
    check_company,
    golden_rows,
    load_golden,
    mixing,
)
from app.serving.bundle.manifest import (
    MANIFEST,
    PROFILE,
    REFERENCE,
    Manifest,
    find_versions,
    parse_manifest,
    parse_profile,
)
from app.serving.bundle.user_code import CODE, UserCode
from app.serving.runtimes.base import Levels, Runtime, RuntimeName
from app.serving.runtimes.formats import FORMATS
from app.serving.runtimes.sklearn import Estimator, classes_of, load_model
from app.serving.runtimes.skops import MAX_BYTES, check_archive
from app.types import Answer, FeatureType, Json, ModelSchema, Row


def choose(manifest: Manifest, wanted: str, where: str) -> RuntimeName:
    """Choose the runtime of a bundle's model.

    Args:
        wanted: ``auto``, ``onnx`` or ``sklearn``.

    Raises:
        BundleError: the bundle has nothing that the wanted runtime could run.
    """
    own = FORMATS[manifest.format].runtime
    if own == "onnx":
        if wanted == "sklearn":
            raise BundleError(f"{where}: is an ONNX model, which scikit-learn cannot run; set serving.runtime: auto")
        return "onnx"
    if wanted == "sklearn":
        return own
    converted = manifest.onnx
    if converted is not None and converted.file is not None:
        return "onnx"
    if wanted == "onnx":
        reason = converted.reason if converted is not None else "it was bundled without one"
        raise BundleError(f"{where}: has no ONNX graph ({reason}); set serving.runtime: auto")
    return own


def load_runtime(
    manifest: Manifest, files: Mapping[str, bytes], runtime: RuntimeName, trusted_types: Sequence[str], folder: Path
) -> tuple[Runtime, str]:
    """Load a bundle's model from verified bytes, and give it with the path of its file.

    Raises:
        BundleError: the file cannot be loaded, or does not fit the manifest.
    """
    if runtime != "onnx":
        where = f"{folder / manifest.model_file}"
        return _sklearn(manifest, files[manifest.model_file], manifest.format, trusted_types, where), where
    from app.serving.runtimes.onnx import MISSING_TEXT, OnnxModel, open_session

    converted = manifest.onnx.file if manifest.onnx else None
    name = converted or manifest.model_file
    where = f"{folder / name}"
    session = open_session(files[name], where)
    missing_text = MISSING_TEXT if converted else None
    schema, single_rows = manifest.schema_of(), manifest.single_rows
    return OnnxModel(session, schema, missing_text=missing_text, what=where, single_rows=single_rows), where


def _sklearn(manifest: Manifest, data: bytes, file: str, trusted_types: Sequence[str], where: str) -> Estimator:
    model, versions = load_model(data, file=file, trusted_types=trusted_types, what=where)
    if versions:
        log = structlog.get_logger("bundle")
        log.warning("model_of_another_version", file=where, written_by=versions, checked_by="golden rows")
    schema = manifest.schema_of()
    if hasattr(model, "name_classes"):
        model.name_classes(schema.classes)
    takes = getattr(model, "n_features_in_", len(schema.features))
    if takes != len(schema.features):
        raise BundleError(
            f"{where}: takes {takes} features, bundle.yaml lists {len(schema.features)}; bundle the model again"
        )
    if schema.classes and classes_of(model) != schema.classes:
        raise BundleError(f"{where}: has other classes than bundle.yaml; bundle the model again")
    if schema.threshold is not None and not hasattr(model, "predict_proba"):
        raise BundleError(
            f"{where}: gives no probabilities that a threshold could decide on; remove threshold from bundle.yaml"
        )
    return Estimator(
        model,
        schema,
        layout=manifest.input,
        dtypes=manifest.dtypes,
        levels={name: Levels(entry.values, entry.ordered, entry.dtype) for name, entry in manifest.levels.items()},
        single_rows=manifest.single_rows,
    )


__all__ = ["Bundle", "find_versions", "libraries", "read_bundle", "read_manifest"]

LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas")
"""Libraries on whose versions a model's answers can depend, beside those that read its format."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """One model version, loaded and verified.

    Attributes:
        sha256: of ``bundle.yaml``, which pins every other file.
        estimator: the model, in the runtime that serves it.
        in_sample: whether the reference are rows that the model was fitted on.
        golden_rows: rows that the model has answered as it did when it was bundled.
    """

    schema: ModelSchema
    folder: Path
    estimator: Runtime
    runtime: RuntimeName
    golden_rows: Sequence[Row]
    profile: Json
    baseline: Json
    in_sample: bool
    format: str
    input: str
    sha256: str
    created_at: str
    libraries: Mapping[str, str]


def read_bundle(
    folder: Path,
    *,
    allow_pickle: bool = False,
    trusted_types: Sequence[str] = (),
    runtime: Literal["auto", "onnx", "sklearn"] = "auto",
) -> Bundle:
    """Read, verify and load ``models/<name>/<version>/``.

    Args:
        allow_pickle: whether a model may be loaded that runs code: a joblib file's, or the bundle's own modules'.
        trusted_types: types that skops may build beyond the reviewed list.
        runtime: what runs the model; ``auto`` is ONNX where the bundle has a graph that agrees, else scikit-learn.

    Raises:
        BundleError: it is refused; one line says why, and what to do.
    """
    manifest, sha256 = read_manifest(folder)
    if FORMATS[manifest.format].runs_code and not allow_pickle:
        raise BundleError(
            f"{folder / manifest.model_file}: loading a {manifest.format} file runs the code inside it; bundle "
            "the model as skops, or set serving.allow_pickle: true if you trust its source"
        )
    chosen = choose(manifest, runtime, f"{folder}")
    files = {name: _verified(folder, name, pinned) for name, pinned in manifest.files.items()}
    if chosen != "onnx" and CODE in files:
        trusted_types = [*trusted_types, _install(files[CODE], folder, permitted=allow_pickle)]
    profile = parse_profile(files[PROFILE], f"{folder / PROFILE}")
    estimator, where = load_runtime(manifest, files, chosen, trusted_types, folder)
    arrays = _read_reference(estimator.schema, files[REFERENCE], f"{folder / REFERENCE}")
    rows, answers = golden_rows(estimator.schema, arrays)
    if GOLDEN in files:
        own = load_golden(estimator.schema, files[GOLDEN], f"{folder / GOLDEN}")
        rows, answers = [*rows, *own[0]], [*answers, *own[1]]
    _check(estimator, rows, answers, manifest, where)
    return Bundle(
        schema=estimator.schema,
        folder=folder,
        estimator=estimator,
        runtime=chosen,
        golden_rows=rows,
        profile=profile,
        baseline=profile["baseline"],
        in_sample=profile["in_sample"],
        format=manifest.format,
        input=manifest.input,
        sha256=sha256,
        created_at=manifest.created_at,
        libraries=manifest.libraries,
    )


def _install(archive: bytes, folder: Path, *, permitted: bool) -> str:
    """Let the process import the bundle's own modules, and give the name of their types."""
    if not permitted:
        raise BundleError(
            f"{folder / CODE}: the bundle has code of its own, which runs when the model is loaded; set "
            "serving.allow_pickle: true if you trust its source"
        )
    code = UserCode(archive)
    code.install()
    return f"{code.package}.*"


def _check(estimator: Runtime, rows: Sequence[Row], answers: Sequence[Answer], manifest: Manifest, where: str) -> None:
    """Refuse a model that no longer answers its golden rows, all together, alone and in pairs."""
    if not rows:
        raise BundleError(f"{where}: has no golden row to be checked with; bundle the model again")
    check_answers(estimator, rows, answers, _changed(manifest.libraries), where)
    try:
        check_company(estimator, rows[:GOLDEN_ROWS], most=GOLDEN_ROWS)
    except DependsOnBatch as found:
        raise BundleError(f"{where}: {mixing(estimator, rows, found)}") from None


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Read ``bundle.yaml`` and its SHA-256; no other file of the bundle is read.

    Raises:
        BundleError: it is missing, or says what it may not.
    """
    text = _read(folder, MANIFEST)
    manifest = parse_manifest(text, f"{folder / MANIFEST}")
    if (manifest.name, manifest.version) != folder.absolute().parts[-2:]:
        raise BundleError(
            f"{folder}: is {manifest.name}/{manifest.version} by its bundle.yaml; move it into a folder of that name"
        )
    return manifest, hashlib.sha256(text).hexdigest()


def libraries() -> dict[str, str]:
    """The installed versions of the libraries that a model's answers can depend on."""
    names = (*LIBRARIES, *(entry.library for entry in FORMATS.values()))
    return {name: found for name in names if (found := _installed(name))}


def _read(folder: Path, name: str) -> bytes:
    """A file's bytes, read once, if it is a plain file inside the folder."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise BundleError(f"{path}: points out of its bundle; copy the file into the folder")
        if not path.is_file():
            raise BundleError(f"{path}: is missing; bundle the model again, or set serving.models and serving.active")
        if path.stat().st_size > MAX_BYTES:
            raise BundleError(f"{path}: is larger than the {MAX_BYTES} bytes that are read")
        return path.read_bytes()
    except (OSError, RuntimeError) as error:
        raise BundleError(f"{path}: cannot be read ({one_line(error)})") from error


def _verified(folder: Path, name: str, pinned: str) -> bytes:
    data = _read(folder, name)
    if hashlib.sha256(data).hexdigest() != pinned:
        raise BundleError(
            f"{folder / name}: is damaged or was changed (its sha256 is not the one in bundle.yaml); "
            "bundle the model again"
        )
    return data


def _read_reference(schema: ModelSchema, data: bytes, where: str) -> Mapping[str, NDArray[Any]]:
    """The arrays of ``reference.npz``, if each is what a check expects of it.

    Raises:
        BundleError: the file is damaged, or was not made for this schema.
    """
    check_archive(data, where)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = dict(stored)
        wrong = {name for name, array in arrays.items() if not _fits(schema, name, array)}
    except Exception as error:  # a damaged archive raises whatever its parts do
        raise BundleError(f"{where}: cannot be read ({one_line(error)}); bundle the model again") from error
    wrong |= {"prediction", *(f"x{place}" for place in range(len(schema.features)))} - arrays.keys()
    if not wrong:
        rows, whole = len(arrays["prediction"]), len(arrays.get("all_outcomes", ()))
        wrong = {name for name, array in arrays.items() if len(array) != (whole if name.startswith("all_") else rows)}
    if wrong:
        told = ", ".join(sorted(wrong))[:160]
        raise BundleError(f"{where}: does not fit the schema in bundle.yaml ({told}); bundle the model again")
    if f"x{len(schema.features)}" in arrays:
        raise BundleError(f"{where}: has more features than bundle.yaml; bundle the model again")
    return arrays


def _fits(schema: ModelSchema, name: str, array: NDArray[Any]) -> bool:
    """Whether an array has the type, the shape and the codes of what it stands for."""
    part = name.removeprefix("all_")
    if part == "probabilities":
        return array.dtype == np.float64 and array.shape[1:] == (len(schema.classes),)
    columns = {f"x{place}": feature for place, feature in enumerate(schema.features)}
    if array.ndim != 1:
        return False
    if part in ("time", "groups"):
        return array.dtype == np.int64
    if part in columns and columns[part].type is FeatureType.CATEGORICAL:
        return _has_codes(array, UNSEEN, len(columns[part].categories))
    if part not in columns and schema.classes and part in ("prediction", "predictions", "outcomes"):
        return _has_codes(array, MISSING if part == "outcomes" else 0, len(schema.classes))
    return array.dtype == np.float64 and not np.isinf(array).any()


def _has_codes(array: NDArray[Any], lowest: int, number: int) -> bool:
    return array.dtype.kind == "i" and bool(((array >= lowest) & (array < number)).all())


def _changed(then: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (old, now) for name, old in then.items() if (now := _installed(name) or "none") != old}


def _installed(library: str) -> str | None:
    for name in (library, f"{library}-cpu"):  # xgboost has a second distribution
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None
