"""ONNX models: a guarded load, and answers by onnxruntime."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError, NoAnswer, one_line
from app.serving.runtimes.base import LARGEST, by_threshold, matrix_of, whole_blocks
from app.types import Answer, Label, ModelSchema, Row

# The messages of onnx.proto3 in which a tensor can be, by the numbers of the fields that lead there.
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# A tree's attributes are long lists of numbers, each with its key: these are passed over in one step.
_NUMBERS = re.compile(rb"(?:\x40[\x80-\xff]{0,9}[\x00-\x7f]|\x3d.{4})++", re.DOTALL)
_MAX_VARINT_BYTES = 10


def check_self_contained(data: bytes, what: str) -> None:
    """Refuse an ONNX model that is cut off or keeps tensors in other files.

    Args:
        data: the whole file.
        what: names the file in errors.

    Raises:
        BundleError: it is refused; one line says why.
    """
    try:
        external = any(_external(data))
    except (IndexError, ValueError):
        raise BundleError(f"{what}: is not a whole ONNX model; export it again") from None
    if external:
        raise BundleError(
            f"{what}: keeps tensors in other files; save it as one file (onnx.save without external data)"
        )


def _external(data: bytes) -> Iterator[bool]:
    """For each field of each tensor, whether it points out of the file."""
    if not data:
        raise ValueError("empty")
    waiting = [("model", 0, len(data))]
    while waiting:
        message, start, end = waiting.pop()
        inside = _INSIDE[message]
        for field, kind, first, last in _fields(data, start, end, skip=message == "attribute"):
            if field in inside and kind == _BYTES:
                waiting.append((inside[field], first, last))
            elif message == "tensor":
                yield field == _EXTERNAL_DATA or (field == _DATA_LOCATION and data[first:last] != b"\x00")


def _fields(data: bytes, start: int, end: int, *, skip: bool) -> Iterator[tuple[int, int, int, int]]:
    """Read the fields of a message between two positions.

    Of each: number, wire type, and the positions of its content.
    """
    while start < end:
        if skip and (numbers := _NUMBERS.match(data, start, end)):
            start = numbers.end()
            continue
        key, start = _varint(data, start)
        kind = key & 7
        if kind == _BYTES:
            length, first = _varint(data, start)
            last = first + length
        elif kind == _VARINT:
            first, (_, last) = start, _varint(data, start)
        elif kind in (_FIXED64, _FIXED32):
            first, last = start, start + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError("no such wire type")
        if last > end:
            raise ValueError("cut off")
        yield key >> 3, kind, first, last
        start = last


def _varint(data: bytes, start: int) -> tuple[int, int]:
    """A number of variable length, and the place behind it."""
    value = 0
    for shift in range(_MAX_VARINT_BYTES):
        byte = data[start + shift]
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
            return value, start + shift + 1
    raise ValueError("too long a number")


MISSING_TEXT = "\x00missing"
"""How missing text is given to a converted graph: no request can carry it."""
TOLERANCE = 1e-5
"""Difference of probabilities, and relative one of numbers, that counts as none."""

Arrange: TypeAlias = Callable[[Sequence[Row]], dict[str, NDArray[Any]]]
_NUMBER_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}
_WHOLE = {"tensor(int64)": "int64", "tensor(int32)": "int32", "tensor(bool)": "bool"}
_TEXT = "tensor(string)"
_BY_CLASS = "seq(map("
"""Probabilities as a mapping for each row, as converters give them unless told otherwise."""


class OnnxModel:
    """A graph with its schema; a row's answer does not depend on the rows beside it.

    The graph takes a tensor of shape (n, features), or for each feature an input of its name and shape (n, 1) or (n).
    It gives a number for each row; or a label, the probabilities of the classes in the schema's order, or both.

    Args:
        missing_text: what the graph takes for missing text; None where it takes none.
        what: names the file in errors.
        single_rows: whether the graph is given one row at a time, since its answer depends on the others.

    Raises:
        BundleError: the graph does not fit the schema.
    """

    tolerance = TOLERANCE

    def __init__(
        self, session: Any, schema: ModelSchema, *, missing_text: str | None, what: str, single_rows: bool = False
    ) -> None:
        self._single_rows = single_rows
        self.schema = schema
        self._session = session
        self._arrange = arrangement(session.get_inputs(), schema.feature_names, missing_text, what)
        label, scores = outputs(session.get_outputs(), schema, what)
        self._label = None if schema.threshold is not None else label
        self._scores = scores
        self._asked = [name for name in (self._label, scores) if name is not None]
        self.bounds = bounds(session.get_inputs(), schema.feature_names)
        self._classes = {known: known for known in schema.classes}  # a graph says 0 and 1 for False and True

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer validated rows, in order.

        Raises NoAnswer where the graph gives no number, and whatever onnxruntime raises.
        """
        if not rows:
            return []
        if self._single_rows:
            return [answer for row in rows for answer in self._answers([row], 1)]
        return self._answers(whole_blocks(rows), len(rows))

    @property
    def gives_labels(self) -> bool:
        """Whether the graph tells the label itself, beside any probabilities."""
        return self._label is not None

    def _answers(self, rows: Sequence[Row], count: int) -> list[Answer]:
        """The answers to the first rows."""
        found = self._session.run(self._asked, self._arrange(rows))
        if self._scores is None:
            return [Answer(self._classes[label]) for label in found[0][:count].ravel().tolist()]
        scores = self._matrix(found[-1])[:count]
        if not np.isfinite(scores).all():
            raise NoAnswer("the model has no answer to a row")
        if not self.schema.classes:
            return [Answer(value) for value in scores.ravel().tolist()]
        return list(map(Answer, self._labels(found[0], scores), map(tuple, scores.tolist())))

    def _matrix(self, scores: Any) -> NDArray[Any]:
        if isinstance(scores, list):
            scores = np.array([[row[label] for label in self.schema.classes] for row in scores])
        return np.asarray(scores)

    def _labels(self, told: NDArray[Any], scores: NDArray[Any]) -> list[Label]:
        if self._label is not None:
            return [self._classes[label] for label in told[: len(scores)].ravel().tolist()]
        schema = self.schema
        chosen = scores.argmax(axis=1).tolist() if schema.threshold is None else by_threshold(schema, scores)
        return [schema.classes[position] for position in chosen]


