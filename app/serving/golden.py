"""Golden rows: the first of the reference, answered again at load, to catch a model that answers otherwise by now."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.runtime import Runtime
from app.serving.trust import check_archive
from app.types import Answer, Feature, FeatureType, ModelSchema, Row, Scalar

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
