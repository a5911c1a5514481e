"""A served model answers as scikit-learn does, alone and in any company."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from app.errors import Invalid
from app.serving.bundle.proof import dtypes_of
from app.serving.bundle.schema_inference import infer_features, rows_of, schema_of
from app.serving.runtimes.sklearn import Estimator
from app.serving.validation.validator import RequestValidator
from app.types import Row
from tests.support.models import bundles

LABELS: list[tuple[Any, ...]] = [("no", "yes"), (0, 1), (False, True), (1.0, 2.0), ("a", "b", "c"), (3, 1, 2)]
CLASSIFIERS = [
    LogisticRegression(),
    make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, random_state=0)),
    RandomForestClassifier(7, random_state=0, n_jobs=2),
    HistGradientBoostingClassifier(max_iter=5),
    KNeighborsClassifier(4, weights="distance"),
    CalibratedClassifierCV(RandomForestClassifier(4, random_state=0), cv=2),
]


def serve(
    model: Any, frame: pd.DataFrame, *, layout: Any = "array", threshold: float | None = None
) -> tuple[Estimator, list[Row]]:
    """The model as it is served, and the frame's rows as a caller sends them."""
    inputs = frame.drop(columns="y")
    features = infer_features(inputs)
    schema = schema_of(model, "m", "1", features, None, threshold)
    return Estimator(deepcopy(model), schema, layout=layout, dtypes=dtypes_of(features, inputs)), rows_of(
        features, inputs
    )


def fitted(model: Any, frame: pd.DataFrame, *, named: bool = False) -> Any:
    """The model fitted on the frame, by array or by named columns."""
    inputs = frame.drop(columns="y")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(model).fit(inputs if named else inputs.to_numpy(), frame["y"].to_numpy())


@pytest.mark.parametrize("labels", LABELS, ids=str)
def test_labels_keep_their_type(labels: Sequence[Any]) -> None:
    """Labels of every type come out as they went in, and so do the probabilities of their classes."""
    frame = bundles.numbers(labels)
    model = fitted(LogisticRegression(), frame)
    estimator, rows = serve(model, frame)

    answers = estimator.predict(rows)

    inputs = frame.drop(columns="y").to_numpy()
    assert model.predict(inputs).tolist() == [answer.prediction for answer in answers]
    assert {type(label) for label in labels} == {type(answer.prediction) for answer in answers}
    assert np.allclose(model.predict_proba(inputs), bundles.told(answers), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("model", CLASSIFIERS, ids=lambda model: type(model).__name__)
def test_company_changes_nothing(model: Any) -> None:
    """A row's answer is the same to the last bit, alone and in batches of any size, and equals scikit-learn's."""
    frame = bundles.numbers(("a", "b", "c"))
    model = fitted(model, frame)
    estimator, rows = serve(model, frame)

    together = estimator.predict(rows)

    for size in (1, 3, 61):
        parts = [estimator.predict(rows[start : start + size]) for start in range(0, 61, size)]
        assert together[: len(rows[:61])] == [answer for part in parts for answer in part][:61]
    expected = model.predict(frame.drop(columns="y").to_numpy()).tolist()
    assert expected == [answer.prediction for answer in together]


@pytest.mark.parametrize(
    "model",
    [
        SVC(probability=True, random_state=0),
        FixedThresholdClassifier(LogisticRegression(), threshold=0.9),
        make_pipeline(StandardScaler(), FixedThresholdClassifier(LogisticRegression(), threshold=0.1)),
    ],
    ids=["platt", "threshold", "pipeline"],
)
@pytest.mark.filterwarnings("ignore:.*probability.*:FutureWarning")
def test_models_own_rule(model: Any) -> None:
    """A model that does not predict its likeliest class keeps its own rule."""
    frame = bundles.numbers()
    model = fitted(model, frame)
    estimator, rows = serve(model, frame)

    expected = model.predict(frame.drop(columns="y").to_numpy()).tolist()

    assert expected == [answer.prediction for answer in estimator.predict(rows)]


def test_threshold() -> None:
    """The schema's threshold decides from exactly its value on."""
    frame = bundles.numbers()
    model = fitted(LogisticRegression(), frame)
    estimator, rows = serve(model, frame, threshold=0.8)
    first = estimator.predict(rows[:1])[0]
    assert first.probabilities is not None

    estimator.schema = replace(estimator.schema, threshold=first.probabilities[1])
    exact = estimator.predict(rows[:1])[0].prediction
    estimator.schema = replace(estimator.schema, threshold=0.8)

    assert exact == "yes"
    assert all(
        (answer.prediction == "yes") == (answer.probabilities[1] >= 0.8)
        for answer in estimator.predict(rows)
        if answer.probabilities
    )


def test_tie_follows_scikit_learn() -> None:
    """Where two classes are equally likely, the label is the one that scikit-learn gives."""
    frame = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0], "y": ["no", "yes", "no", "yes"]})
    model = KNeighborsClassifier(4).fit(frame[["a"]].to_numpy(), frame["y"])
    estimator, rows = serve(model, frame)

    assert model.predict(frame[["a"]].to_numpy()).tolist() == [answer.prediction for answer in estimator.predict(rows)]


