"""XGBoost, LightGBM and CatBoost: models out of their own files, which run no code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from app.errors import BundleError, one_line
from app.types import Label

if TYPE_CHECKING:
    import pandas as pd

Ask: TypeAlias = Callable[[Any], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a library's file.

    Attributes:
        width: number of features.
        ask: gives the numbers, or the probabilities of shape (rows, classes), of an array or a DataFrame.
        names: of the features; None where the model was fitted on an array.
        classes: of a classifier; positions where the file does not tell; empty in regression.
        knows_classes: whether the file tells them.
        categories: the features that are pandas categories, each with its values where the file tells them.
        codes: the features whose values are names, whatever they look like.
        decide: gives the labels, where they are not those of the highest probability.
        takes_float32: whether numbers are rounded to single precision.
    """

    width: int
    ask: Ask
    names: tuple[str, ...] | None
    classes: tuple[Label, ...] = ()
    knows_classes: bool = False
    categories: Mapping[str, Sequence[Any] | None] | None = None
    codes: frozenset[str] = frozenset()
    decide: Ask | None = None
    takes_float32: bool = False


class Booster(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A model out of a file, asked as scikit-learn asks a model; it uses one thread.

    Args:
        data: the bytes of the file.
    """

    def __init__(self, library: str, data: bytes, content: Content) -> None:
        self.library = library
        self.data = data
        self.content = content
        self.n_features_in_ = content.width
        self.takes_float32 = content.takes_float32
        self.decided_by_probability = content.decide is None
        if content.names is not None:
            self.feature_names_in_ = np.array(content.names, dtype=object)


class BoosterRegressor(RegressorMixin, Booster):  # type: ignore[misc]
    """A model that answers a number."""

    def predict(self, data: Any) -> NDArray[Any]:
        """The numbers, as float64 of shape (rows)."""
        return np.asarray(self.content.ask(data), dtype=np.float64)


class BoosterClassifier(ClassifierMixin, Booster):  # type: ignore[misc]
    """A model that answers a class, with probabilities."""

    def __init__(self, library: str, data: bytes, content: Content) -> None:
        super().__init__(library, data, content)
        self.classes_ = _labels(content.classes)
        self.has_names = content.knows_classes

    def name_classes(self, classes: Sequence[Label]) -> None:
        """Give the classes their names, in order, where the file does not tell them.

        Raises:
            BundleError: it has another number of classes.
        """
        if self.has_names:
            return
        if len(classes) != len(self.classes_):
            raise BundleError(f"the model tells {len(self.classes_)} classes apart, not {len(classes)}")
        self.classes_, self.has_names = _labels(classes), True

    def predict(self, data: Any) -> NDArray[Any]:
        """The labels, of shape (rows)."""
        if self.content.decide is not None:
            return np.asarray(self.content.decide(data)).ravel()
        return np.asarray(self.classes_[self.predict_proba(data).argmax(axis=1)])

    def predict_proba(self, data: Any) -> NDArray[Any]:
        """The probabilities, as float64 of shape (rows, classes)."""
        found = np.asarray(self.content.ask(data))
        shares = np.column_stack([1 - found, found]) if found.ndim == 1 else found
        return np.asarray(shares, dtype=np.float64)


def _labels(classes: Sequence[Label]) -> NDArray[Any]:
    found = np.empty(len(classes), dtype=object)
    found[:] = list(classes)
    return found


class Library(NamedTuple):
    """The reading and the writing of a library's files.

    Attributes:
        module: the package that has its scikit-learn interface, and its classes there.
        read: the content of a file's bytes.
        write: the bytes of a model of its scikit-learn interface.
        has_labels: whether that model knows the names of its classes; XGBoost's has numbers from 0 on.
    """

    module: str
    read: Callable[[Any, bytes], Content]
    write: Callable[[Any], bytes]
    has_labels: bool = True


def load_booster(library: str, data: bytes, what: str) -> Booster:
    """Read a model out of a file of a library.

    Raises:
        BundleError: the library is not installed, or cannot read it.
    """
    try:
        module = import_module(library)
    except ImportError as error:
        raise BundleError(
            f"{what}: {library} runs this model, and it is not installed here ({one_line(error)}); "
            f"pip install 'plumbline[{library}]'"
        ) from error
    try:
        content = LIBRARIES[library].read(module, data)
    except BundleError as error:
        raise BundleError(f"{what}: {error}") from error
    except Exception as error:  # whatever a library raises on a damaged file
        raise BundleError(f"{what}: {library} cannot read it ({one_line(error)}); store the model again") from error
    return (BoosterClassifier if content.classes else BoosterRegressor)(library, data, content)


def library_of(model: Any) -> str | None:
    """Name the library of a fitted model, or of one that was read; None for any other."""
    if isinstance(model, Booster):
        return model.library
    kind = type(model)
    own = next((name for name, each in LIBRARIES.items() if kind.__module__ == each.module), None)
    return own if own is not None and hasattr(model, "predict") else None


def as_booster(model: Any, library: str) -> Booster:
    """Store a fitted model in its library's own file, and read it again.

    Raises:
        BundleError: it is not fitted, or the file cannot hold all of it.
    """
    if isinstance(model, Booster):
        return model
    try:
        data = LIBRARIES[library].write(model)
    except BundleError:
        raise
    except Exception as error:  # a model that is not fitted, or of another version
        raise BundleError(f"{library} cannot store the model ({one_line(error)}); is it fitted?") from error
    booster = load_booster(library, data, f"model.{library}")
    if isinstance(booster, BoosterClassifier) and LIBRARIES[library].has_labels:
        booster.name_classes(np.asarray(model.classes_).tolist())
    return booster


# XGBoost


XGBOOST_CLASSIFIERS = ("binary:logistic", "multi:softprob", "multi:softmax")
XGBOOST_STARTS = (b'{"', b"{L")
"""How its JSON and its UBJSON begin."""
NO_PROBABILITIES = ("binary:logitraw", "binary:hinge")


def _read_xgboost(xgboost: Any, data: bytes) -> Content:
    if not data.startswith(XGBOOST_STARTS):  # its parser of UBJSON ends the process on other bytes
        raise BundleError("is neither JSON nor UBJSON of XGBoost; save the model again with save_model")
    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(data))
    learner = json.loads(booster.save_config())["learner"]
    objective = learner["objective"]["name"]
    if objective in NO_PROBABILITIES:
        raise BundleError(f"its objective {objective} gives no probabilities; fit it with binary:logistic")
    if objective == "multi:softmax":
        booster.set_param({"objective": "multi:softprob"})
    count = max(int(learner["learner_model_param"]["num_class"]), 2)
    kinds = booster.feature_types or ()
    names = booster.feature_names
    linear = learner["gradient_booster"]["name"] == "gblinear"
    best = booster.attr("best_iteration") if booster.attr("scikit_learn") is not None else None
    trees = (0, 0) if best is None else (0, int(best) + 1)

    def ask(rows: Any) -> NDArray[Any]:
        if linear:
            table = xgboost.DMatrix(rows, nthread=1, enable_categorical=True)
            return np.asarray(booster.predict(table, validate_features=False, iteration_range=trees))
        return np.asarray(booster.inplace_predict(rows, validate_features=False, iteration_range=trees))

    return Content(
        width=booster.num_features(),
        ask=ask,
        names=None if names is None else tuple(names),
        classes=tuple(range(count)) if objective in XGBOOST_CLASSIFIERS else (),
        categories={name: None for name, kind in zip(names or (), kinds, strict=False) if kind == "c"},
        takes_float32=True,
    )


def _write_xgboost(model: Any) -> bytes:
    missing = getattr(model, "missing", np.nan)
    if missing is not None and not np.isnan(missing):
        raise BundleError(
            f"it takes {missing} as a missing value, which its own file does not say; bundle it with --format joblib"
        )
    return _through_file(model.save_model, "model.ubj")


def _through_file(save: Callable[[str], Any], name: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        save(str(path))
        return path.read_bytes()


# LightGBM


_LIGHTGBM_LINE = re.compile(r"^(feature_infos|objective)=(.*)$", re.MULTILINE)
_NUMBERED = re.compile(r"Column_\d+")


def _read_lightgbm(lightgbm: Any, data: bytes) -> Content:
    text = data.decode("utf-8")
    booster = lightgbm.Booster(model_str=text)
    head = dict(_LIGHTGBM_LINE.findall(text.partition("\nTree=")[0]))
    objective = head.get("objective", "").partition(" ")[0]
    names = tuple(booster.feature_name())
    several = booster.num_model_per_iteration()
    count = several if objective.startswith("multiclass") else 2 if objective == "binary" else 0
    infos = head.get("feature_infos", "").split(" ")
    listed = [name for name, info in zip(names, infos, strict=False) if info[:1] not in ("[", "n", "")]
    levels = booster.pandas_categorical or []
    if levels and len(listed) != len(levels):
        listed = []

    def ask(rows: Any) -> NDArray[Any]:
        return np.asarray(booster.predict(rows, num_threads=1))

    return Content(
        width=booster.num_feature(),
        ask=ask,
        names=None if all(map(_NUMBERED.fullmatch, names)) else names,
        classes=tuple(range(count)),
        categories=dict(zip(listed, levels, strict=False)),
        codes=frozenset(listed),
    )


def _write_lightgbm(model: Any) -> bytes:
    return str(model.booster_.model_to_string()).encode("utf-8")


# CatBoost


HALF = 0.5
LOG_LOSSES = ("Poisson", "Tweedie")
"""Losses of CatBoost whose models sum up logarithms of what they answer."""


def _read_catboost(catboost: Any, data: bytes) -> Content:
    plain = catboost.CatBoost().load_model(blob=data)
    if not len(plain.classes_):
        loss = str(plain.get_all_params().get("loss_function", ""))
        kind = "Exponent" if loss.startswith(LOG_LOSSES) else "RawFormulaVal"
        return _of_catboost(plain, lambda rows: np.asarray(plain.predict(rows, prediction_type=kind, thread_count=1)))
    model = catboost.CatBoostClassifier().load_model(blob=data)
    classes = tuple(np.asarray(model.classes_).tolist())

    def ask(rows: Any) -> NDArray[Any]:
        return np.asarray(model.predict_proba(rows, thread_count=1))

    def decide(rows: Any) -> NDArray[Any]:
        return np.asarray(model.predict(rows, thread_count=1))

    threshold = model.get_probability_threshold() if len(classes) == 2 else HALF  # noqa: PLR2004 - binary
    return _of_catboost(model, ask, classes=classes, knows_classes=True, decide=None if threshold == HALF else decide)


def _of_catboost(model: Any, ask: Ask, **known: Any) -> Content:
    names = tuple(map(str, model.feature_names_))
    numbered = names == tuple(map(str, range(len(names))))
    return Content(
        width=len(names),
        ask=ask,
        names=None if numbered else names,
        codes=frozenset(names[place] for place in model.get_cat_feature_indices()),
        takes_float32=True,
        **known,
    )


def _write_catboost(model: Any) -> bytes:
    return _through_file(model.save_model, "model.cbm")


LIBRARIES: Mapping[str, Library] = {
    "xgboost": Library("xgboost.sklearn", _read_xgboost, _write_xgboost, has_labels=False),
    "lightgbm": Library("lightgbm.sklearn", _read_lightgbm, _write_lightgbm),
    "catboost": Library("catboost.core", _read_catboost, _write_catboost),
}
"""The libraries whose models are stored in their own files."""


def with_categories(booster: Booster, data: pd.DataFrame, frames: Sequence[pd.DataFrame | None]) -> list[Any]:
    """Make pandas categories of the columns that the model takes as such.

    Args:
        data: the rows that it was fitted on, whose values are the categories where the file does not tell them.
        frames: tables with the same columns; None stays None.
    """
    import pandas as pd

    kinds: dict[str, Any] = {}
    for name, values in (booster.content.categories or {}).items():
        if name not in data.columns:
            continue
        known = data[name].astype("category").cat.categories if values is None else pd.Index(values)
        if not isinstance(data[name].dtype, pd.CategoricalDtype):
            kinds[name] = pd.CategoricalDtype(known)
    return [None if frame is None else frame.astype(kinds) for frame in frames]
