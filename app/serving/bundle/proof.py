"""Prove that a model answers as its maker asks it: stored, loaded, in any company."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError, one_line
from app.serving.bundle.answers import (
    GOLDEN_ROWS,
    DependsOnBatch,
    allowed,
    ask,
    check_company,
    check_shares,
    known_rows,
    mixing,
    neighbours,
    nullable,
    same_answer,
)
from app.serving.bundle.manifest import LevelsEntry, OnnxEntry, ProofEntry
from app.serving.bundle.onnx_export.converter import adopt
from app.serving.bundle.schema_inference import rows_of
from app.serving.runtimes.base import DEFAULT_DTYPES, KNOWN_DTYPE, OBJECT_WITH_NAN, Frames, Levels, Runtime
from app.serving.runtimes.formats import dump_model
from app.serving.runtimes.sklearn import Estimator, Layout, load_model, parts, shares, sole
from app.types import Feature, FeatureType, ModelSchema, Row, label_key, label_keys

if TYPE_CHECKING:
    import pandas as pd

MIN_GOLDEN = 10
"""Fewest of the user's golden rows that prove a model."""
MAX_GOLDEN = 200
"""Most of the user's golden rows that are kept and answered at each load; all are answered when bundling."""
ROUNDING = 1e-9
"""Relative difference that rounding in batches of another size can explain."""


@dataclass(frozen=True, slots=True)
class Data:
    """The tables of a model on its way into a bundle.

    Attributes:
        reference: the features of the rows that become the reference, with their ``truth``.
        fitted_on: the features of the training data, whose dtypes the model may insist on.
    """

    reference: pd.DataFrame
    truth: pd.Series[Any]
    fitted_on: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Proved:
    """A model as it will be served.

    Attributes:
        schema: with ``nullable`` where the model takes a missing value, and ``allowed`` where it takes no others.
        files: the model's files by name: its own, and that of its ONNX graph where one may serve in its place.
        found: what the manifest tells of it beside: layout, dtypes, levels, graph, proof.
        rows: the reference as callers would send it.
        golden: rows of the training data, where each of the reference has an unseen category.
        runtime: the model as its maker runs it, whose answers the reference keeps.
    """

    schema: ModelSchema
    files: Mapping[str, bytes]
    found: Mapping[str, Any]
    rows: Sequence[Row]
    golden: Sequence[Row]
    runtime: Runtime


class Expected(NamedTuple):
    """The answers of a model that is asked as its maker asks it."""

    labels: NDArray[Any]
    probabilities: NDArray[Any] | None


def prove(model: Any, schema: ModelSchema, data: Data, *, file: str, trust: Sequence[str], single_rows: bool) -> Proved:
    """Store a fitted model, load it, and let both answer the reference.

    Rows are given as an array if the answers allow it, since to build a DataFrame costs more than many a prediction.

    Args:
        model: asked as scikit-learn asks it; it is not changed.
        schema: as inferred, or as the user has edited it.
        file: the format of the model file.
        trust: types that skops may build beyond the reviewed list.
        single_rows: whether the model is given one row at a time.

    Raises:
        BundleError: the model cannot be stored, fails on the data, answers otherwise when it is loaded again, or
            answers a row otherwise beside others.
    """
    stored = dump_model(model, file)
    dtypes, levels = dtypes_of(schema.features, data.fitted_on), levels_of(schema.features, data.fitted_on)
    rows = rows_of(schema.features, data.reference)

    def load(layout: Layout, schema: ModelSchema) -> Estimator:
        loaded, _ = load_model(stored, file=file, trusted_types=trust, what=f"model.{file}")
        columns: dict[str, Any] = {} if layout == "array" else {"dtypes": dtypes, "levels": levels}
        return Estimator(loaded, schema, layout=layout, single_rows=single_rows, **columns)

    plain = replace(schema, threshold=None)
    table = Frames(schema.features, dtypes, levels)
    expected = _maker_answers(model, plain, data, table.groups(rows), single_rows=single_rows)
    layout = _layout(lambda layout: load(layout, plain), rows, expected)
    able = replace(plain, features=nullable(load(layout, plain), rows))
    features = allowed(load(layout, able), rows, data.fitted_on, _listed(model))
    served = load(layout, replace(schema, features=features))
    golden, proof = prove_company(served, rows, data)
    graph, entry = None, _no_graph(model, single_rows=single_rows)
    if entry is None:
        graph, entry = adopt(model, served, rows, layout=layout, dtypes=dtypes)
    files = {f"model.{file}": stored} | ({} if graph is None or entry.file is None else {entry.file: graph})
    found: dict[str, Any] = {"input": layout, "onnx": entry, "single_rows": single_rows, "proof": proof}
    if layout != "array":
        entries = {name: LevelsEntry(**level._asdict()) for name, level in levels.items()}
        found |= {"dtypes": dtypes, "levels": entries}
    return Proved(served.schema, files, found, rows, golden, served)


