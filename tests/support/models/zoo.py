"""A zoo of pipelines: transformers, estimators, dtypes and missing values as they meet in practice.

``python -m tests.support.models.zoo`` proves all of them and prints what differs; the tests take a sample.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeClassifier

from app.bundling import build_bundle
from app.serving.bundle.answers import neighbours
from app.serving.bundle.reader import Bundle, read_bundle
from app.types import Answer, Row

ROWS = 240
TRUSTED = ("as_text", "as_codes", "as_kinds")
"""Steps of our own whose output depends on the dtype that they are given."""


def as_text(frame: pd.DataFrame) -> Any:
    """Text of every value, as pandas writes it in the column's dtype: 2 or 2.0."""
    return frame.astype(object).map(str).to_numpy(dtype=object)


def as_codes(frame: pd.DataFrame) -> Any:
    """Codes of pandas categories: the place of a value among all the levels."""
    return frame.apply(lambda column: column.astype("category").cat.codes).to_numpy(dtype=float)


def as_kinds(frame: pd.DataFrame) -> Any:
    """What pandas calls the dtype of each column, as a number."""
    kinds = [sum(map(ord, str(column.dtype))) for _, column in frame.items()]
    return np.tile(np.array(kinds, dtype=float), (len(frame), 1))


@dataclass(frozen=True)
class Pipeline:
    """A fitted model with the rows it was fitted on and others.

    Attributes:
        frame: feature columns and ``y``; the last third is the holdout.
    """

    name: str
    model: Any
    frame: pd.DataFrame

    @property
    def train(self) -> pd.DataFrame:
        """The rows that the model was fitted on."""
        return self.frame[: 2 * ROWS // 3]

    @property
    def holdout(self) -> pd.DataFrame:
        """The other rows."""
        return self.frame[2 * ROWS // 3 :]


def frames() -> dict[str, pd.DataFrame]:
    """Tables of the dtypes that pandas gives and users choose, most with missing values."""
    rng = np.random.default_rng(5)
    whole: Any = rng.integers(0, 6, ROWS)
    number: Any = rng.normal(size=ROWS).round(2)
    text: Any = rng.choice(["mail", "shop", "web"], ROWS)
    gaps, none = rng.random(ROWS) < 0.15, np.full(ROWS, None, dtype=object)
    words = np.array(["late", "lost", "fine", "good", "slow"])
    levels = pd.CategoricalDtype(["web", "none", "shop", "mail"])
    ordered = pd.CategoricalDtype([4, 2, 0, 1, 3, 5], ordered=True)
    filled = pd.Series(np.where(gaps, none, text), dtype=object)
    return {
        "plain": pd.DataFrame({"i": whole, "x": number, "t": text}),
        "numbers": pd.DataFrame({"i": whole, "x": np.where(gaps, np.nan, number), "z": rng.normal(size=ROWS)}),
        "narrow": pd.DataFrame({"i": whole.astype("int8"), "u": whole.astype("uint16"), "x": number.astype("float32")}),
        "nullable": pd.DataFrame(
            {
                "i": pd.Series(np.where(gaps, none, whole), dtype="Int64"),
                "x": pd.Series(np.where(gaps, none, number), dtype="Float64"),
                "t": pd.Series(filled, dtype="string"),
            }
        ),
        "categories": pd.DataFrame(
            {"c": pd.Series(filled).astype(levels), "k": pd.Series(whole).astype(ordered), "x": number}
        ),
        "flags": pd.DataFrame({"b": whole > 2, "i": whole, "t": np.where(gaps, none, text), "x": number}),
        "objects": pd.DataFrame(
            {"t": filled, "o": pd.Series(np.where(gaps, np.nan, text.astype(object)), dtype=object), "x": number}
        ),
        "notes": pd.DataFrame(
            {"i": whole, "n": [" ".join(rng.choice(words, 4)) for _ in range(ROWS)], "x": number.astype("float32")}
        ),
    }


def numeric_steps() -> dict[str, Any]:
    """What is done to numbers."""
    return {
        "none": "passthrough",
        "scaled": StandardScaler(),
        "robust": RobustScaler(),
        "bins": KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
        "quantiles": QuantileTransformer(n_quantiles=20),
        "powers": PolynomialFeatures(),
        "splines": SplineTransformer(),
        "components": make_pipeline(StandardScaler(), PCA(n_components=1)),
        "neighbours": KNNImputer(n_neighbors=3),
        "best": SelectKBest(f_classif, k=1),
        "root": FunctionTransformer(np.cbrt),
    }


def text_steps() -> dict[str, Any]:
    """What is done to categories."""
    return {
        "onehot": OneHotEncoder(handle_unknown="ignore"),
        "strict": OneHotEncoder(),
        "codes": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        "rare": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=60, sparse_output=False),
        "levels": FunctionTransformer(as_codes),
        "text": make_pipeline(FunctionTransformer(as_text), OneHotEncoder(handle_unknown="ignore")),
        "target": TargetEncoder(cv=3, random_state=0),
    }


def estimators() -> list[Any]:
    """Classifiers and regressions."""
    return [
        LogisticRegression(),
        RandomForestClassifier(5, random_state=0),
        HistGradientBoostingClassifier(max_iter=5),
        KNeighborsClassifier(5, weights="distance"),
        Ridge(),
        DecisionTreeClassifier(max_depth=5),
        GaussianNB(),
        MLPClassifier((6,), max_iter=15, random_state=0),
        LinearDiscriminantAnalysis(),
        GradientBoostingRegressor(n_estimators=5, random_state=0),
        LinearRegression(),
        ExtraTreesClassifier(5, random_state=0),
        KNeighborsRegressor(4),
        HistGradientBoostingRegressor(max_iter=5),
        RandomForestRegressor(5, random_state=0),
        SVR(),
    ]


def pipelines(every: int = 1) -> Iterator[Pipeline]:
    """All pipelines that can be fitted, or each so-manieth."""
    models = itertools.cycle(estimators())
    made = itertools.count()
    for (table, frame), (first, numbers), (second, texts) in itertools.product(
        frames().items(), numeric_steps().items(), text_steps().items()
    ):
        if (len(first) + len(second) + len(table)) % 5 or (second == "levels" and table != "categories"):
            continue  # a fifth of the combinations; codes of levels need a column that has them
        estimator = next(models)
        if next(made) % every == 0:
            pipeline = _fitted(f"{table}-{first}-{second}-{type(estimator).__name__}", frame, numbers, texts, estimator)
            if pipeline is not None:
                yield pipeline


def _fitted(name: str, frame: pd.DataFrame, numbers: Any, texts: Any, estimator: Any) -> Pipeline | None:
    from sklearn.base import clone

    kinds = {column: str(dtype).lower() for column, dtype in frame.dtypes.items()}
    numeric = [column for column, kind in kinds.items() if kind.startswith(("int", "uint", "float", "bool"))]
    words = [column for column in kinds if column == "n"]
    text = [column for column in kinds if column not in numeric and column not in words]
    gaps = make_pipeline(SimpleImputer(), numbers) if not isinstance(numbers, KNNImputer) else numbers
    parts: list[tuple[str, Any, Any]] = [("numbers", clone(gaps), numeric)]
    parts += [("texts", clone(texts), [*text, *([] if text else ["i"])])]
    parts += [("words", TfidfVectorizer(), "n")] if words else []
    parts += [("kinds", FunctionTransformer(as_kinds), list(kinds))]
    model = make_pipeline(ColumnTransformer(parts, sparse_threshold=0), clone(estimator))
    score = frame["x"].astype("float64").fillna(0) + np.random.default_rng(1).normal(size=ROWS) / 4
    y = (score > 0).map({True: "yes", False: "no"}) if is_classifier(estimator) else score
    pipeline = Pipeline(name, model, frame.assign(y=y))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model.fit(pipeline.train.drop(columns="y"), pipeline.train["y"])
            model.predict(pipeline.train.drop(columns="y"))
        except (TypeError, ValueError):  # scikit-learn itself does not take these together
            return None
    return pipeline


def bundled(pipeline: Pipeline, folder: Path) -> Path:
    """The pipeline as a bundle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build_bundle(
            pipeline.model,
            data=pipeline.train,
            holdout=pipeline.holdout,
            in_sample=True,  # rows of few values are equal by chance
            target="y",
            name="zoo",
            models=folder,
            trusted_types=[f"{__name__ if __name__ != '__main__' else NAME}.{step}" for step in TRUSTED],
            replace=True,
        )


NAME = "tests.support.models.zoo"


def differences(pipeline: Pipeline, folder: Path, runtime: Any) -> list[str]:
    """Say where answers depend on company or are not scikit-learn's; empty where all is well."""
    trusted = [f"{NAME}.{step}" for step in TRUSTED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bundle = read_bundle(folder, trusted_types=trusted, runtime=runtime)
        return list(_differences(pipeline, bundle))


def _differences(pipeline: Pipeline, bundle: Bundle) -> Iterator[str]:
    model, exact = bundle.estimator, 0.0 if bundle.runtime == "sklearn" else 1e-12
    inputs = pipeline.holdout.drop(columns="y")
    rows = _rows(inputs)
    odd = [row for row in neighbours(bundle.schema, rows, 40) if _answered(model.predict, row)]
    everyone: list[Row] = [*rows, *odd]
    alone = [model.predict([row])[0] for row in everyone]
    order = np.random.default_rng(3).permutation(len(everyone)).tolist()
    for start in range(0, len(order), 64):
        places = order[start : start + 64]
        found = model.predict([everyone[place] for place in places])
        yield from _apart("a batch of 64", found, [alone[place] for place in places], exact)
    for place in range(len(rows)):
        pair = model.predict([rows[place], odd[place % len(odd)]]) if odd else []
        yield from _apart("a pair", pair[:1], alone[place : place + 1], exact)
    if bundle.runtime == "sklearn":
        yield from _apart("scikit-learn", alone[: len(rows)], _expected(pipeline.model, inputs), 1e-12)


def _rows(inputs: pd.DataFrame) -> list[Row]:
    columns = [
        [
            None if pd.isna(value) else getattr(value, "item", lambda value=value: value)()
            for value in column.astype(object)
        ]
        for _, column in inputs.items()
    ]
    return list(zip(*columns, strict=True))


def _answered(predict: Callable[[Sequence[Row]], Any], row: Row) -> bool:
    try:
        predict([row])
    except Exception:  # noqa: BLE001 - a model can raise anything
        return False
    return True


def _expected(model: Any, inputs: pd.DataFrame) -> list[Answer]:
    labels = model.predict(inputs).tolist()
    if not hasattr(model, "predict_proba"):
        return [Answer(float(label)) for label in labels]
    return list(map(Answer, labels, map(tuple, model.predict_proba(inputs).tolist())))


def _apart(where: str, found: Sequence[Answer], expected: Sequence[Answer], exact: float) -> Iterator[str]:
    def numbers(answer: Answer) -> tuple[float, ...]:
        return answer.probabilities or (float(answer.prediction),)

    for one, other in zip(found, expected, strict=True):
        gap = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(numbers(one), numbers(other), strict=True))
        if gap > exact or (one.prediction != other.prediction and one.probabilities is not None):
            yield f"{where}: {one} instead of {other}"
            return


def main() -> int:
    """Prove all pipelines; print those that differ."""
    count = wrong = 0
    for pipeline in pipelines(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                made = bundled(pipeline, Path(folder))
                found = [
                    f"{kind}: {line}" for kind in ("sklearn", "auto") for line in differences(pipeline, made, kind)
                ]
            except Exception as error:  # noqa: BLE001 - the others are proved all the same
                found = [f"{type(error).__name__}: {error}"]
        count, wrong = count + 1, wrong + bool(found)
        sys.stdout.write("\n    ".join([pipeline.name, *found]) + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"{count} pipelines, {wrong} of them wrong\n")
    return int(wrong > 0)


if __name__ == "__main__":
    from tests.support.models import zoo

    sys.exit(zoo.main())
