"""Read a bundle and verify it: nothing in it is used before sha256, types and golden rows have been checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from app.errors import BundleError
from app.serving.golden import check_answers, golden_rows
from app.serving.loading import choose, load_runtime
from app.serving.manifest import MANIFEST, PROFILE, REFERENCE, Manifest, find_versions, parse_manifest
from app.serving.runtime import Runtime, RuntimeName
from app.serving.trust import MAX_BYTES, one_line
from app.types import Json, ModelSchema, Row

__all__ = ["Bundle", "find_versions", "libraries", "read_bundle", "read_manifest"]

LIBRARIES = ("scikit-learn", "numpy", "scipy", "skops", "joblib", "pandas", "onnxruntime")
"""The libraries on whose versions a model's answers can depend."""


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
    if manifest.format == "joblib" and not allow_pickle:
        raise BundleError(
            f"{folder / manifest.model_file}: loading a joblib file runs the code inside it; bundle the model as "
            "skops, or set serving.allow_pickle: true if you trust its source"
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
    """What a bundle says of itself, and the SHA-256 of ``bundle.yaml``; nothing else of the bundle is looked at.

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
    return {name: found for name in LIBRARIES if (found := _installed(name))}


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
