"""Checks of a model's answers: plausible, as before, and the same in any company."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.bundle.manifest import read_json
from app.serving.bundle.schema_inference import MAX_CATEGORIES, by_kind, values_of
from app.serving.runtimes.base import Runtime
from app.serving.runtimes.sklearn import Estimator
from app.types import Answer, Feature, FeatureType, ModelSchema, Row, Scalar

if TYPE_CHECKING:
    import pandas as pd

GOLDEN = "golden.json"
"""The file with golden rows that are not in the reference, and their answers."""
GOLDEN_ROWS = 20
MISSING, UNSEEN = -1, -2
"""Codes of a categorical column for a missing value and for a category that the schema does not know."""


def golden_rows(schema: ModelSchema, arrays: Mapping[str, NDArray[Any]]) -> tuple[list[Row], list[Answer]]:
    """The first rows of a reference, decoded, with the answers stored for them.

    Rows with a category that the schema does not know are left out: their text is not stored. None may be left.
    """
    columns = [arrays[f"x{position}"] for position in range(len(schema.features))]
    chosen = list(islice(_complete(schema, columns, len(arrays["prediction"])), GOLDEN_ROWS))
    decoded = [_decode(item, column[chosen]) for item, column in zip(schema.features, columns, strict=True)]
    return list(zip(*decoded, strict=True)), _answers(schema, arrays, chosen)


def check_answers(
    runtime: Runtime,
    rows: Sequence[Row],
    stored: Sequence[Answer],
    libraries: Mapping[str, tuple[str, str]],
    where: str,
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
    wrong = sum(not same_answer(now, then, runtime.tolerance) for now, then in zip(answers, stored, strict=True))
    if wrong:
        raise BundleError(f"{where}: answers {wrong} of {len(rows)} golden rows otherwise than when bundled; {advice}")


def _complete(schema: ModelSchema, columns: list[NDArray[Any]], rows: int) -> Any:
    known = np.ones(rows, dtype=bool)
    for feature, column in zip(schema.features, columns, strict=True):
        if feature.type is FeatureType.CATEGORICAL:
            known &= column != UNSEEN
    return np.flatnonzero(known).tolist()


def _decode(feature: Feature, column: NDArray[Any]) -> list[Scalar]:
    match feature.type:
        case FeatureType.CATEGORICAL:
            return [None if code == MISSING else feature.categories[code] for code in column.tolist()]
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


def same_answer(now: Answer, then: Answer, tolerance: float) -> bool:
    """Tell whether two answers differ by no more than rounding."""
    shares, stored = now.probabilities or (), then.probabilities or ()
    if len(shares) != len(stored) or any(
        not abs(one - other) <= tolerance for one, other in zip(shares, stored, strict=True)
    ):
        return False
    if isinstance(now.prediction, float) and isinstance(then.prediction, float) and not shares:
        return math.isclose(now.prediction, then.prediction, rel_tol=tolerance, abs_tol=1e-12)
    return now.prediction == then.prediction


def known_rows(schema: ModelSchema, rows: Sequence[Row]) -> list[Row]:
    """The first rows without a category that the schema does not know."""
    places = [place for place, feature in enumerate(schema.features) if feature.type is FeatureType.CATEGORICAL]
    known = {place: {None, *schema.features[place].categories} for place in places}
    return list(islice((row for row in rows if all(row[place] in known[place] for place in places)), GOLDEN_ROWS))


def dump_golden(rows: Sequence[Row], answers: Sequence[Answer]) -> bytes:
    """The content of :data:`GOLDEN`."""
    stored = [[answer.prediction, answer.probabilities] for answer in answers]
    return json.dumps({"rows": [list(row) for row in rows], "answers": stored}, allow_nan=False).encode()


def load_golden(schema: ModelSchema, data: bytes, where: str) -> tuple[list[Row], list[Answer]]:
    """The rows and answers of :data:`GOLDEN`.

    Raises:
        BundleError: the file was not made for this schema.
    """
    try:
        content = read_json(data)
        rows: list[Row] = [tuple(row) for row in content["rows"]]
        answers = [Answer(label, shares and tuple(shares)) for label, shares in content["answers"]]
        if len(rows) == len(answers) > 0 and {len(row) for row in rows} == {len(schema.features)}:
            return rows, answers
    except (ValueError, KeyError, TypeError):
        pass
    raise BundleError(f"{where}: does not fit the schema in bundle.yaml; bundle the model again")


def odd_values(feature: Feature) -> dict[str, Scalar]:
    """Values that a request may carry beside those of the data, by what they are."""
    odd: dict[str, Scalar] = {"a missing value": None} if feature.nullable else {}
    if feature.allowed:
        return odd
    if feature.type is FeatureType.CATEGORICAL:
        return odd | {"an unseen category": unseen_category(feature)}
    if feature.low is None or feature.high is None:
        return odd
    span = feature.high - feature.low or 1.0
    if feature.type is FeatureType.INTEGER:
        odd |= {"a fraction": feature.low + 0.5}
    return odd | {"a number below the bounds": feature.low - span, "a number above the bounds": feature.high + span}


def unseen_category(feature: Feature) -> str | int:
    """A category that is none of a feature's."""
    numbers = [value for value in feature.categories if isinstance(value, int)]
    return max(numbers) + 1 if numbers else f"not {' '.join(map(str, feature.categories))}"[:MAXUNSEEN]


