"""Models that can be bundled: a fitted estimator, or an ONNX file, proved on the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.bundle.manifest import OnnxEntry
from app.serving.bundle.onnx_export.acceptance import adopt
from app.serving.bundle.schema_inference import dtypes_of, rows_of
from app.serving.runtimes.base import Runtime
from app.serving.runtimes.formats import dump_model
from app.serving.runtimes.sklearn import Estimator, load_model
from app.serving.runtimes.skops import one_line
from app.types import Feature, FeatureType, ModelSchema, Row, Scalar

if TYPE_CHECKING:
    import pandas as pd
from functools import cached_property
from typing import TYPE_CHECKING

from app.serving.bundle.onnx_export.acceptance import FILE
from app.serving.bundle.schema_inference import classification
from app.serving.runtimes.onnx import OnnxModel, is_matrix, is_number_output, open_session
from app.types import Label, Task

if TYPE_CHECKING:
    import pandas as pd
from typing import TYPE_CHECKING, Protocol

from app.serving.bundle.schema_inference import KnownColumns, feature_names, known_columns, schema_of

if TYPE_CHECKING:
    import pandas as pd


Layout = Literal["array", "dataframe"]
ROUNDING = 1e-9
"""Relative difference that rounding in batches of another size can explain."""


@dataclass(frozen=True, slots=True)
class Proved:
    """A model as it will be served.

    Attributes:
        schema: with ``nullable`` where the model takes a missing value.
        files: the model's files by name: its own, and that of its ONNX graph where one may serve in its place.
        onnx: what became of a scikit-learn model as an ONNX graph.
        layout: how the model is given its rows, with ``dtypes`` where that is a DataFrame.
        rows: the reference as callers would send it.
        runtime: the model as its maker runs it, whose answers the reference keeps.
    """

    schema: ModelSchema
    files: Mapping[str, bytes]
    onnx: OnnxEntry | None
    layout: Layout
    dtypes: Mapping[str, str]
    rows: Sequence[Row]
    runtime: Runtime


def prove(
    model: Any, schema: ModelSchema, *, frame: pd.DataFrame, fitted_on: pd.DataFrame, file: str, trust: Sequence[str]
) -> Proved:
    """Store a fitted model, load it, and let both answer the reference.

    Rows are given as an array if the answers allow it, since to build a DataFrame costs more than many a prediction.

    Args:
        model: asked as scikit-learn asks it; it is not changed.
        schema: as inferred, or as the user has edited it.
        frame: the features of the reference.
        fitted_on: the features of the training data, whose dtypes the model may insist on.
        file: the format of the model file.
        trust: types that skops may build beyond the reviewed list.

    Raises:
        BundleError: the model cannot be stored, fails on the data, or answers otherwise when it is loaded again.
    """
    stored = dump_model(model, file)
    dtypes, rows = dtypes_of(schema.features, fitted_on), rows_of(schema.features, frame)

    def load(layout: Layout) -> Estimator:
        loaded = load_model(stored, file=file, trusted_types=trust, what=f"model.{file}")
        return Estimator(loaded, replace(schema, threshold=None), layout=layout, dtypes=dtypes)

    layout = _layout(load, rows, _maker_answers(model, schema, frame))
    able = replace(schema, features=nullable(load(layout), rows))
    served = Estimator(
        load_model(stored, file=file, trusted_types=trust, what=f"model.{file}"), able, layout=layout, dtypes=dtypes
    )
    graph, entry = adopt(model, served, rows, layout=layout, dtypes=dtypes)
    files = {f"model.{file}": stored} | ({} if graph is None or entry.file is None else {entry.file: graph})
    return Proved(able, files, entry, layout, dtypes if layout == "dataframe" else {}, rows, served)


def _layout(
    load: Callable[[Layout], Estimator], rows: Sequence[Row], expected: tuple[NDArray[Any], NDArray[Any] | None]
) -> Layout:
    reason = ""
    for layout in ("array", "dataframe"):
        estimator = load(layout)
        if layout == "array" and not _numbers_only(estimator.schema):
            continue
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
    except Exception as error:
        raise BundleError(f"the model fails on the data: {type(error).__name__}: {one_line(error)}") from error
    if labels.ndim != 1:
        raise BundleError("the model answers several values for a row; one is served")
    return labels, probabilities


def _disagreement(
    estimator: Estimator, rows: Sequence[Row], expected: tuple[NDArray[Any], NDArray[Any] | None], *, strict: bool
) -> str:
    """Say why the answers are not the expected ones; ``strict`` lets a warning count as well."""
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


def nullable(runtime: Runtime, rows: Sequence[Row]) -> tuple[Feature, ...]:
    """Leave ``nullable`` only where the model takes a missing value: it is asked."""
    row = next((row for row in rows if None not in row), rows[0])
    return tuple(
        replace(feature, nullable=feature.nullable and _takes(runtime, [*row[:place], None, *row[place + 1 :]]))
        for place, feature in enumerate(runtime.schema.features)
    )


def _takes(runtime: Runtime, row: list[Scalar]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runtime.predict([row])
    except Exception:  # noqa: BLE001 - a model can raise anything, and that is the answer
        return False
    return True


@dataclass(frozen=True)
class OnnxFile:
    """The bytes of an ONNX file as a source of a bundle."""

    data: bytes

    format = "onnx"

    def feature_names(self, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
        """Give the names of the graph's inputs.

        A graph of one table takes the data's columns ``without`` some, in their order.

        Raises:
            BundleError: the data lacks columns that the graph takes.
        """
        columns = [str(name) for name in data.columns if name not in without]
        inputs = self._session.get_inputs()
        if is_matrix(inputs, columns):
            return columns
        names = [each.name for each in inputs]
        if absent := [name for name in names if name not in columns]:
            raise BundleError(f"the data lacks columns that the model takes: {', '.join(absent)}")
        return names

    def schema(
        self,
        name: str,
        version: str,
        features: Sequence[Feature],
        *,
        target: pd.Series[Any],
        positive: Label | None,
        threshold: float | None,
    ) -> ModelSchema:
        """The schema of the graph; its classes are the sorted values of the target.

        Raises:
            BundleError: ``positive`` and ``threshold`` do not fit it.
        """
        if is_number_output(self._session.get_outputs()):
            if positive is not None or threshold is not None:
                raise BundleError("a regression has no positive class and no threshold")
            return ModelSchema(name, version, Task.REGRESSION, tuple(features))
        classes = tuple(sorted(target.dropna().unique().tolist(), key=lambda label: (isinstance(label, str), label)))
        return classification(name, version, features, classes, positive, threshold)

    def prove(self, schema: ModelSchema, frame: pd.DataFrame, fitted_on: pd.DataFrame) -> Proved:  # noqa: ARG002 - a graph has no dtypes to learn
        """Let the graph answer the reference.

        Raises:
            BundleError: it does not fit the schema, has no answer, or its probabilities are of other classes.
        """
        rows = rows_of(schema.features, frame)
        model = OnnxModel(self._session, schema, missing_text=None, what=FILE)
        try:
            _check_order(replace(schema, threshold=None), model, rows)
        except (KeyError, ValueError, RuntimeError) as error:
            raise BundleError(f"the model fails on the data: {type(error).__name__}: {one_line(error)}") from error
        model.schema = replace(schema, features=nullable(model, rows))
        layout: Layout = "array" if is_matrix(self._session.get_inputs(), schema.feature_names) else "dataframe"
        return Proved(model.schema, {FILE: self.data}, None, layout, {}, rows, model)

    def known(self) -> KnownColumns:
        """The inputs of the graph that are text or numbers, where each column is one."""
        inputs = self._session.get_inputs()
        classes = () if is_number_output(self._session.get_outputs()) else None
        if any(len(each.shape) > 1 and each.shape[1] != 1 for each in inputs):
            return KnownColumns(None, {}, classes)
        text, number = FeatureType.CATEGORICAL, FeatureType.NUMERIC
        kinds = {each.name: text if each.type == "tensor(string)" else number for each in inputs}
        features = {name: Feature(name, kind, nullable=True) for name, kind in kinds.items()}
        return KnownColumns(tuple(each.name for each in inputs), features, classes)

    @cached_property
    def _session(self) -> Any:
        return open_session(self.data, FILE)


def _check_order(schema: ModelSchema, model: OnnxModel, rows: Sequence[Row]) -> None:
    """Refuse probabilities whose order differs from that of the labels.

    In a wrong order, most labels would not be the likeliest class.
    """
    answers = [answer for answer in model.predict(rows) if answer.probabilities is not None]
    odd = sum(
        answer.prediction != schema.classes[max(range(len(schema.classes)), key=answer.probabilities.__getitem__)]
        for answer in answers
        if answer.probabilities is not None
    )
    if odd * 2 > len(answers):
        raise BundleError(
            f"its probabilities are not in the order of the classes {', '.join(map(str, schema.classes))}"
        )


class Source(Protocol):
    """A model on its way into a bundle."""

    def known(self) -> KnownColumns:
        """Give what the model itself knows of the columns of its data."""

    @property
    def format(self) -> str:
        """The manifest's word for the model file."""

    def feature_names(self, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
        """Give the names of the model's features in its order.

        Where the model knows none, these are the data's columns ``without`` some.
        """

    def schema(
        self,
        name: str,
        version: str,
        features: Sequence[Feature],
        *,
        target: pd.Series[Any],
        positive: Label | None,
        threshold: float | None,
    ) -> ModelSchema:
        """The model's schema; ``positive`` may be given as text."""

    def prove(self, schema: ModelSchema, frame: pd.DataFrame, fitted_on: pd.DataFrame) -> Proved:
        """Let the model answer the features of the reference as it will be served."""


@dataclass(frozen=True)
class FittedModel:
    """A fitted scikit-learn model, and how it is to be stored."""

    model: Any
    format: str
    trusted_types: Sequence[str]

    def known(self) -> KnownColumns:
        """See :func:`app.serving.bundle.schema_inference.known_columns`."""
        return known_columns(self.model)

    def feature_names(self, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
        """See :func:`app.serving.bundle.schema_inference.feature_names`."""
        return feature_names(self.model, data, without=without)

    def schema(
        self,
        name: str,
        version: str,
        features: Sequence[Feature],
        *,
        target: pd.Series[Any],  # noqa: ARG002 - the model knows its classes
        positive: Label | None,
        threshold: float | None,
    ) -> ModelSchema:
        """See :func:`app.serving.bundle.schema_inference.schema_of`."""
        return schema_of(self.model, name, version, features, positive, threshold)

    def prove(self, schema: ModelSchema, frame: pd.DataFrame, fitted_on: pd.DataFrame) -> Proved:
        """See :func:`app.serving.bundle.sources.prove`."""
        return prove(self.model, schema, frame=frame, fitted_on=fitted_on, file=self.format, trust=self.trusted_types)
