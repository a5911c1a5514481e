"""What a fitted model says of itself: its features, task and classes; and its bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from app.errors import BundleError
from app.serving.trust import one_line
from app.types import Feature, Label, ModelSchema, Task

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["skops", "joblib"]


def feature_names(model: Any, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
    """The names of the model's features in its order; where it knows none, the data's columns ``without`` some.

    Raises:
        BundleError: the model takes columns that the data lacks, or another number of them.
    """
    known = getattr(model, "feature_names_in_", None)
    names = [
        str(name) for name in (data.columns if known is None else known) if known is not None or name not in without
    ]
    if absent := [name for name in names if name not in data.columns]:
        raise BundleError(f"the data lacks columns that the model takes: {', '.join(absent)}")
    takes = getattr(model, "n_features_in_", len(names))
    if takes != len(names):
        raise BundleError(f"the model takes {takes} features, the data has {len(names)} beside the target")
    return names


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


def dump_model(model: Any, file: Format) -> bytes:
    """A model's bytes.

    Raises:
        BundleError: skops cannot store it.
    """
    if file == "joblib":
        import joblib

        buffer = io.BytesIO()
        joblib.dump(model, buffer, compress=3)
        return buffer.getvalue()
    import skops.io

    try:
        data: bytes = skops.io.dumps(model, compression=zipfile.ZIP_DEFLATED)
    except Exception as error:  # skops calls what the model's parts define
        raise BundleError(
            f"skops cannot store the model ({one_line(error)}); as joblib it can be bundled, "
            "and is served where serving.allow_pickle is set"
        ) from error
    return data


def _classes(model: Any) -> tuple[Label, ...]:
    classes = getattr(model, "classes_", None)
    if classes is None:
        raise BundleError("the model is not fitted")
    if not hasattr(classes, "tolist") or classes.ndim != 1:
        raise BundleError("the model answers several labels for a row; one is served")
    return tuple(classes.tolist())


def _positive(classes: tuple[Label, ...], wanted: Label | None) -> Label | None:
    if wanted is None:
        return classes[-1] if len(classes) == 2 else None  # noqa: PLR2004 - binary
    for label in classes:
        if label == wanted or str(label) == wanted:
            return label
    raise BundleError(f"the model has no class {wanted}; it has {', '.join(map(str, classes))}")
