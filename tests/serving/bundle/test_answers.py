"""A model's answers are probabilities, are those of before, and do not depend on the rows beside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, SplineTransformer

from app.errors import BundleError
from app.serving.bundle.answers import (
    DependsOnBatch,
    allowed,
    check_company,
    check_shares,
    dump_golden,
    known_rows,
    load_golden,
    mixing,
    neighbours,
    nullable,
)
from app.serving.bundle.proof import dtypes_of
from app.serving.bundle.schema_inference import infer_features, rows_of, schema_of
from app.serving.runtimes.sklearn import Estimator
from app.types import Answer, Row
from tests.support.models import bundles


def served(
    model: Any, frame: pd.DataFrame, *, layout: Any = "dataframe", **options: Any
) -> tuple[Estimator, list[Row]]:
    """A model fitted on the frame as it is served, and the frame's rows."""
    inputs = frame.drop(columns="y")
    model.fit(inputs, frame["y"])
    features = infer_features(inputs)
    schema = schema_of(model, "m", "1", features, None, None)
    return Estimator(model, schema, layout=layout, dtypes=dtypes_of(features, inputs), **options), rows_of(
        features, inputs
    )


def minus_mean(frame: pd.DataFrame) -> pd.DataFrame:
    """A step that knows nothing from the fit: it takes the mean of the batch."""
    return frame - frame.mean()


def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    """A step that answers by chance."""
    return frame + np.random.default_rng().normal(size=frame.shape)


@pytest.mark.parametrize("step", [minus_mean, shuffled])
def test_a_step_that_mixes_rows_is_named(step: Any) -> None:
    """A step that computes from the whole batch, or by chance, is found and named with the pipeline around it."""
    inner = make_column_transformer((make_pipeline(FunctionTransformer(step)), ["a", "b"]), remainder="passthrough")
    estimator, rows = served(make_pipeline(inner, LogisticRegression()), bundles.numbers())

    with pytest.raises(DependsOnBatch) as caught:
        check_company(estimator, rows[:20])

    line = mixing(estimator, rows[:20], caught.value)
    assert "step columntransformer > pipeline > functiontransformer computes from all rows" in line
    assert "--single-rows" in line


def test_single_rows() -> None:
    """Given one row at a time, such a model answers each row as it answers it alone."""
    frame = bundles.numbers()
    model = make_pipeline(FunctionTransformer(minus_mean), LogisticRegression())
    estimator, rows = served(model, frame, single_rows=True)

    assert check_company(estimator, rows[:10]) > 0
    expected = [model.predict_proba(frame[place : place + 1].drop(columns="y"))[0].tolist() for place in range(5)]
    assert expected == [list(answer.probabilities or ()) for answer in estimator.predict(rows[:5])]


def test_neighbours() -> None:
    """Odd rows have nulls, fractions, numbers out of bounds and unseen categories, one at a time and all at once."""
    frame = bundles.mixed()
    estimator, rows = served(bundles.pipeline(), frame)

    every, *single = neighbours(estimator.schema, rows, 100)

    assert every[2] not in {None, "web", "shop", "phone"}
    changed = [
        [place for place in range(4) if row[place] != rows[index % len(rows)][place]]
        for index, row in enumerate(single)
    ]
    assert {len(places) for places in changed} <= {0, 1}
    assert any(row[0] == frame["age"].min() + 0.5 for row in single)
    assert any(row[1] is None for row in single)
    assert len(neighbours(estimator.schema, rows, 3)) == 3


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([[0.2, 0.8], [1.2, -0.2]], "lie outside 0 to 1: from -0.2 to 1.2"),
        ([[0.2, 0.8], [0.9, 0.9], [0.5, 0.5]], "do not sum to 1 in 1 of 3 rows, but to 1.8"),
        ([[0.2, 0.8], [np.nan, 0.5]], r"no probabilities \(NaN\) for 1 of 2 rows"),
        ([[0.2, 0.3, 0.5]], "probabilities for 2 classes"),
    ],
)
def test_impossible_probabilities(rows: Sequence[Sequence[float]], line: str) -> None:
    """Numbers that are no probabilities are refused with the worst of them."""
    with pytest.raises(BundleError, match=line):
        check_shares(np.array(rows), ["no", "yes"])


def test_rounded_probabilities() -> None:
    """Probabilities that float32 has rounded are probabilities."""
    shares = np.random.default_rng(0).dirichlet(np.ones(30), 200).astype(np.float32)

    check_shares(shares, list(map(str, range(30))))


def limits(model: Any, frame: pd.DataFrame, listed: Sequence[Any] = ()) -> dict[str, tuple[Any, ...]]:
    """The only values that a model takes, by feature."""
    estimator, rows = served(model, frame)
    features = allowed(estimator, rows, frame.drop(columns="y"), listed)
    return {feature.name: feature.allowed for feature in features if feature.allowed}


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=lambda encoder: type(encoder).__name__)
def test_strict_encoders(encoder: Any) -> None:
    """Text and whole numbers behind a strict encoder take the known values alone; numbers beside it take any."""
    frame = bundles.mixed()[["age", "channel", "member", "y"]].assign(store=lambda each: each["age"] % 3)
    model = make_pipeline(
        make_column_transformer((encoder, ["channel", "store"]), remainder="passthrough"), LogisticRegression()
    )

    assert limits(model, frame) == {"channel": ("phone", "shop", "web"), "store": (0, 1, 2)}


def test_categories_that_the_data_do_not_show() -> None:
    """A category that a strict encoder was told of is taken, though no row has it."""
    frame = bundles.mixed()[["age", "channel", "y"]]
    encoder = OneHotEncoder(categories=[["fax", "phone", "shop", "web"]])
    model = make_pipeline(
        make_column_transformer((encoder, ["channel"]), remainder="passthrough"), LogisticRegression()
    )

    assert limits(model, frame, ["fax", "post"]) == {"channel": ("fax", "phone", "shop", "web")}


def test_a_model_that_fails_beyond_its_bounds_takes_what_lies_between() -> None:
    """Numbers that the data do not show are taken where the model takes them: no list of values."""
    frame = bundles.mixed()[["age", "y"]]

    assert limits(make_pipeline(SplineTransformer(extrapolation="error"), LogisticRegression()), frame) == {}


def test_lenient_encoders() -> None:
    """An encoder that ignores what it does not know has no list of values."""
    assert limits(bundles.pipeline(), bundles.mixed()) == {}


def test_nullable_is_asked() -> None:
    """A feature takes null where the data have gaps and the model answers them."""
    frame = bundles.mixed()
    estimator, rows = served(bundles.pipeline(), frame)

    assert [feature.nullable for feature in nullable(estimator, rows)] == [False, True, False, False]


def test_golden_rows_of_their_own() -> None:
    """Rows and answers come back from their file as they were; a file of another schema is refused."""
    frame = bundles.mixed()
    estimator, rows = served(bundles.pipeline(), frame)
    golden = known_rows(estimator.schema, rows)
    data = dump_golden(golden, estimator.predict(golden))

    assert load_golden(estimator.schema, data, "golden.json") == (golden, estimator.predict(golden))
    other, _ = served(LinearRegression(), bundles.numbers((1.0, 2.0)), layout="array")
    for content in (data, b"{}", b"[", dump_golden([], []), dump_golden([(1.0, 2.0)], [Answer(1.0)])):
        with pytest.raises(BundleError, match="does not fit the schema"):
            load_golden(other.schema, content, "golden.json")
