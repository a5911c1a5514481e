"""What scikit-learn itself needs is trusted, and nothing else is."""

from __future__ import annotations

import warnings
import zipfile
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, Matern, WhiteKernel
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier, TweedieRegressor
from sklearn.model_selection import GridSearchCV, StratifiedKFold, TunedThresholdClassifierCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, SplineTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from app.errors import BundleError
from app.serving.runtimes import skops as reviewed
from app.serving.runtimes.skops import load_skops
from tests.support.models import bundles

MODELS: list[Any] = [
    AdaBoostClassifier(n_estimators=3),
    BaggingClassifier(n_estimators=3),
    CalibratedClassifierCV(GaussianNB(), cv=2),
    CalibratedClassifierCV(GaussianNB(), cv=2, method="isotonic"),
    DecisionTreeClassifier(),
    ExtraTreesClassifier(3),
    GaussianProcessClassifier(1.0 * RBF() + Matern() + WhiteKernel(), max_iter_predict=3),
    GradientBoostingClassifier(n_estimators=3),
    GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=StratifiedKFold(2), scoring="roc_auc"),
    HistGradientBoostingClassifier(max_iter=3, categorical_features=[2]),
    KNeighborsClassifier(algorithm="ball_tree"),
    KNeighborsClassifier(algorithm="kd_tree", metric="manhattan"),
    MLPClassifier((4,), max_iter=3),
    MLPClassifier((4,), max_iter=3, solver="sgd"),
    RandomForestClassifier(3),
    SGDClassifier(),
    SVC(),
    StackingClassifier([("tree", DecisionTreeClassifier())], cv=2),
    TransformedTargetRegressor(LinearRegression(), func=np.log1p, inverse_func=np.expm1),
    TunedThresholdClassifierCV(LogisticRegression(), cv=2),
    TweedieRegressor(power=1.5),
    VotingClassifier([("tree", DecisionTreeClassifier())]),
    make_pipeline(PolynomialFeatures(), SelectKBest(k=2), LogisticRegression()),
    make_pipeline(SplineTransformer(), LogisticRegression()),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_scikit_learns_models(model: Any) -> None:
    """Models of scikit-learn come back from skops without a word in the configuration, and answer as before."""
    frame = bundles.numbers((0, 1))[:60].round(1)
    frame["c"] = frame["c"].abs().round()
    inputs = frame[["a", "b", "c"]].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(inputs, frame["y"])

    loaded = load_skops(skops.io.dumps(model))

    assert np.array_equal(model.predict(inputs), loaded.predict(inputs))


def test_reviewed_list_is_needed() -> None:
    """Nothing is on the reviewed list that skops trusts by itself, and every name is there once."""
    from skops.io._trusted_types import SKLEARN_ESTIMATOR_TYPE_NAMES

    listed = reviewed.COMPILED + reviewed.CONTAINERS + reviewed.FUNCTIONS

    assert len(set(listed)) == len(listed) == len(reviewed.REVIEWED)
    trusted = {name for name in SKLEARN_ESTIMATOR_TYPE_NAMES if "successive_halving" not in name}  # where enabled
    assert not reviewed.REVIEWED & trusted


@pytest.mark.parametrize("function", [np.linalg.norm, __import__("os").system, __import__("shutil").rmtree, eval])
def test_foreign_functions(function: Any) -> None:
    """A function that scikit-learn did not bring is refused, wherever it hides."""
    from sklearn.preprocessing import FunctionTransformer

    with pytest.raises(BundleError, match="holds types that are not trusted"):
        load_skops(skops.io.dumps(FunctionTransformer(function)))


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to more than the limit is refused before it is unpacked."""
    monkeypatch.setattr(reviewed, "MAX_BYTES", 2**20)
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b" " * 2**21)

    with pytest.raises(BundleError, match=r"m\.skops: unpacks to 2097152 bytes, more than the 1048576 that are read"):
        load_skops(buffer.getvalue(), what="m.skops")