def _no_graph(model: Any, *, single_rows: bool) -> OnnxEntry | None:
    """Say why a model is not converted to ONNX; None where it may be."""
    from app.serving.runtimes.boosters import Booster

    if single_rows:
        return OnnxEntry(reason="its answer to a row depends on the others, so that it takes one at a time")
    if isinstance(model, Booster):
        return OnnxEntry(reason=f"{model.library} itself answers as it was fitted, to the last bit")
    return None


def _listed(model: Any) -> list[Any]:
    """The categories that the encoders of a model know."""
    known = [values for part in parts(model) for values in getattr(part, "categories_", ())]
    return [value for values in known if hasattr(values, "tolist") for value in values.tolist()]


def prove_company(runtime: Runtime, rows: Sequence[Row], data: Data) -> tuple[list[Row], ProofEntry]:
    """Prove that golden rows are answered alike in any company.

    The result are those that the reference does not have, and the proof.

    Raises:
        BundleError: an answer depends on the rows beside it.
    """
    golden, source, own = known_rows(runtime.schema, rows), "the reference", False
    if not golden:
        golden = known_rows(runtime.schema, rows_of(runtime.schema.features, data.fitted_on))
        source, own = "the training data", True
    if not golden:
        raise BundleError("no row of the data is left to check the model with: each has a category not in the schema")
    try:
        pairs = check_company(runtime, golden)
    except DependsOnBatch as found:
        raise BundleError(mixing(runtime, golden, found)) from None
    return golden if own else [], ProofEntry(source=source, rows=len(golden), pairs=pairs)


def prove_golden(proved: Proved, frame: pd.DataFrame) -> Proved:
    """Let the model answer rows of which the user knows the answers.

    They are kept as golden rows.

    Args:
        frame: the features, ``prediction``, and ``probability.<class>`` of each class where the model tells them.

    Raises:
        BundleError: a column is missing, there are too few rows, or the model answers otherwise.
    """
    runtime, schema = proved.runtime, proved.schema
    keys = [f"probability.{key}" for key in label_keys(schema.classes)]
    rows = rows_of(schema.features, check_golden(frame, schema.feature_names))
    answers = runtime.predict(rows)
    wanted = ["prediction", *(keys if answers[0].probabilities is not None else [])]
    if absent := [name for name in wanted if name not in frame.columns]:
        raise BundleError(f"the golden rows lack the model's answers there: {', '.join(absent)}")
    wrong = 0
    for answer, told in zip(answers, frame[wanted].to_numpy(dtype=object).tolist(), strict=True):
        label = answer.prediction if not schema.classes else label_key(answer.prediction)
        same = _agree(label, told[0]) and all(map(_agree, answer.probabilities or (), told[1:]))
        wrong += not same
    if wrong:
        raise BundleError(f"the model answers {wrong} of {len(rows)} golden rows otherwise than they say")
    proof = ProofEntry(source="the user's golden rows", rows=len(rows), pairs=proved.found["proof"].pairs)
    return replace(proved, golden=rows[:MAX_GOLDEN], found={**proved.found, "proof": proof})


def _agree(found: Any, told: Any) -> bool:
    """Compare an answer with one out of a file: text as it is, numbers to six digits."""
    try:
        return math.isclose(float(found), float(told), rel_tol=1e-6, abs_tol=1e-6)
    except (TypeError, ValueError):
        return str(found).lower() == str(told).lower()


