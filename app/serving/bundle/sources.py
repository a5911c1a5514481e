"""Models that can be bundled: a fitted estimator, or an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError, one_line
from app.serving.bundle.answers import ROUNDING_OF_SHARES, allowed, check_shares, nullable
from app.serving.bundle.onnx_export.converter import FILE
from app.serving.bundle.proof import Data, Proved, as_fitted, prove, prove_company
from app.serving.bundle.schema_inference import (
    KnownColumns,
    check_names,
    classification,
    feature_names,
    known_columns,
    rows_of,
    schema_of,
)
from app.serving.runtimes.onnx import OnnxModel, is_matrix, is_number_output, open_session
from app.serving.runtimes.sklearn import Layout
from app.types import Feature, FeatureType, Label, ModelSchema, Task

if TYPE_CHECKING:
    import pandas as pd

    from app.serving.runtimes.boosters import Booster


INTO_ORDER = "; put them into that order"
SIGMAS = 5.0
"""From here on, another order of the classes does not fit the truth better by chance."""


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
            return check_names(columns, data, without=without)
        return check_names([each.name for each in inputs], data, without=without)

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

    def is_named(self, names: Sequence[str]) -> bool:
        """Tell whether the graph knows its features by their names."""
        return not is_matrix(self._session.get_inputs(), names)

    def prove(self, schema: ModelSchema, data: Data, *, single_rows: bool) -> Proved:
        """Let the graph answer the reference.

        Raises:
            BundleError: it does not fit the schema, has no answer, its probabilities are of other classes, or its
                answer to a row depends on the others.
        """
        rows = rows_of(schema.features, data.reference)
        model = OnnxModel(self._session, schema, missing_text=None, what=FILE, single_rows=single_rows)
        model.schema = replace(schema, threshold=None)
        try:
            answers = model.predict(rows)
        except (KeyError, ValueError, RuntimeError) as error:
            raise BundleError(f"the model fails on the data: {type(error).__name__}: {one_line(error)}") from error
        if answers[0].probabilities is not None:
            probabilities = np.array([answer.probabilities for answer in answers])
            check_shares(probabilities, [str(label) for label in schema.classes])
            if model.gives_labels:
                _check_order(schema, [answer.prediction for answer in answers], probabilities)
            else:
                _check_order_by_truth(schema, data.truth.tolist(), probabilities)
        model.schema = replace(schema, features=nullable(model, rows))
        model.schema = replace(schema, features=allowed(model, rows, data.fitted_on))
        golden, proof = prove_company(model, rows, data)
        layout: Layout = "array" if is_matrix(self._session.get_inputs(), schema.feature_names) else "dataframe"
        found = {"input": layout, "single_rows": single_rows, "proof": proof}
        return Proved(model.schema, {FILE: self.data}, found, rows, golden, model)

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


def _check_order(schema: ModelSchema, labels: Sequence[Label], probabilities: NDArray[Any]) -> None:
    """Refuse probabilities whose order differs from that of the labels in any row.

    Two classes may be divided at another probability than one half.

    Raises:
        BundleError: it names the order that fits, where there is one.
    """
    told = _codes(schema.classes, labels)
    likeliest = probabilities.argmax(axis=1)
    odd = probabilities[np.arange(len(told)), told] < probabilities.max(axis=1) - ROUNDING_OF_SHARES
    if not odd.any() or (len(schema.classes) == 2 and _are_divided(told, probabilities[:, 1])):  # noqa: PLR2004 - binary
        return
    order = _best_order(told, likeliest, len(schema.classes))
    fits = bool((order[told] == likeliest).all())
    in_order = f", but of {_listed(schema, order.argsort())}" if fits else ""
    raise BundleError(
        f"its probabilities are not in the order of the classes {_listed(schema, range(len(order)))}{in_order}: in "
        f"{int(odd.sum())} of {len(told)} rows its label is not the likeliest class{INTO_ORDER}"
    )


def _check_order_by_truth(schema: ModelSchema, truth: Sequence[Label | None], probabilities: NDArray[Any]) -> None:
    """Refuse an order of probabilities that fits the truth far worse than another.

    Raises:
        BundleError: it names the better order, with both accuracies.
    """
    codes = _codes(schema.classes, truth)
    known, likeliest = codes >= 0, probabilities.argmax(axis=1)
    codes, likeliest = codes[known], likeliest[known]
    order = _best_order(codes, likeliest, len(schema.classes))
    better, worse = order[codes] == likeliest, codes == likeliest
    gain, loss = int((better & ~worse).sum()), int((worse & ~better).sum())
    if gain - loss > SIGMAS * math.sqrt(gain + loss):
        raise BundleError(
            f"its probabilities fit the truth in the order {_listed(schema, order.argsort())} (accuracy "
            f"{better.mean():.3f}), not in that of the classes {_listed(schema, range(len(order)))} (accuracy "
            f"{worse.mean():.3f}){INTO_ORDER}"
        )


def _codes(classes: Sequence[Label], labels: Sequence[Label | None]) -> NDArray[np.int64]:
    """The position of each label among the classes; -1 where it is none."""
    places = {label: place for place, label in enumerate(classes)}
    return np.array([-1 if label is None else places.get(label, -1) for label in labels], dtype=np.int64)


def _are_divided(told: NDArray[Any], shares: NDArray[Any]) -> bool:
    """Tell whether one threshold divides the rows of two labels."""
    second = told == 1
    return bool(second.any() and not second.all() and shares[second].min() >= shares[~second].max())


def _best_order(codes: NDArray[Any], likeliest: NDArray[Any], classes: int) -> NDArray[Any]:
    """For each class, the column of probabilities that fits its rows best.

    Of equal orders it is the present one.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes))
    np.add.at(counts, (codes, likeliest), 1.0)
    counts[np.diag_indices(classes)] += 0.5 / classes
    order: NDArray[Any] = linear_sum_assignment(-counts)[1]
    return order


