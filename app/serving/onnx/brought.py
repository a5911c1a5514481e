"""An ONNX file that somebody made elsewhere: what it says of itself, and whether it answers the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from app.errors import BundleError
from app.serving.agreement import Layout, Proved, nullable
from app.serving.fitted import classification
from app.serving.infer import rows_of
from app.serving.onnx.adoption import FILE
from app.serving.onnx.model import OnnxModel, is_matrix, is_number_output, open_session
from app.serving.trust import one_line
from app.types import Feature, Label, ModelSchema, Row, Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class OnnxFile:
    """The bytes of an ONNX file as a source of a bundle."""

    data: bytes

    format = "onnx"

    def feature_names(self, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
        """The names of the graph's inputs; of one table, the data's columns ``without`` some, in their order.

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

    @cached_property
    def _session(self) -> Any:
        return open_session(self.data, FILE)


def _check_order(schema: ModelSchema, model: OnnxModel, rows: Sequence[Row]) -> None:
    """Refuse probabilities that stand in another order than the labels: most labels would not be the likeliest."""
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