def check_golden(frame: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The features among golden rows, named as they are or as an export names them.

    Raises:
        BundleError: some are missing, or there are too few rows.
    """
    named = frame.rename(columns={f"feature.{name}": name for name in names})
    if absent := [name for name in names if name not in named.columns]:
        raise BundleError(f"the golden rows lack columns that the model takes: {', '.join(absent)}")
    if len(frame) < MIN_GOLDEN:
        raise BundleError(f"{len(frame)} golden rows prove little; give at least {MIN_GOLDEN}")
    return named[list(names)]


def _layout(load: Callable[[Layout], Estimator], rows: Sequence[Row], expected: Expected) -> Layout:
    reason = ""
    for layout in _layouts(load("dataframe").schema):
        estimator = load(layout)
        reason = _disagreement(estimator, rows, expected, strict=layout == "array")
        if not reason and layout == "array":
            reason = _odd_disagreement(estimator, load("dataframe"), rows)
        if not reason:
            return layout
    some = rows[:GOLDEN_ROWS]
    with contextlib.suppress(ValueError, TypeError, RuntimeError):  # it fails on the rows: that is the reason then
        try:
            check_company(estimator, some, most=GOLDEN_ROWS)
        except DependsOnBatch as found:
            raise BundleError(mixing(estimator, some, found)) from None
    raise BundleError(f"the model answers otherwise once it is stored and loaded: {reason}")


def _layouts(schema: ModelSchema) -> list[Layout]:
    if _numbers_only(schema):
        return ["array", "dataframe"]
    return ["dataframe", "series"] if len(schema.features) == 1 else ["dataframe"]


def _numbers_only(schema: ModelSchema) -> bool:
    return all(feature.type is not FeatureType.CATEGORICAL for feature in schema.features)


def _odd_disagreement(array: Estimator, frame: Estimator, rows: Sequence[Row]) -> str:
    """Say where an array hides from a model that a number is an integer."""
    schema = array.schema
    if all(feature.type is FeatureType.NUMERIC for feature in schema.features):
        return ""
    for row in neighbours(schema, rows, GOLDEN_ROWS):
        one, other = ask(array, row), ask(frame, row)
        if one is not None and other is not None and not same_answer(one, other, array.tolerance):
            return "an odd row is answered otherwise from an array than from a DataFrame"
    return ""


def _maker_answers(
    model: Any, schema: ModelSchema, data: Data, groups: Sequence[Sequence[int]] | None, *, single_rows: bool
) -> Expected:
    """Ask the model as its maker does, with columns of the training data's dtypes."""
    frame = data.reference
    if single_rows:
        groups = [[place] for place in range(len(frame))]
    groups = groups or [range(len(frame))]
    answers = [_ask(model, schema, as_fitted(frame.iloc[list(places)], data.fitted_on)) for places in groups]
    order = np.argsort([place for places in groups for place in places])
    labels = np.concatenate([part.labels for part in answers])[order]
    told = [part.probabilities for part in answers if part.probabilities is not None]
    probabilities = np.concatenate(told)[order] if told else None
    if probabilities is not None:
        check_shares(probabilities, [str(label) for label in schema.classes])
    elif not schema.classes and not np.isfinite(labels.astype(np.float64)).all():
        raise BundleError(
            f"the model has no finite answer to {int((~np.isfinite(labels)).sum())} of {len(labels)} rows"
        )
    return Expected(labels, probabilities)


def as_fitted(frame: pd.DataFrame, fitted_on: pd.DataFrame) -> pd.DataFrame:
    """Give columns the dtypes of the training data, where these hold their values."""
    columns: dict[str, Any] = {}
    for name in map(str, frame.columns):
        column, wanted = frame[name], fitted_on[name].dtype
        try:
            cast = column.astype(wanted)
            kept = str(wanted) == "category" or bool(((cast == column) | column.isna()).all())
        except (TypeError, ValueError):
            kept = False
        columns[name] = cast if kept else column
    return frame.assign(**columns)


def _ask(model: Any, schema: ModelSchema, frame: pd.DataFrame) -> Expected:
    forms: list[Any] = [frame]
    if not hasattr(model, "feature_names_in_"):
        forms = [frame.to_numpy(dtype=np.float64), frame] if _numbers_only(schema) else [frame]
        if len(frame.columns) == 1 and not _numbers_only(schema):
            forms = [frame.iloc[:, 0], frame]
    failure = ""
    for form in forms:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                labels = sole(model.predict(form))
                has = bool(schema.classes) and hasattr(model, "predict_proba")
                probabilities = shares(model.predict_proba(form)) if has else None
        except BundleError:
            raise
        except Exception as error:  # noqa: BLE001 - a model can raise anything
            failure = failure or f"{type(error).__name__}: {one_line(error)}"
            continue
        if len(labels) == len(frame):
            return Expected(labels, probabilities)
        failure = failure or f"it gives {len(labels)} answers to {len(frame)} rows"
    raise BundleError(f"the model fails on the data: {failure}")


def _disagreement(estimator: Estimator, rows: Sequence[Row], expected: Expected, *, strict: bool) -> str:
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


def dtypes_of(features: Sequence[Feature], frame: pd.DataFrame) -> dict[str, str]:
    """The dtypes of the columns, where they are not what a CSV file gives; see the manifest."""
    dtypes = {feature.name: _dtype(frame[feature.name]) for feature in features}
    return {
        feature.name: dtypes[feature.name]
        for feature in features
        if dtypes[feature.name] != DEFAULT_DTYPES[feature.type] and KNOWN_DTYPE.fullmatch(dtypes[feature.name])
    }


def levels_of(features: Sequence[Feature], frame: pd.DataFrame) -> dict[str, Levels]:
    """All categories of the columns of pandas categories, in their order."""
    kinds: dict[str, Any] = {feature.name: frame[feature.name].dtype for feature in features}
    return {
        name: Levels(tuple(kind.categories.tolist()), bool(kind.ordered), str(kind.categories.dtype))
        for name, kind in kinds.items()
        if str(kind) == "category"
    }


def _dtype(column: pd.Series[Any]) -> str:
    name = str(column.dtype)
    if name == "object":
        holds_none = any(value is None for value in column.tolist())
        return "object" if holds_none or not column.isna().any() else OBJECT_WITH_NAN
    return name