MAXUNSEEN = 1024
MAX_NEIGHBOURS = 200
"""Most odd rows that golden rows are paired with."""


class DependsOnBatch(Exception):
    """A row's answer depends on the rows beside it; the text says where it was seen."""


def neighbours(schema: ModelSchema, rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows: one with odd values throughout, the others with one each."""
    made: list[Row] = []
    every = list(rows[0])
    for place, feature in enumerate(schema.features):
        for value in odd_values(feature).values():
            row = rows[len(made) % len(rows)]
            made.append([*row[:place], value, *row[place + 1 :]])
            every[place] = value
    chosen = np.linspace(0, len(made) - 1, min(len(made), most - 1)).astype(int).tolist() if made else []
    return [every, *(made[place] for place in chosen)] if made else []


def check_company(runtime: Runtime, rows: Sequence[Row], *, most: int = MAX_NEIGHBOURS) -> int:
    """Let each row be answered alone, beside an odd row and with all others.

    The result is the number of pairs.

    Args:
        most: of the odd neighbours only so many.

    Raises:
        DependsOnBatch: an answer depends on the rows beside it, or differs from call to call.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = runtime.predict(rows)
        for row, expected in zip(rows, together, strict=True):
            if not same_answer(runtime.predict([row])[0], expected, runtime.tolerance):
                raise DependsOnBatch("with other rows than alone")
        odd = neighbours(runtime.schema, rows, most)
        pairs = max(len(odd), len(rows)) if odd else 0
        for place in range(pairs):
            mine, neighbour = place % len(rows), odd[place % len(odd)]
            found = _beside(runtime, rows[mine], neighbour)
            if found is not None and not same_answer(found, together[mine], runtime.tolerance):
                raise DependsOnBatch("beside an odd row than alone")
    return pairs


def _beside(runtime: Runtime, row: Row, neighbour: Row) -> Answer | None:
    """The answer to a row beside another one; None where the other alone has none either."""
    try:
        return runtime.predict([row, neighbour])[0]
    except Exception:  # a model can raise anything
        try:
            runtime.predict([neighbour])
        except Exception:  # noqa: BLE001
            return None
        raise


def mixing(runtime: Runtime, rows: Sequence[Row], found: DependsOnBatch) -> str:
    """Say which part of a model mixes rows, and what to do."""
    step = runtime.mixing_step(rows) if isinstance(runtime, Estimator) else ""
    guilty = f"step {step} computes from all rows of a batch" if step else "it computes from all rows of a batch"
    return (
        f"the model answers a row otherwise {found} ({guilty}, or by chance); let it keep what it learnt when it was "
        "fitted, or bundle it with --single-rows, and each row is answered alone"
    )


def check_shares(probabilities: NDArray[Any], classes: Sequence[str]) -> None:
    """Raise BundleError where probabilities, shape (n, classes), are none."""
    if probabilities.shape[1:] != (len(classes),):
        raise BundleError(f"the model gives {probabilities.shape[1:]} probabilities for {len(classes)} classes")
    if missing := int(np.isnan(probabilities).any(axis=1).sum()):
        raise BundleError(f"the model has no probabilities (NaN) for {missing} of {len(probabilities)} rows")
    low, high = float(probabilities.min()), float(probabilities.max())
    if low < -ROUNDING_OF_SHARES or high > 1 + ROUNDING_OF_SHARES:
        raise BundleError(
            f"the model's probabilities lie outside 0 to 1: from {low:.3g} to {high:.3g}; are they scores? export "
            "probabilities, or the label alone"
        )
    sums = probabilities.sum(axis=1)
    if odd := int((np.abs(sums - 1) > ROUNDING_OF_SHARES).sum()):
        worst = float(sums[np.abs(sums - 1).argmax()])
        raise BundleError(
            f"the model's probabilities do not sum to 1 in {odd} of {len(sums)} rows, but to {worst:.3g}; export "
            "probabilities of classes of which one is true, or the label alone"
        )


ROUNDING_OF_SHARES = 1e-4
"""What float32 may make of a sum of probabilities."""


MAX_ALLOWED = 20_000
"""Most values of a feature that are listed as the only ones that a model takes."""


def nullable(runtime: Runtime, rows: Sequence[Row]) -> tuple[Feature, ...]:
    """Leave ``nullable`` only where the model takes a missing value: it is asked."""
    row = next((row for row in rows if None not in row), rows[0])
    return tuple(
        replace(
            feature, nullable=feature.nullable and ask(runtime, [*row[:place], None, *row[place + 1 :]]) is not None
        )
        for place, feature in enumerate(runtime.schema.features)
    )


def allowed(
    runtime: Runtime, rows: Sequence[Row], fitted_on: pd.DataFrame, listed: Sequence[Any] = ()
) -> tuple[Feature, ...]:
    """List the values of each feature of which the model takes no others: it is asked.

    An encoder that is strict fails on a value that it was not fitted on, be it a text or a number.

    Args:
        listed: values that parts of the model know, beside those in the data.
    """
    row = next((row for row in rows if ask(runtime, row) is not None), None)
    if row is None:
        return runtime.schema.features
    found = []
    for place, feature in enumerate(runtime.schema.features):
        known = values_of(feature, fitted_on[feature.name])
        strange = _strange(feature, known)
        if not strange or _taken(runtime, row, place, strange):
            found.append(feature)
            continue
        kinds = (str,) if any(isinstance(value, str) for value in known) else (int, float)
        others = {value for value in listed if isinstance(value, kinds)} | set(feature.categories)
        taken = _taken(runtime, row, place, sorted({*known, *others}, key=by_kind))
        found.append(replace(feature, allowed=tuple(taken)))
    return tuple(found)


def _taken(runtime: Runtime, row: Row, place: int, values: Sequence[Any]) -> list[Any]:
    """The values that the model has an answer to in a row; halves of them are asked together."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runtime.predict([[*row[:place], value, *row[place + 1 :]] for value in values])
    except Exception:  # noqa: BLE001 - a model can raise anything, and that is the answer
        half = len(values) // 2
        return (
            [*_taken(runtime, row, place, values[:half]), *_taken(runtime, row, place, values[half:])] if half else []
        )
    return list(values)


def _strange(feature: Feature, known: Sequence[Any]) -> list[Scalar]:
    """Values that the data do not show, between and beyond those that they do."""
    if not known or len(known) > MAX_ALLOWED:
        return []
    if feature.type is FeatureType.BOOLEAN:
        return [value for value in (False, True) if value not in known]
    if feature.type is FeatureType.CATEGORICAL:
        return [unseen_category(feature)]
    if len(known) > MAX_CATEGORIES:
        return []
    between = [(low + high) / 2 for low, high in pairwise(known)][:3]
    return [*between, known[0] - 1, known[-1] + 1]


def ask(runtime: Runtime, row: Row) -> Answer | None:
    """The answer to a row; None where the model fails."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return runtime.predict([row])[0]
    except Exception:  # noqa: BLE001 - a model can raise anything, and that is the answer
        return None
