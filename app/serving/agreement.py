"""Does the model answer through Plumbline as it answered its maker? Found out on the whole reference, before it is served."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.estimator import Estimator
from app.serving.trust import one_line
from app.types import FeatureType, ModelSchema, Row

if TYPE_CHECKING:
    import pandas as pd

Layout = Literal["array", "dataframe"]
ROUNDING = 1e-9
"""Relative difference that rounding in batches of another size can explain."""


def choose_layout(
    model: Any,
    load: Callable[[], Any],
    schema: ModelSchema,
    frame: pd.DataFrame,
    rows: Sequence[Row],
    dtypes: Mapping[str, str],
) -> Layout:
    """
    How a model must be given its rows to answer as it answered its maker.

    An array if it can be, since building a DataFrame costs more than many a prediction.

    Args:
        model: the fitted model, asked with ``frame`` as scikit-learn asks it.
        load: gives a fresh copy of the model, as it will be loaded to be served.
        rows: the rows of ``frame`` as a caller would send them.

    Raises:
        BundleError: the model fails on the data, or answers otherwise after having been stored.
    """
    schema = replace(schema, threshold=None)
    expected = _maker_answers(model, schema, frame)
    layouts: tuple[Layout, ...] = ("array", "dataframe") if _numbers_only(schema) else ("dataframe",)
    reason = ""
    for layout in layouts:
        estimator = Estimator(load(), schema, layout=layout, dtypes=dtypes)
        reason = _disagreement(estimator, rows, expected, strict=layout == "array")
        if not reason:
            return layout
    raise BundleError(f"the model answers otherwise once it is stored and loaded: {reason}")


def _numbers_only(schema: ModelSchema) -> bool:
    return all(feature.type is not FeatureType.CATEGORICAL for feature in schema.features)


def _maker_answers(model: Any, schema: ModelSchema, frame: pd.DataFrame) -> tuple[NDArray[Any], NDArray[Any] | None]:
    named = hasattr(model, "feature_names_in_") or not _numbers_only(schema)
    data = frame if named else frame.to_numpy(dtype=np.float64)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = np.asarray(model.predict(data))
            probabilities = model.predict_proba(data) if schema.classes and hasattr(model, "predict_proba") else None
    except Exception as error:  # a model can raise anything
        raise BundleError(f"the model fails on the data: {type(error).__name__}: {one_line(error)}") from error
    if labels.ndim != 1:
        raise BundleError("the model answers several values for a row; one is served")
    return labels, probabilities


def _disagreement(
    estimator: Estimator, rows: Sequence[Row], expected: tuple[NDArray[Any], NDArray[Any] | None], *, strict: bool
) -> str:
    """Why the answers are not the expected ones; empty where they are. ``strict`` lets a warning count as well."""
    labels, probabilities = expected
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error" if strict else "ignore")
            answers = estimator.predict(rows)
    except Exception as error:  # noqa: BLE001 - a model can raise anything
        return f"{type(error).__name__}: {one_line(error)}"
    found = np.array([answer.prediction for answer in answers])
    if not estimator.schema.classes:
        same = np.isclose(found, labels, rtol=ROUNDING, atol=1e-12)
        return "" if same.all() else f"{int((~same).sum())} of {len(labels)} predictions differ"
    if wrong := int((found != labels).sum()):
        return f"{wrong} of {len(labels)} predictions differ"
    if probabilities is None:
        return ""
    told = np.array([answer.probabilities for answer in answers])
    return "" if np.allclose(told, probabilities, rtol=ROUNDING, atol=ROUNDING) else "probabilities differ"
