"""A bundle's model in the runtime that serves it: ONNX where it was found to agree, else scikit-learn itself."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.errors import BundleError
from app.serving.estimator import Estimator
from app.serving.fitted import Format
from app.serving.manifest import Manifest
from app.serving.runtime import Runtime, RuntimeName
from app.serving.trust import load_skops, one_line


def choose(manifest: Manifest, wanted: str, where: str) -> RuntimeName:
    """What runs a bundle's model.

    Args:
        wanted: ``auto``, ``onnx`` or ``sklearn``.

    Raises:
        BundleError: the bundle has nothing that the wanted runtime could run.
    """
    if manifest.format == "onnx":
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
    """Load a bundle's model from verified bytes; give it with the path of the file that it came from.

    Raises:
        BundleError: the file cannot be loaded, or does not fit the manifest.
    """
    if manifest.format != "onnx" and runtime == "sklearn":
        where = f"{folder / manifest.model_file}"
        return _sklearn(manifest, files[manifest.model_file], manifest.format, trusted_types, where), where
    from app.serving.onnx.model import MISSING_TEXT, OnnxModel, open_session

    converted = manifest.onnx.file if manifest.onnx else None
    name = converted or manifest.model_file
    where = f"{folder / name}"
    session = open_session(files[name], where)
    missing_text = MISSING_TEXT if converted else None
    return OnnxModel(session, manifest.schema_of(), missing_text=missing_text, what=where), where


def load_model(data: bytes, *, file: Format, trusted_types: Sequence[str], what: str) -> Any:
    """The estimator in a file's bytes, by the format that is claimed for it and never by its content.

    A joblib file runs the code inside it: the caller has asked for permission.

    Raises:
        BundleError: it cannot be loaded, or is no estimator.
    """
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import InconsistentVersionWarning

    with warnings.catch_warnings():
        # Golden rows say whether another version matters.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        model = (
            _load_joblib(data, what) if file == "joblib" else load_skops(data, trusted_types=trusted_types, what=what)
        )
    if not isinstance(model, BaseEstimator) or not hasattr(model, "predict"):
        raise BundleError(f"{what}: holds a {type(model).__name__}, not a fitted scikit-learn model")
    return model


def _sklearn(manifest: Manifest, data: bytes, file: Format, trusted_types: Sequence[str], where: str) -> Estimator:
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


def _load_joblib(data: bytes, what: str) -> Any:
    import joblib

    try:
        return joblib.load(io.BytesIO(data))
    except Exception as error:  # unpickling runs foreign code
        raise BundleError(f"{what}: joblib cannot read it ({one_line(error)}); bundle the model again") from error
