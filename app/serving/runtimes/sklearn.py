"""A loaded scikit-learn model: rows in, answers out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.runtimes.base import LARGEST, by_threshold, whole_blocks
from app.serving.runtimes.formats import FORMATS
from app.types import Answer, FeatureType, Label, ModelSchema, Row

# Their predict() is the class of the highest probability; of any other model, predict() is asked as well.
DECIDED_BY_PROBABILITY = frozenset(
    {
        *("LogisticRegression", "LogisticRegressionCV", "MLPClassifier", "GaussianProcessClassifier"),
        *("DecisionTreeClassifier", "ExtraTreeClassifier", "RandomForestClassifier", "ExtraTreesClassifier"),
        *("GradientBoostingClassifier", "HistGradientBoostingClassifier", "CalibratedClassifierCV"),
        *("LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis", "KNeighborsClassifier"),
        *("GaussianNB", "BernoulliNB", "MultinomialNB", "ComplementNB", "CategoricalNB"),
    }
)
_DEFAULT_DTYPES = {
    FeatureType.NUMERIC: "float64",
    FeatureType.INTEGER: "int64",
    FeatureType.BOOLEAN: "bool",
    FeatureType.CATEGORICAL: "str",
}


class Estimator:
    """A model with its schema; a row's answer does not depend on the rows beside it.

    Args:
        model: a fitted scikit-learn estimator; the caller gives it away, since it is adjusted for serving.
        layout: ``array`` gives it float64 of shape (n, features), ``dataframe`` named columns of the training dtypes.
        dtypes: the dtypes that differ from float64, int64, bool and text with NaN for missing; see the manifest.
    """

    tolerance = 1e-9
    """Rounding differs between processors."""

    def __init__(
        self,
        model: Any,
        schema: ModelSchema,
        *,
        layout: Literal["array", "dataframe"],
        dtypes: Mapping[str, str] | None = None,
    ) -> None:
        self.schema = schema
        self._model = model
        self._has_probabilities = bool(schema.classes) and hasattr(model, "predict_proba")
        self._asks_predict = not _decided_by_probability(model)
        chosen = dtypes or {}
        self._columns = [(item.name, chosen.get(item.name, _DEFAULT_DTYPES[item.type])) for item in schema.features]
        self._arrange = self._frame if layout == "dataframe" else _array
        narrow = any(type(part).__module__.startswith("sklearn.tree") for part in parts(model))
        self.bounds = {name: LARGEST["float32"] for name, dtype in self._columns if narrow or dtype == "float32"}
        _make_deterministic(model, keep_names=layout == "dataframe")

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer validated rows, in order; raises whatever the model raises."""
        count = len(rows)
        if not count:
            return []
        data = self._arrange(whole_blocks(rows))
        if not self._has_probabilities:
            return [Answer(self._label(label)) for label in self._model.predict(data)[:count].tolist()]
        probabilities = self._model.predict_proba(data)
        classes = self.schema.classes
        chosen = self._decide(data, probabilities)
        return [
            Answer(classes[position], tuple(row))
            for position, row in zip(chosen[:count], probabilities[:count].tolist(), strict=True)
        ]

    def _decide(self, data: Any, probabilities: NDArray[Any]) -> list[int]:
        """The position of each row's predicted class."""
        schema = self.schema
        if schema.threshold is not None:
            return by_threshold(schema, probabilities)
        best = probabilities.max(axis=1)
        # In a tie, scikit-learn decides by a score that the probabilities no longer show.
        tied = (probabilities > best[:, None] - 1e-12).sum() > len(probabilities)
        if self._asks_predict or tied or np.isnan(best).any():
            return [schema.classes.index(label) for label in self._model.predict(data).tolist()]
        return list(probabilities.argmax(axis=1).tolist())

    def _label(self, value: Label) -> Label:
        return float(value) if not self.schema.classes else value

    def _frame(self, rows: Sequence[Row]) -> Any:
        import pandas as pd

        columns = zip(self._columns, zip(*rows, strict=True), strict=True)
        return pd.DataFrame({name: _column(values, dtype) for (name, dtype), values in columns}, copy=False)


def _array(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def _column(values: tuple[Any, ...], dtype: str) -> Any:
    """Make a DataFrame column.

    Integers and booleans turn into float64 where a value is missing or not whole.
    """
    if dtype == "category":
        import pandas as pd

        return pd.Categorical(values)
    if dtype == "str":
        return np.array([np.nan if value is None else value for value in values], dtype=object)
    if dtype in ("object", "float64", "float32"):
        return np.array(values, dtype=dtype)
    if None in values:
        return np.array(values, dtype=np.float64)
    numbers = np.array(values)
    whole = dtype == "int64" and numbers.dtype.kind == "f" and (numbers == np.floor(numbers)).all()
    whole = whole and np.abs(numbers).max() <= LARGEST["int64"]
    return numbers.astype(np.int64) if whole else numbers


def _decided_by_probability(model: Any) -> bool:
    """Tell whether the label is always the class of the highest probability.

    The last step of a pipeline decides, or the best estimator of a search.
    """
    while hasattr(model, "steps") or hasattr(model, "best_estimator_"):
        model = model.steps[-1][1] if hasattr(model, "steps") else model.best_estimator_
    return type(model).__module__.startswith("sklearn.") and type(model).__name__ in DECIDED_BY_PROBABILITY


def _make_deterministic(model: Any, *, keep_names: bool) -> None:
    """Set a model up to answer the same each time.

    It gets no threads of its own and gives no warnings about names.
    """
    for part in parts(model):
        if getattr(part, "n_jobs", None) is not None:
            # Threads add up a forest's trees in any order, and the sum's last bits with it.
            part.n_jobs = 1
        if not keep_names:
            getattr(part, "__dict__", {}).pop("feature_names_in_", None)


def parts(model: Any) -> Iterator[Any]:
    """An estimator and all that it is made of: steps, members, calibrators."""
    from sklearn.base import BaseEstimator

    if isinstance(model, list | tuple):
        inside = list(model)
    elif isinstance(model, dict):
        inside = list(model.values())
    elif isinstance(model, BaseEstimator) or type(model).__module__.startswith("sklearn."):
        yield model
        inside = list(getattr(model, "__dict__", {}).values())
    else:
        return
    for value in inside:
        yield from parts(value)


def load_model(data: bytes, *, file: str, trusted_types: Sequence[str], what: str) -> Any:
    """Load the estimator in a file's bytes.

    The format is the one that is claimed for it, never guessed from its content.

    A file of some formats runs the code inside it: the caller has asked for permission.

    Raises:
        BundleError: it cannot be loaded, or is no estimator.
    """
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import InconsistentVersionWarning

    load = FORMATS[file].load
    with warnings.catch_warnings():
        # Golden rows say whether another version matters.
        warnings.simplefilter("ignore", InconsistentVersionWarning)
        model = data if load is None else load(data, trusted_types, what)
    if not isinstance(model, BaseEstimator) or not hasattr(model, "predict"):
        raise BundleError(f"{what}: holds a {type(model).__name__}, not a fitted scikit-learn model")
    return model
