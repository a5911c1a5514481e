"""The schema of a model: from the fitted estimator and from its data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import BundleError
from app.serving.bundle.manifest import MAX_NAME
from app.serving.runtimes.sklearn import classes_of
from app.types import MAX_TEXT, Feature, FeatureType, Label, ModelSchema, Row, Scalar, Task

if TYPE_CHECKING:
    import pandas as pd


def feature_names(model: Any, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
    """Give the names of the model's features in its order.

    Where the model knows none, these are the data's columns ``without`` some.

    Raises:
        BundleError: the model takes columns that the data lacks, or another number of them.
    """
    known = getattr(model, "feature_names_in_", None)
    names = [
        str(name) for name in (data.columns if known is None else known) if known is not None or name not in without
    ]
    check_names(names, data, without=without)
    takes = getattr(model, "n_features_in_", len(names))
    if takes != len(names):
        raise BundleError(f"the model takes {takes} features, the data has {len(names)} beside the target")
    return names


def check_names(names: Sequence[str], data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
    """Give the names of features back, if the data have them and a request can carry them.

    Raises:
        BundleError: one of them is the target, is absent, stands twice, or is no name.
    """
    if without and without[0] in names:
        raise BundleError(
            f"the model takes the target {without[0]} as a feature, which nobody knows when it is asked; fit it without"
        )
    if absent := [name for name in names if name not in data.columns]:
        raise BundleError(f"the data lacks columns that the model takes: {', '.join(map(repr, absent))}")
    columns = list(data.columns)
    if twice := sorted({name for name in names if columns.count(name) > 1}):
        raise BundleError(f"the data has two columns of one name: {', '.join(twice)}; rename one")
    for name in names:
        if len(name) > MAX_NAME:
            raise BundleError(
                f"column {name[:60]!r}...: its name has {len(name)} characters, and at most {MAX_NAME} are taken; "
                "rename it and fit the model again"
            )
        if not name or "\x00" in name or any("\ud800" <= sign <= "\udfff" for sign in name):
            raise BundleError(f"column {name!r}: no request can carry this name; rename it and fit the model again")
    return list(names)


def schema_of(
    model: Any, name: str, version: str, features: Sequence[Feature], positive: Label | None, threshold: float | None
) -> ModelSchema:
    """The schema of a fitted model; ``positive`` may be given as text.

    Raises:
        BundleError: it is neither classifier nor regressor, or ``positive`` and ``threshold`` do not fit it.
    """
    from sklearn.base import BaseEstimator, is_classifier, is_regressor

    if not isinstance(model, BaseEstimator) or not (is_classifier(model) or is_regressor(model)):
        raise BundleError(f"a {type(model).__name__} is neither a scikit-learn classifier nor a regressor")
    if is_regressor(model):
        if positive is not None or threshold is not None:
            raise BundleError("a regression has no positive class and no threshold")
        return ModelSchema(name, version, Task.REGRESSION, tuple(features))
    if threshold is not None and not hasattr(model, "predict_proba"):
        raise BundleError("a threshold needs a model that gives probabilities")
    return classification(name, version, features, _classes(model), positive, threshold)


def classification(
    name: str,
    version: str,
    features: Sequence[Feature],
    classes: tuple[Label, ...],
    positive: Label | None,
    threshold: float | None,
) -> ModelSchema:
    """The schema of a classifier; ``positive`` may be given as text.

    Raises:
        BundleError: there is nothing to choose from, or ``positive`` and ``threshold`` do not fit the classes.
    """
    if len(classes) < 2:  # noqa: PLR2004 - a choice
        raise BundleError("the model knows one class only, so that it has nothing to say")
    if not all(isinstance(label, str | int | float | bool) for label in classes):
        raise BundleError("the model's classes are neither text, numbers nor booleans")
    task = Task.BINARY if len(classes) == 2 else Task.MULTICLASS  # noqa: PLR2004 - binary
    if task is Task.MULTICLASS and threshold is not None:
        raise BundleError(f"a threshold needs two classes, the model has {len(classes)}")
    return ModelSchema(name, version, task, tuple(features), classes, _positive(classes, positive), threshold)


def _classes(model: Any) -> tuple[Label, ...]:
    if not hasattr(model, "classes_"):
        raise BundleError("the model is not fitted")
    classes = classes_of(model)
    if not classes:
        raise BundleError("the model answers several labels for a row; one is served")
    return classes


def _positive(classes: tuple[Label, ...], wanted: Label | None) -> Label | None:
    if wanted is None:
        return classes[-1] if len(classes) == 2 else None  # noqa: PLR2004 - binary
    for label in classes:
        if label == wanted or str(label) == wanted:
            return label
    raise BundleError(f"the model has no class {wanted}; it has {', '.join(map(str, classes))}")


@dataclass(frozen=True, slots=True)
class KnownColumns:
    """The knowledge of a model of the columns of its data, before these are read.

    Attributes:
        names: its features; None where it has no names.
        features: those whose type it shows.
        classes: empty in regression; None where it does not tell.
    """

    names: tuple[str, ...] | None
    features: Mapping[str, Feature]
    classes: tuple[Label, ...] | None


def known_columns(model: Any) -> KnownColumns:
    """The columns of which a fitted model shows the type.

    They are those that it encodes, and those that it takes as numbers.

    An encoder knows its categories; text that they lack was missing when it was fitted.
    """
    names = getattr(model, "feature_names_in_", None)
    found: dict[str, Feature] = {}
    _look(model, [] if names is None else list(map(str, names)), found)
    classes = getattr(model, "classes_", None)
    labels = () if classes is None else tuple(classes.tolist()) if getattr(classes, "ndim", 0) == 1 else None
    return KnownColumns(None if names is None else tuple(map(str, names)), found, labels)


def _look(step: Any, names: Sequence[str], found: dict[str, Feature]) -> None:
    """Look into a fitted estimator that is given these columns."""
    if indices := getattr(step, "_transformer_to_input_indices", None):
        for name, inner, _ in step.transformers_:
            _look(inner, [names[place] for place in indices.get(name, ()) if place < len(names)], found)
    elif hasattr(step, "steps"):
        inner = (each for _, each in step.steps if each not in (None, "passthrough"))
        _look(next((each for each in inner if not type(each).__name__.endswith("Imputer")), None), names, found)
    elif parts := _parts(step):
        for part in parts:
            _look(part, names, found)
    elif len(categories := getattr(step, "categories_", ())) == len(names) > 0:
        found |= {
            name: known for name, values in zip(names, categories, strict=True) if (known := _encoded(name, values))
        }
    elif _takes_numbers(step):
        found |= {name: Feature(name, FeatureType.NUMERIC, nullable=True) for name in names if name not in found}


def _encoded(name: str, values: Sequence[Any]) -> Feature | None:
    """The feature that an encoder knows by its text; None where it knows other values."""
    texts = tuple(str(value) for value in values if isinstance(value, str))
    others = [value for value in values if not isinstance(value, str) and value is not None and value == value]  # noqa: PLR0124 - not NaN
    return None if others or not texts else Feature(name, FeatureType.CATEGORICAL, nullable=True, categories=texts)


def _parts(step: Any) -> list[Any]:
    """The fitted estimators inside one that gives them its own columns."""
    calibrated = [each.estimator for each in getattr(step, "calibrated_classifiers_", ())]
    single = [getattr(step, name, None) for name in ("best_estimator_", "regressor_", "estimator_", "_preprocessor")]
    several = [each for _, each in getattr(step, "transformer_list", ())] + [
        *getattr(step, "named_estimators_", {}).values()
    ]
    return [*calibrated, *several, *(each for each in single if each is not None)]


def _takes_numbers(step: Any) -> bool:
    from sklearn.base import BaseEstimator
    from sklearn.utils import get_tags

    if (
        not isinstance(step, BaseEstimator)
        or hasattr(step, "transformers")
        or getattr(step, "is_categorical_", None) is not None
    ):
        return False
    tags = get_tags(step)
    return not (tags.no_validation or tags.input_tags.string or tags.input_tags.categorical)


MAX_CATEGORIES = 1000
"""More categories than this are not kept: the rarest are watched together, as unseen ones."""
MAX_LISTED = 100_000
"""Most characters of all categories of a feature together: free text is not written into a schema."""


def infer_features(frame: pd.DataFrame, most: int = MAX_CATEGORIES) -> tuple[Feature, ...]:
    """Infer the features of a DataFrame's columns, in their order.

    A feature is ``nullable`` where a value is missing.

    Whole numbers are integers, text and pandas categories are categorical with their values sorted, and numbers have
    the bounds that are seen.

    Args:
        most: categories that are kept of a feature, the most frequent ones.

    Raises:
        BundleError: a column is neither numbers, booleans nor text, or holds infinite numbers.

    >>> import pandas as pd
    >>> [feature] = infer_features(pd.DataFrame({"colour": ["red", None, "blue"]}))
    >>> feature.type.value, feature.categories, feature.nullable
    ('categorical', ('blue', 'red'), True)
    """
    return tuple(_infer(str(name), frame[name], most) for name in frame.columns)


def rows_of(features: Sequence[Feature], frame: pd.DataFrame) -> list[Row]:
    """Turn a DataFrame into rows as a caller would send them.

    Values are plain, in schema order; a missing one is None.
    """
    columns = [_scalars(feature, frame[feature.name]) for feature in features]
    return list(zip(*columns, strict=True))


def widen(features: Sequence[Feature], frame: pd.DataFrame) -> tuple[Feature, ...]:
    """Widen bounds and ``nullable`` so that they cover other rows too; categories stay."""
    return tuple(_widened(feature, frame[feature.name]) for feature in features)


def _infer(name: str, column: pd.Series[Any], most: int) -> Feature:
    present = column.dropna()
    kind = _type(name, column, present)
    feature = Feature(name, kind, nullable=len(present) < len(column))
    if kind is FeatureType.CATEGORICAL:
        return replace(feature, categories=_categories(present, most), max_length=_longest(present))
    low, high = _bounds(name, present) if kind.is_number else (None, None)
    return replace(feature, low=low, high=high)


def _type(name: str, column: pd.Series[Any], present: pd.Series[Any]) -> FeatureType:
    from pandas.api import types

    if types.is_bool_dtype(column.dtype):
        return FeatureType.BOOLEAN
    if types.is_integer_dtype(column.dtype):
        return FeatureType.INTEGER
    if types.is_float_dtype(column.dtype):
        return FeatureType.NUMERIC
    values = set(map(type, present.astype(object).tolist()))
    if str(column.dtype) == "category":
        whole = {int if kind is float and (present.astype(float) % 1 == 0).all() else kind for kind in values}
        if whole <= {str, int}:
            return FeatureType.CATEGORICAL
        if whole <= {bool}:
            return FeatureType.BOOLEAN
    if types.is_object_dtype(column.dtype) or types.is_string_dtype(column.dtype):
        for allowed, kind in _PLAIN:
            if values <= allowed:
                return kind
    found = ", ".join(sorted(kind.__name__ for kind in values))
    raise BundleError(f"column {name}: holds {found}, and a model takes numbers, booleans or text; convert or drop it")


_PLAIN: tuple[tuple[frozenset[type], FeatureType], ...] = (
    (frozenset({str}), FeatureType.CATEGORICAL),
    (frozenset({bool}), FeatureType.BOOLEAN),
    (frozenset({int}), FeatureType.INTEGER),
    (frozenset({int, float}), FeatureType.NUMERIC),
)


def _longest(present: pd.Series[Any]) -> int:
    """Most characters of a text in a request.

    Where texts of the data are long, it is four times their length.
    """
    longest = max((len(value) for value in present.tolist() if isinstance(value, str)), default=0)
    return MAX_TEXT if 2 * longest <= MAX_TEXT else 4 * longest


def values_of(feature: Feature, column: pd.Series[Any]) -> list[Any]:
    """The different values of a column as callers send them, in order."""
    present = {value for value in _scalars(feature, column.drop_duplicates()) if value is not None}
    return sorted(present, key=by_kind)


def _categories(present: pd.Series[Any], most: int) -> tuple[str | int, ...]:
    counts = present.astype(object).value_counts()
    frequent = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:most]
    if most <= MAX_CATEGORIES:
        lengths = np.cumsum([len(str(value)) for value, _ in frequent])
        frequent = frequent[: max(1, int((lengths <= MAX_LISTED).sum()))]
    return tuple(sorted((_category(value) for value, _ in frequent), key=by_kind))


def _category(value: Any) -> str | int:
    return int(value) if isinstance(value, float) else value


def by_kind(value: Any) -> tuple[bool, Any]:
    """A key that sorts numbers before texts.

    >>> sorted(["b", 2, "a", 1], key=by_kind)
    [1, 2, 'a', 'b']
    """
    return isinstance(value, str), value


def _bounds(name: str, present: pd.Series[Any]) -> tuple[float | None, float | None]:
    try:
        values = present.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BundleError(f"column {name}: holds values that are no numbers ({error})") from None
    if not np.isfinite(values).all():
        raise BundleError(f"column {name}: holds infinite numbers, which no request can carry; replace them")
    return (float(values.min()), float(values.max())) if len(values) else (None, None)


def _widened(feature: Feature, column: pd.Series[Any]) -> Feature:
    present = column.dropna()
    feature = replace(feature, nullable=feature.nullable or len(present) < len(column))
    if not feature.type.is_number:
        return feature
    low, high = _bounds(feature.name, present)
    lows = [bound for bound in (feature.low, low) if bound is not None]
    highs = [bound for bound in (feature.high, high) if bound is not None]
    return replace(feature, low=min(lows, default=None), high=max(highs, default=None))


def _scalars(feature: Feature, column: pd.Series[Any]) -> list[Scalar]:
    missing = column.isna().tolist()
    convert = _CONVERT[feature.type]
    try:
        values = zip(column.astype(object).tolist(), missing, strict=True)
        return [None if absent else convert(value) for value, absent in values]
    except (TypeError, ValueError) as error:
        raise BundleError(f"column {feature.name}: holds values that are not {feature.type.value} ({error})") from None


def _number(value: Any) -> float:
    if isinstance(value, str):
        raise TypeError("text")
    if math.isinf(value):
        raise ValueError("infinite")
    return float(value)


def _whole(value: Any) -> int | float:
    number = _number(value)
    return int(value) if number.is_integer() else number


def _boolean(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError("neither true nor false")
    return bool(value)


_CONVERT: dict[FeatureType, Any] = {
    FeatureType.NUMERIC: _number,
    FeatureType.INTEGER: _whole,
    FeatureType.BOOLEAN: _boolean,
    FeatureType.CATEGORICAL: _category,
}