def _listed(schema: ModelSchema, order: Any) -> str:
    return ", ".join(str(schema.classes[place]) for place in order)


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

    def is_named(self, names: Sequence[str]) -> bool:
        """Tell whether the model knows its features by their names."""

    def prove(self, schema: ModelSchema, data: Data, *, single_rows: bool) -> Proved:
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

    def is_named(self, names: Sequence[str]) -> bool:  # noqa: ARG002 - the model is known
        """Tell whether the model was fitted on named columns."""
        return hasattr(self.model, "feature_names_in_")

    def prove(self, schema: ModelSchema, data: Data, *, single_rows: bool) -> Proved:
        """See :func:`app.serving.bundle.sources.prove`."""
        return prove(self.model, schema, data, file=self.format, trust=self.trusted_types, single_rows=single_rows)


@dataclass(frozen=True)
class BoosterModel(FittedModel):
    """A model of XGBoost, LightGBM or CatBoost, stored in its library's own file.

    Attributes:
        model: as it is read out of that file.
        made: the fitted model itself, if that is what was given.
    """

    model: Booster
    made: Any = None

    def known(self) -> KnownColumns:
        """Give the names of its columns and classes; a column of names has no type yet."""
        content = self.model.content
        untyped = {*content.codes, *(content.categories or {})}
        numbers = [name for name in content.names or () if name not in untyped]
        features = {name: Feature(name, FeatureType.NUMERIC, nullable=True) for name in numbers}
        named = content.classes == () or self.model.has_names
        return KnownColumns(content.names, features, tuple(getattr(self.model, "classes_", ())) if named else None)

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
        """Give its schema; classes without names are the sorted values of the target.

        Raises:
            BundleError: the target has another number of values, or as :func:`schema_of`.
        """
        if hasattr(self.model, "name_classes"):
            self.model.name_classes(_class_names(target, self.model.content.classes))
        return super().schema(name, version, features, target=target, positive=positive, threshold=threshold)

    def prove(self, schema: ModelSchema, data: Data, *, single_rows: bool) -> Proved:
        """See :func:`app.serving.bundle.proof.prove`.

        Raises:
            BundleError: besides, the file answers otherwise than the model that was given.
        """
        if self.made is not None:
            self._compare(as_fitted(data.reference, data.fitted_on))
        proved = super().prove(schema, data, single_rows=single_rows)
        if schema.classes and self._took_names_of_target:
            self._check_names(proved, data)
        return proved

    @property
    def _took_names_of_target(self) -> bool:
        """Whether neither the file nor the model that was given tells the names of its classes."""
        from app.serving.runtimes.boosters import LIBRARIES

        told = self.made is not None and LIBRARIES[self.format].has_labels
        return not (told or self.model.content.knows_classes)

    def _check_names(self, proved: Proved, data: Data) -> None:
        """Refuse names of classes that fit the truth far worse than the same in another order."""
        shares = np.array([answer.probabilities for answer in proved.runtime.predict(proved.rows)])
        try:
            _check_order_by_truth(proved.schema, data.truth.tolist(), shares)
        except BundleError as error:
            found = str(error).removesuffix(INTO_ORDER)
            raise BundleError(
                f"{found}; the {self.format} file knows its classes by number alone, so that the sorted values of the "
                "target were taken: give the target as the numbers that the model was fitted on"
            ) from None

    def _compare(self, frame: pd.DataFrame) -> None:
        rows = frame if self.model.content.names else frame.to_numpy(dtype=np.float64)
        method = "predict_proba" if hasattr(self.model, "predict_proba") else "predict"
        wanted, found = getattr(self.made, method)(rows), getattr(self.model, method)(rows)
        if np.shape(wanted) != found.shape or not np.allclose(found, wanted, rtol=1e-6, atol=1e-6):
            raise BundleError(
                f"its {self.format} file answers otherwise than the model itself, as one with a function of your own "
                "does; bundle it with --format joblib"
            )


def _class_names(target: pd.Series[Any], positions: Sequence[Label]) -> Sequence[Label]:
    """The sorted values of the target, as names of classes that are known by number."""
    values = {int(value) if isinstance(value, float) and value.is_integer() else value for value in target.dropna()}
    if len(values) != len(positions) and values <= set(positions):
        return positions  # the data lack one of them
    try:
        return sorted(values)
    except TypeError:
        raise BundleError(f"column {target.name}: holds text and numbers, which are no classes") from None
