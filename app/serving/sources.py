"""What a bundle can be made of, in one form: a fitted scikit-learn model, or an ONNX file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from app.serving.agreement import Proved, prove
from app.serving.fitted import Format, feature_names, schema_of
from app.types import Feature, Label, ModelSchema

if TYPE_CHECKING:
    import pandas as pd


class Source(Protocol):
    """A model on its way into a bundle."""

    @property
    def format(self) -> str:
        """The manifest's word for the model file."""

    def feature_names(self, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
        """The names of the model's features in its order; where it knows none, the data's columns ``without`` some."""

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
    format: Format
    trusted_types: Sequence[str]

    def feature_names(self, data: pd.DataFrame, *, without: Sequence[str | None]) -> list[str]:
        """See :func:`app.serving.fitted.feature_names`."""
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
        """See :func:`app.serving.fitted.schema_of`."""
        return schema_of(self.model, name, version, features, positive, threshold)

    def prove(self, schema: ModelSchema, frame: pd.DataFrame, fitted_on: pd.DataFrame) -> Proved:
        """See :func:`app.serving.agreement.prove`."""
        return prove(self.model, schema, frame=frame, fitted_on=fitted_on, file=self.format, trust=self.trusted_types)