def open_session(data: bytes, what: str) -> Any:
    """A session of onnxruntime for a file's bytes, for one thread and low latency.

    Raises:
        BundleError: the file is cut off, needs other files, or is nothing that onnxruntime runs.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on it reports home by default, and reads this when imported
    import onnxruntime

    check_self_contained(data, what)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the batcher's thread; more would add up otherwise
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")  # else the bytes could choose another
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise BundleError(f"{what}: onnxruntime cannot load it ({one_line(error)}); export it again") from error


def arrangement(inputs: Sequence[Any], names: Sequence[str], missing_text: str | None, what: str) -> Arrange:
    """Choose how rows become the inputs of a graph.

    Raises:
        BundleError: the inputs are not these features.
    """
    if fixed := [each.name for each in inputs if each.shape and isinstance(each.shape[0], int)]:
        raise BundleError(f"{what}: input {fixed[0]} has a fixed number of rows; export it with a variable one")
    if is_matrix(inputs, names):
        return _as_matrix(inputs[0], len(names), what)
    by_name = {each.name: each for each in inputs}
    if by_name.keys() != set(names):
        odd = ", ".join(sorted(by_name.keys() ^ set(names)))
        raise BundleError(f"{what}: has other inputs than the features ({odd}); name them alike")
    columns = [(name, _column(by_name[name], missing_text, what)) for name in names]

    def as_columns(rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
        return {name: make(values) for (name, make), values in zip(columns, zip(*rows, strict=True), strict=True)}

    return as_columns


def bounds(inputs: Sequence[Any], names: Sequence[str]) -> dict[str, float]:
    """The largest size of a number that each feature's input holds.

    A feature is absent where its input holds every double.
    """
    narrow = {**_NUMBER_TYPES, **_WHOLE}
    types = {each.name: narrow.get(each.type, "") for each in inputs}
    if is_matrix(inputs, names):
        types = dict.fromkeys(names, *types.values())
    return {name: LARGEST[dtype] for name, dtype in types.items() if dtype in LARGEST}


def is_matrix(inputs: Sequence[Any], names: Sequence[str]) -> bool:
    """Tell whether a graph takes all features as one tensor instead of each by its name."""
    return len(inputs) == 1 and (len(names) > 1 or inputs[0].name not in names)


def is_number_output(found: Sequence[Any]) -> bool:
    """Tell whether a graph gives one number for each row, not a label or probabilities."""
    return len(found) == 1 and found[0].type in _NUMBER_TYPES and found[0].shape[1:] in ([], [1])


def outputs(found: Sequence[Any], schema: ModelSchema, what: str) -> tuple[str | None, str | None]:
    """The names of a graph's label and of its probabilities or number.

    Raises:
        BundleError: they do not make an answer of the schema's task.
    """
    labels = [each for each in found if each.type in _WHOLE or each.type == _TEXT]
    scores = [each for each in found if each.type in _NUMBER_TYPES or each.type.startswith(_BY_CLASS)]
    width = len(schema.classes) or 1
    fits = len(labels) <= bool(schema.classes) and len(scores) <= 1 and len(found) == len(labels) + len(scores)
    if not fits or not (scores or (labels and schema.threshold is None)):
        wanted = "a label and probabilities" if schema.classes else "one number"
        raise BundleError(f"{what}: gives {', '.join(each.name for each in found)}; {wanted} are expected")
    told = scores[0].shape[1:] if scores else []
    if any(isinstance(size, int) and size != width for size in told):
        raise BundleError(f"{what}: output {scores[0].name} has {told[0]} columns, {width} are expected")
    return next((each.name for each in labels), None), next((each.name for each in scores), None)


def _as_matrix(taken: Any, width: int, what: str) -> Arrange:
    if len(taken.shape) != 2 or taken.type not in _NUMBER_TYPES:  # noqa: PLR2004 - rows and features
        raise BundleError(f"{what}: input {taken.name} is no table of floats")
    if isinstance(taken.shape[1], int) and taken.shape[1] != width:
        raise BundleError(f"{what}: takes {taken.shape[1]} features, {width} are listed")
    name, dtype = taken.name, np.dtype(_NUMBER_TYPES[taken.type])
    return lambda rows: {name: matrix_of(rows, width).astype(dtype, copy=False)}


def _column(taken: Any, missing_text: str | None, what: str) -> Callable[[Sequence[Any]], NDArray[Any]]:
    """Choose how one feature's values become its input."""
    shape = (-1, 1)[: len(taken.shape)]
    if taken.type in _NUMBER_TYPES:
        dtype = np.dtype(_NUMBER_TYPES[taken.type])
        return lambda values: np.array(values, dtype=dtype).reshape(shape)
    if taken.type in _WHOLE:
        whole = np.dtype(_WHOLE[taken.type])
        return lambda values: _exactly(values, whole).reshape(shape)
    if taken.type == _TEXT:
        return lambda values: _text(values, missing_text).reshape(shape)
    raise BundleError(f"{what}: input {taken.name} is a {taken.type}, which no feature fills")


def _exactly(values: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Whole numbers or booleans; a fraction is not cut off but refused."""
    found = np.array(values)
    converted = found.astype(dtype)
    if not (converted == found).all():
        raise ValueError("the model takes whole numbers only")
    return converted


def _text(values: Sequence[Any], missing: str | None) -> NDArray[Any]:
    if None in values:
        if missing is None:
            raise ValueError("the model takes no missing text")
        values = [missing if value is None else value for value in values]
    return np.array(values, dtype=object)
