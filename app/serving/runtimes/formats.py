"""The table of model formats: their files, runtimes, readers and writers.

A new format of scikit-learn models is one entry here. Bundles, the command line and the documentation read the table.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.errors import BundleError, one_line
from app.serving.runtimes.skops import load_skops, own_code

if TYPE_CHECKING:
    from app.serving.runtimes.base import RuntimeName


class ModelFormat(NamedTuple):
    """A model's form in a file.

    Attributes:
        suffixes: endings of files that hold it; in a bundle the file is called ``model.<format>``.
        runtime: what runs it.
        library: the distribution that reads it, on whose version answers can depend.
        runs_code: whether reading it runs code out of the file, so that it takes permission.
        load: gives the object in a file's bytes, with trusted types and the file's name for errors; None where the
            bytes themselves are the model.
        dump: gives the bytes of a fitted model; None where such files are made elsewhere.
    """

    suffixes: tuple[str, ...]
    runtime: RuntimeName
    library: str
    runs_code: bool = False
    load: Callable[[bytes, Sequence[str], str], Any] | None = None
    dump: Callable[[Any], bytes] | None = None


def _load_skops(data: bytes, trusted_types: Sequence[str], what: str) -> Any:
    return load_skops(data, trusted_types=trusted_types, what=what)


def _dump_skops(model: Any) -> bytes:
    import skops.io

    try:
        data: bytes = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
    except Exception as error:  # skops calls what the model's parts define
        raise BundleError(
            f"skops cannot store the model ({one_line(error)}); bundle it with --format joblib, "
            "and it is served where serving.allow_pickle is set"
        ) from error
    return data


def _load_joblib(data: bytes, trusted_types: Sequence[str], what: str) -> Any:  # noqa: ARG001 - it asks for no types
    import joblib

    try:
        return joblib.load(io.BytesIO(data))
    except ModuleNotFoundError as error:
        raise BundleError(f"{what}: {own_code(error.name or '')}") from error
    except Exception as error:  # unpickling runs foreign code
        hint = own_code("__main__") if "'__main__'" in str(error) else "bundle the model again"
        raise BundleError(f"{what}: joblib cannot read it ({one_line(error)}); {hint}") from error


def _dump_joblib(model: Any) -> bytes:
    import joblib

    buffer = io.BytesIO()
    joblib.dump(model, buffer, compress=3)
    return buffer.getvalue()


def _load_own(library: str, data: bytes, what: str) -> Any:
    from app.serving.runtimes.boosters import load_booster

    return load_booster(library, data, what)


def _dump_own(model: Any) -> bytes:
    data: bytes = model.data
    return data


FORMATS: Mapping[str, ModelFormat] = {
    "skops": ModelFormat((".skops",), "sklearn", "skops", load=_load_skops, dump=_dump_skops),
    "joblib": ModelFormat(
        (".joblib", ".pkl", ".pickle"), "sklearn", "joblib", runs_code=True, load=_load_joblib, dump=_dump_joblib
    ),
    "onnx": ModelFormat((".onnx",), "onnx", "onnxruntime"),
    "xgboost": ModelFormat(
        (".ubj", ".json"),
        "xgboost",
        "xgboost",
        load=lambda data, _, what: _load_own("xgboost", data, what),
        dump=_dump_own,
    ),
    "lightgbm": ModelFormat(
        (".txt",), "lightgbm", "lightgbm", load=lambda data, _, what: _load_own("lightgbm", data, what), dump=_dump_own
    ),
    "catboost": ModelFormat(
        (".cbm",), "catboost", "catboost", load=lambda data, _, what: _load_own("catboost", data, what), dump=_dump_own
    ),
}
AUTO = "auto"
"""Stores a model of XGBoost, LightGBM or CatBoost in its library's own format, and any other as skops."""


def storable() -> list[str]:
    """List the formats in which any fitted model can be stored, the safe one first."""
    return [name for name, entry in FORMATS.items() if entry.dump is not None and entry.runtime == "sklearn"]


def suffixes() -> str:
    """Name the endings of model files, in words.

    >>> suffixes()
    '.skops, .joblib, .pkl, .pickle, .onnx, .ubj, .json, .txt or .cbm'
    """
    *most, last = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
    return f"{', '.join(most)} or {last}"


def dump_model(model: Any, name: str) -> bytes:
    """Write a fitted model in a format.

    Raises:
        BundleError: no fitted model is stored in this format, or this one cannot be.
    """
    dump = FORMATS[name].dump if name in FORMATS else None
    if dump is None:
        raise BundleError(f"a fitted model is stored as {' or '.join(storable())}, not as {name}")
    return dump(model)


def format_of_file(path: Path) -> str:
    """Find the format of a file by what its name ends in.

    Raises:
        BundleError: no format has this ending.
    """
    found = next((name for name, entry in FORMATS.items() if path.suffix in entry.suffixes), None)
    if found is None:
        raise BundleError(f"{path}: a model is a {suffixes()} file")
    return found
