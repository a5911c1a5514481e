"""Read a bundle: verify its files, load its model, check golden rows."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.bundle.manifest import MANIFEST, PROFILE, REFERENCE, Manifest, find_versions, parse_manifest
from app.serving.runtimes.base import Runtime, RuntimeName
from app.serving.runtimes.formats import FORMATS
from app.serving.runtimes.sklearn import Estimator, load_model
from app.serving.runtimes.skops import MAX_BYTES, check_archive, one_line
from app.types import Answer, Feature, FeatureType, Json, ModelSchema, Row, Scalar

GOLDEN_ROWS = 20
_MISSING, _UNSEEN = -1, -2


def golden_rows(schema: ModelSchema, data: bytes, where: str) -> tuple[list[Row], list[Answer]]:
    """The first rows of ``reference.npz``, decoded, with the answers stored for them.

    Rows with a category that the schema does not know are left out: their text is not stored.

    Raises:
        BundleError: the file is damaged, or was not made for this schema.
    """
    check_archive(data, where)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = dict(stored)
        columns = [arrays[f"x{position}"] for position in range(len(schema.features))]
        chosen = list(islice(_complete(schema, columns, len(arrays["prediction"])), GOLDEN_ROWS))
        decoded = [_decode(item, column[chosen]) for item, column in zip(schema.features, columns, strict=True)]
        answers = _answers(schema, arrays, chosen)
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise BundleError(
            f"{where}: does not fit the schema in bundle.yaml ({error}); bundle the model again"
        ) from error
    if f"x{len(columns)}" in arrays:
        raise BundleError(f"{where}: has more features than bundle.yaml; bundle the model again")
    if not chosen:
        raise BundleError(
            f"{where}: each row has a category that is not in the schema, none is left to check the model with"
        )
    return list(zip(*decoded, strict=True)), answers


def check_answers(
    runtime: Runtime, rows: list[Row], stored: list[Answer], libraries: Mapping[str, tuple[str, str]], where: str
) -> None:
    """Answer the golden rows and compare.

    Args:
        libraries: for each library that has another version now, the one at bundling and the present one.

    Raises:
        BundleError: an answer differs by more than rounding, or the model fails.
    """
    changed = ", ".join(f"{name} {then} then, {now} now" for name, (then, now) in libraries.items())
    advice = f"install those versions or bundle the model again: {changed}" if changed else "bundle the model again"
    try:
        answers = runtime.predict(rows)
    except Exception as error:  # a model can raise anything
        raise BundleError(f"{where}: fails on its own golden rows ({type(error).__name__}); {advice}") from error
    wrong = sum(not _same(now, then, runtime.tolerance) for now, then in zip(answers, stored, strict=True))
    if wrong:
        raise BundleError(f"{where}: answers {wrong} of {len(rows)} golden rows otherwise than when bundled; {advice}")


def _complete(schema: ModelSchema, columns: list[NDArray[Any]], rows: int) -> Any:
    known = np.ones(rows, dtype=bool)
    for feature, column in zip(schema.features, columns, strict=True):
        if feature.type is FeatureType.CATEGORICAL:
            known &= column != _UNSEEN
    return np.flatnonzero(known).tolist()


def _decode(feature: Feature, column: NDArray[Any]) -> list[Scalar]:
    match feature.type:
        case FeatureType.CATEGORICAL:
            return [None if code == _MISSING else feature.categories[code] for code in column.tolist()]
        case FeatureType.BOOLEAN:
            return [None if math.isnan(value) else bool(value) for value in column.tolist()]
        case FeatureType.INTEGER:
            return [_whole(value) for value in column.tolist()]
    return [None if math.isnan(value) else value for value in column.tolist()]


def _whole(value: float) -> Scalar:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value


def _answers(schema: ModelSchema, arrays: Mapping[str, NDArray[Any]], chosen: list[int]) -> list[Answer]:
    predictions = arrays["prediction"][chosen].tolist()
    if not schema.classes:
        return [Answer(value) for value in predictions]
    labels = [schema.classes[code] for code in predictions]
    if "probabilities" not in arrays:
        return [Answer(label) for label in labels]
    rows = arrays["probabilities"][chosen].tolist()
    return [Answer(label, tuple(row)) for label, row in zip(labels, rows, strict=True)]


def _same(now: Answer, then: Answer, tolerance: float) -> bool:
    shares, stored = now.probabilities or (), then.probabilities or ()
    if len(shares) != len(stored) or any(
        abs(one - other) > tolerance for one, other in zip(shares, stored, strict=True)
    ):
        return False
    if isinstance(now.prediction, float) and isinstance(then.prediction, float) and not shares:
        return math.isclose(now.prediction, then.prediction, rel_tol=tolerance, abs_tol=1e-12)
    return now.prediction == then.prediction


def choose(manifest: Manifest, wanted: str, where: str) -> RuntimeName:
    """Choose the runtime of a bundle's model.

    Args:
        wanted: ``auto``, ``onnx`` or ``sklearn``.

    Raises:
        BundleError: the bundle has nothing that the wanted runtime could run.
    """
    if FORMATS[manifest.format].runtime == "onnx":
        if wanted == "sklearn":
            raise BundleError(f"{where}: is an ONNX model, which scikit-learn cannot run; set serving.runtime: auto")
        return "onnx"
    if wanted == "sklearn":
        return "sklearn"
    converted = manifest.onnx
    if converted is not None and converted.file is not None:
        return "onnx"
    if wanted == "onnx":
        reason = converted.reason if converted is not None else "it was bundled without one"
        raise BundleError(f"{where}: has no ONNX graph ({reason}); set serving.runtime: auto")
    return "sklearn"


def load_runtime(
    manifest: Manifest, files: Mapping[str, bytes], runtime: RuntimeName, trusted_types: Sequence[str], folder: Path
) -> tuple[Runtime, str]:
    """Load a bundle's model from verified bytes, and give it with the path of its file.

    Raises:
        BundleError: the file cannot be loaded, or does not fit the manifest.
    """
    if FORMATS[manifest.format].runtime == "sklearn" and runtime == "sklearn":
        where = f"{folder / manifest.model_file}"
        return _sklearn(manifest, files[manifest.model_file], manifest.format, trusted_types, where), where
    from app.serving.runtimes.onnx import MISSING_TEXT, OnnxModel, open_session

    converted = manifest.onnx.file if manifest.onnx else None
    name = converted or manifest.model_file
    where = f"{folder / name}"
    session = open_session(files[name], where)
    missing_text = MISSING_TEXT if converted else None
    return OnnxModel(session, manifest.schema_of(), missing_text=missing_text, what=where), where


def _sklearn(manifest: Manifest, data: bytes, file: str, trusted_types: Sequence[str], where: str) -> Estimator:
    model = load_model(data, file=file, trusted_types=trusted_types, what=where)
    schema = manifest.schema_of()
    takes = getattr(model, "n_features_in_", len(schema.features))
    if takes != len(schema.features):
        raise BundleError(
            f"{where}: takes {takes} features, bundle.yaml lists {len(schema.features)}; bundle the model again"
        )
    if schema.classes and tuple(getattr(model, "classes_", ())) != schema.classes:
        raise BundleError(f"{where}: has other classes than bundle.yaml; bundle the model again")
    if schema.threshold is not None and not hasattr(model, "predict_proba"):
        raise BundleError(
            f"{where}: gives no probabilities that a threshold could decide on; remove threshold from bundle.yaml"
        )
    return Estimator(model, schema, layout=manifest.input, dtypes=manifest.dtypes)


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
        allow_pickle: whether a joblib model may be loaded, which runs the code inside it.
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
    profile = _profile(files[PROFILE], f"{folder / PROFILE}")
    estimator, where = load_runtime(manifest, files, chosen, trusted_types, folder)
    rows, answers = golden_rows(estimator.schema, files[REFERENCE], f"{folder / REFERENCE}")
    check_answers(estimator, rows, answers, _changed(manifest.libraries), where)
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


def _profile(data: bytes, where: str) -> Json:
    try:
        profile: Json = json.loads(data)
        if (
            isinstance(profile["baseline"], dict)
            and isinstance(profile["features"], dict)
            and type(profile["in_sample"]) is bool
        ):
            return profile
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise BundleError(f"{where}: is not a bundle's profile; bundle the model again")


def _changed(then: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (old, now) for name, old in then.items() if (now := _installed(name) or "none") != old}


def _installed(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