def test_without_probabilities() -> None:
    """A classifier without predict_proba answers with labels alone."""
    frame = bundles.numbers()
    estimator, rows = serve(fitted(RidgeClassifier(), frame), frame)

    answers = estimator.predict(rows)

    assert {None} == {answer.probabilities for answer in answers}
    assert {"no", "yes"} == {answer.prediction for answer in answers}


def test_regression() -> None:
    """A regression answers with plain floats."""
    frame = bundles.numbers((1.0, 2.0, 3.0))
    model = fitted(LinearRegression(), frame)
    estimator, rows = serve(model, frame)

    answers = estimator.predict(rows)

    assert {float} == {type(answer.prediction) for answer in answers}
    assert np.allclose(model.predict(frame.drop(columns="y").to_numpy()), [answer.prediction for answer in answers])


def test_mixed_columns() -> None:
    """Named columns of every type, with nulls and an unseen category, are answered as the DataFrame is."""
    frame = bundles.mixed()
    model = fitted(bundles.pipeline(), frame, named=True)
    estimator, rows = serve(model, frame, layout="dataframe")

    answers = estimator.predict([*rows, (30, None, "fax", True)])

    inputs = pd.concat(
        [frame.drop(columns="y"), pd.DataFrame({"age": [30], "income": [None], "channel": ["fax"], "member": [True]})]
    )
    inputs = inputs.astype({"income": float, "member": bool})
    assert model.predict(inputs).tolist() == [answer.prediction for answer in answers]
    assert answers[:5] == [estimator.predict([row])[0] for row in rows[:5]]


def test_dtypes() -> None:
    """Columns of pandas categories and of 32-bit floats reach the model as it was fitted on them."""
    frame = bundles.mixed().astype({"channel": "category", "income": "float32"})
    model = fitted(HistGradientBoostingClassifier(max_iter=5), frame, named=True)
    estimator, rows = serve(model, frame, layout="dataframe")

    expected = model.predict_proba(frame.drop(columns="y"))

    assert np.array_equal(expected, bundles.told(estimator.predict(rows)))


def test_fractions_survive_integer_columns() -> None:
    """A fraction sent for an integer feature is not cut off, and a null does not turn into a number."""
    frame = pd.DataFrame({"n": [0, 1, 2, 3] * 10, "y": [0.0, 1.0, 2.0, 3.0] * 10})
    model = fitted(LinearRegression(), frame, named=True)
    estimator, _ = serve(model, frame, layout="dataframe")

    answers = estimator.predict([(1,), (1.5,)])

    assert pytest.approx([answer.prediction for answer in answers]) == [1.0, 1.5]
    with pytest.raises(ValueError, match="NaN"):
        estimator.predict([(None,)])


def test_no_rows() -> None:
    """No rows have no answers, and the model is not asked."""
    frame = bundles.numbers()
    estimator, _ = serve(fitted(LogisticRegression(), frame), frame)

    assert estimator.predict([]) == []


def test_settled() -> None:
    """A model fitted on named columns is served from arrays without a warning, and without threads of its own."""
    frame = bundles.numbers()
    model = fitted(
        make_pipeline(StandardScaler(), RandomForestClassifier(4, n_jobs=2, random_state=0)), frame, named=True
    )
    estimator, rows = serve(model, frame)

    assert model.predict(frame.drop(columns="y")).tolist() == [answer.prediction for answer in estimator.predict(rows)]
    assert model[-1].n_jobs == 2


def test_trees_name_the_largest_number_that_they_take() -> None:
    """Trees compute in 32 bits, so that their bundle refuses by name what would be infinite there; others take all."""
    frame = bundles.numbers(("no", "yes"))
    forest, _ = serve(fitted(RandomForestClassifier(3, random_state=0), frame), frame)
    line, _ = serve(fitted(LogisticRegression(), frame), frame)
    careful = RequestValidator(forest.schema, forest.bounds)
    row = dict.fromkeys(forest.schema.feature_names, 1.0)

    assert line.bounds == {}
    for value in (1e39, -1e39):
        with pytest.raises(Invalid) as refusal:
            careful.parse(orjson.dumps({"features": row | {"b": value}}))
        assert [problem.field for problem in refusal.value.fields] == ["features.b"]
    largest = careful.parse(orjson.dumps({"features": row | {"b": 3.4e38}})).rows
    assert len(forest.predict(largest)) == 1


def test_whole_numbers_beyond_64_bits_reach_the_model_as_they_are() -> None:
    """An integer column of a table keeps a number that no 64-bit integer holds, beside its small neighbours."""
    frame = pd.DataFrame({"count": range(100), "y": [0.0, 1.0] * 50})
    estimator, _ = serve(fitted(LinearRegression(), frame, named=True), frame, layout="dataframe")
    answers = estimator.predict([(1e20,), (1,), (-1e20,)])
    large, small, negative = (float(answer.prediction) for answer in answers)

    assert abs(large) > 1e15
    assert large * negative < 0
    assert abs(small) < 1
