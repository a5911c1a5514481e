"""Decide whether an ONNX graph may serve in a model's place.

It may if it answers every row alike, odd rows too, and is not slower.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from app.serving.bundle.manifest import OnnxEntry
from app.serving.bundle.onnx_export.converter import convert
from app.serving.runtimes.base import Runtime
from app.serving.runtimes.onnx import MISSING_TEXT, TOLERANCE, OnnxModel, open_session
from app.serving.runtimes.skops import one_line
from app.types import Answer, Feature, FeatureType, ModelSchema, Row, Scalar

FILE = "model.onnx"
PROBES = 8
"""Rows of the reference that are answered once more with each odd value."""
TIMED_ROWS = 64
SLOWER = 2.0
TRIES = 5
"""Calls of each, by turns, so that a busy machine slows both; the fastest one counts."""
"""How many times as long a call may take: less is noise."""


class Refused(Exception):
    """The graph does not replace the model; the text says why."""


def adopt(
    model: Any, served: Runtime, rows: Sequence[Row], *, layout: str, dtypes: Mapping[str, str]
) -> tuple[bytes | None, OnnxEntry]:
    """Convert a model, compare the answers, and give the ONNX file where it may serve.

    The second result says what became of it.

    Args:
        model: the fitted scikit-learn model; it is not changed.
        served: the same as scikit-learn serves it.
        rows: the whole reference.
        layout, dtypes: how the model is given its rows.
    """
    schema = served.schema
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = convert(model, schema, layout=layout, dtypes=dtypes)
            graph = OnnxModel(open_session(data, FILE), schema, missing_text=MISSING_TEXT, what=FILE)
        except Exception as error:  # noqa: BLE001 - a converter can raise anything
            return None, OnnxEntry(reason=f"it cannot be written in ONNX: {type(error).__name__}: {one_line(error)}")
        try:
            count, difference = _compare(served, graph, rows)
            _check_speed(served, graph, rows)
        except Refused as refusal:
            return None, OnnxEntry(reason=str(refusal))
    return data, OnnxEntry(file=FILE, rows=count, difference=difference)


def _compare(served: Runtime, graph: Runtime, rows: Sequence[Row]) -> tuple[int, float]:
    """Compare both on the reference and its variations.

    The result is the number of rows and the largest difference.
    """
    count, largest = 0, 0.0
    for what, part in [("the reference", rows), *_variations(served.schema, rows)]:
        expected, found = _answers(served, part), _answers(graph, part)
        if (expected is None) != (found is None):
            silent = "scikit-learn" if expected is None else "ONNX"
            raise Refused(f"{silent} has no answer to {what}, the other has")
        if expected is not None and found is not None:
            count += len(part)
            largest = max(largest, _difference(expected, found, what))
    return count, largest


def _variations(schema: ModelSchema, rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Rows of the reference with one odd value each, of every kind that a request may carry."""
    chosen = [rows[place] for place in np.linspace(0, len(rows) - 1, min(PROBES, len(rows))).astype(int).tolist()]
    for place, feature in enumerate(schema.features):
        for kind, value in _odd(feature).items():
            yield f"{kind} in {feature.name}", [[*row[:place], value, *row[place + 1 :]] for row in chosen]


def _odd(feature: Feature) -> dict[str, Scalar]:
    odd: dict[str, Scalar] = {"a missing value": None} if feature.nullable else {}
    if feature.type is FeatureType.CATEGORICAL:
        numbers = [value for value in feature.categories if isinstance(value, int)]
        unseen = max(numbers) + 1 if numbers else f"not {' '.join(map(str, feature.categories))}"[:1024]
        return odd | {"an unseen category": unseen}
    if feature.low is None or feature.high is None:
        return odd
    span = feature.high - feature.low or 1.0
    if feature.type is FeatureType.INTEGER:
        odd |= {"a fraction": feature.low + 0.5}
    return odd | {"a number below the bounds": feature.low - span, "a number above the bounds": feature.high + span}


def _answers(runtime: Runtime, rows: Sequence[Row]) -> list[Answer] | None:
    try:
        return runtime.predict(rows)
    except Exception:  # noqa: BLE001 - a model can raise anything, and that is the answer
        return None


def _difference(expected: Sequence[Answer], found: Sequence[Answer], what: str) -> float:
    """The largest difference of two lists of answers; Refused where it counts."""
    if isinstance(expected[0].prediction, float) and expected[0].probabilities is None:
        one, other = (np.array([answer.prediction for answer in answers], dtype=float) for answers in (expected, found))
        scale = np.maximum(np.abs(one), np.abs(one).max() * TOLERANCE)
        difference = float(np.max(np.abs(one - other) / np.where(scale == 0, 1.0, scale)))
        name = "numbers"
    else:
        wrong = sum(one.prediction != other.prediction for one, other in zip(expected, found, strict=True))
        if wrong:
            raise Refused(f"{wrong} of {len(expected)} labels differ on {what}")
        shares = [np.array([answer.probabilities or () for answer in answers]) for answers in (expected, found)]
        difference = float(np.abs(shares[0] - shares[1]).max(initial=0.0))
        name = "probabilities"
    if not difference <= TOLERANCE:
        raise Refused(f"{name} differ by up to {difference:.1e} on {what}")
    return difference


def _check_speed(served: Runtime, graph: Runtime, rows: Sequence[Row]) -> None:
    tries = [(_seconds(graph, rows[:TIMED_ROWS]), _seconds(served, rows[:TIMED_ROWS])) for _ in range(TRIES)]
    ours, theirs = (min(seconds) for seconds in zip(*tries, strict=True))
    if ours > SLOWER * theirs:
        raise Refused(f"it takes {ours * 1000:.1f} ms for {TIMED_ROWS} rows, scikit-learn {theirs * 1000:.1f} ms")


def _seconds(runtime: Runtime, rows: Sequence[Row]) -> float:
    """Processor time of a call, which another program on the machine does not lengthen."""
    started = time.process_time()
    runtime.predict(rows)
    return time.process_time() - started
