"""A loaded scikit-learn model: rows in, answers out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from app.errors import BundleError
from app.serving.runtimes.base import LANES, LARGEST, Frames, Levels, by_threshold, whole_blocks
from app.serving.runtimes.formats import FORMATS
from app.types import Answer, Label, ModelSchema, Row

Layout: TypeAlias = Literal["array", "dataframe", "series"]
"""How a model is given its rows."""

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


class Estimator:
    """A model with its schema; a row's answer does not depend on the rows beside it.

    Args:
        model: a fitted scikit-learn estimator; the caller gives it away, since it is adjusted for serving.
        layout: ``array`` gives it float64 of shape (n, features), ``dataframe`` named columns of the training dtypes,
            ``series`` the only column.
        dtypes, levels: of the columns of a DataFrame; see the manifest.
        single_rows: whether the model is given one row at a time, since its answer depends on the others.
    """

    tolerance = 1e-9
    """Rounding differs between processors."""

    def __init__(
        self,
        model: Any,
        schema: ModelSchema,
        *,
        layout: Layout,
        dtypes: Mapping[str, str] | None = None,
        levels: Mapping[str, Levels] | None = None,
        single_rows: bool = False,
    ) -> None:
        self.schema = schema
        self._model = model
        self._has_probabilities = bool(schema.classes) and hasattr(model, "predict_proba")
        self._asks_predict = not _decided_by_probability(model)
        self._frames = None if layout == "array" else Frames(schema.features, dtypes or {}, levels or {})
        self._only = schema.features[0].name if layout == "series" else None
        self._single_rows = single_rows
        self.bounds = _bounds(model, schema, dtypes or {})
        _make_deterministic(model, keep_names=layout != "array")

    def predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer validated rows, in order; raises whatever the model raises."""
        if not rows:
            return []
        if self._single_rows:
            return [answer for row in rows for answer in self._answers([row], 1)]
        groups = None if self._frames is None else self._frames.groups(rows)
        if groups is None:
            return self._answers(whole_blocks(rows), len(rows))
        answers: dict[int, Answer] = {}
        for places in groups:
            part = self._answers(whole_blocks([rows[place] for place in places]), len(places))
            answers.update(zip(places, part, strict=True))
        return [answers[place] for place in range(len(rows))]

    def arrange(self, rows: Sequence[Row]) -> Any:
        """Rows that go together as the model takes them."""
        if self._frames is None:
            return _array(rows)
        frame = self._frames.frame(rows)
        return frame if self._only is None else frame[self._only]

    def mixing_step(self, rows: Sequence[Row]) -> str:
        """The step that makes a row's answer depend on the others; empty where none is found."""
        groups = None if self._frames is None else self._frames.groups(rows)
        return _mixing_step(self._model, self.arrange(rows if groups is None else [rows[place] for place in groups[0]]))

    def _answers(self, rows: Sequence[Row], count: int) -> list[Answer]:
        """The answers to the first rows."""
        data = self.arrange(rows)
        if not self._has_probabilities:
            return [Answer(self._label(label)) for label in sole(self._model.predict(data))[:count].tolist()]
        probabilities = shares(self._model.predict_proba(data))
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
            return [schema.classes.index(label) for label in sole(self._model.predict(data)).tolist()]
        return list(probabilities.argmax(axis=1).tolist())

    def _label(self, value: Label) -> Label:
        return float(value) if not self.schema.classes else value


def _array(rows: Sequence[Row]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64)


def _bounds(model: Any, schema: ModelSchema, dtypes: Mapping[str, str]) -> dict[str, float]:
    """The largest size of a number in each column that is float32, or that a tree makes float32."""
    narrow = any(
        type(part).__module__.startswith("sklearn.tree") or getattr(part, "takes_float32", False)
        for part in parts(model)
    )
    largest = {feature.name: LARGEST.get(dtypes.get(feature.name, "").lower()) for feature in schema.features}
    return {
        name: min(bound or LARGEST["float32"], LARGEST["float32"])
        for name, bound in largest.items()
        if narrow or (bound and dtypes[name].lower().startswith("float"))
    }


def sole(values: Any) -> NDArray[Any]:
    """One value for each row, out of shape (n) or (n, 1).

    Raises:
        BundleError: there are several.
    """
    found = np.asarray(values)
    if found.ndim > 1 and found.size != len(found):
        raise BundleError("the model answers several values for a row; one is served")
    return found.ravel()


def shares(values: Any) -> NDArray[Any]:
    """Probabilities of shape (n, classes).

    A model of several targets gives them in a list, here of one.
    """
    return np.asarray(values[0] if isinstance(values, list) and len(values) == 1 else values)


def classes_of(model: Any) -> tuple[Label, ...]:
    """The classes of a fitted classifier of one target, in order; empty where it has none."""
    classes: Any = getattr(model, "classes_", ())
    if isinstance(classes, list) and len(classes) == 1:
        classes = classes[0]
    return tuple(classes.tolist()) if getattr(classes, "ndim", 0) == 1 else ()


def _mixing_step(model: Any, data: Any) -> str:
    """The first part whose output for a row changes with the rows beside it.

    The parts that hold it stand before it.
    """
    while hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    name = ""
    for name, part in getattr(model, "steps", ()):
        if not hasattr(part, "transform"):
            continue
        if _mixes(part, data):
            return " > ".join(filter(None, (name, _mixing_step(part, data))))
        data = part.transform(data)
    for name, part, columns in getattr(model, "transformers_", ()):
        taken = data[columns] if hasattr(data, "columns") else data[:, columns]
        if hasattr(part, "transform") and _mixes(part, taken):
            return " > ".join(filter(None, (name, _mixing_step(part, taken))))
    return name if hasattr(model, "steps") else ""


def _mixes(part: Any, data: Any) -> bool:
    """Tell whether a part makes something else of one of the first rows alone than of all rows."""
    try:
        together = _dense(part.transform(data))
        for place in range(min(len(data), LANES)):
            alone = _dense(part.transform(data[place : place + 1]))
            if object in (alone.dtype, together.dtype):
                if alone[0].tolist() != together[place].tolist():
                    return True
            elif not np.allclose(alone[0], together[place], rtol=1e-9, atol=1e-12, equal_nan=True):
                return True
    except Exception:  # noqa: BLE001 - a part can raise anything, and is not found then
        return False
    return False


def _dense(values: Any) -> NDArray[Any]:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _decided_by_probability(model: Any) -> bool:
    """Tell whether the label is always the class of the highest probability.

    The last step of a pipeline decides, or the best estimator of a search.
    """
    while hasattr(model, "steps") or hasattr(model, "best_estimator_"):
        model = model.steps[-1][1] if hasattr(model, "steps") else model.best_estimator_
    if (told := getattr(model, "decided_by_probability", None)) is not None:
        return bool(told)
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


def load_model(
    data: bytes,
    *,
    file: str,
    trusted_types: Sequence[str],
    what: str,
    names: AbstractContextManager[None] | None = None,
) -> tuple[Any, list[str]]:
    """Load the estimator in a file's bytes, and list other versions that wrote it.

    The format is the one that is claimed for it, never guessed from its content.

    A file of some formats runs the code inside it: the caller has asked for permission.

    Args:
        names: holds while the file is read: what names of the user's own modules mean.

    Raises:
        BundleError: it cannot be loaded, or is no estimator.
    """
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import InconsistentVersionWarning

    from app.serving.runtimes.boosters import library_of

    load = FORMATS[file].load
    with warnings.catch_warnings(record=True) as said, names or nullcontext():
        warnings.simplefilter("always")
        model = data if load is None else load(data, trusted_types, what)
    found = [each.message for each in said if isinstance(each.message, InconsistentVersionWarning)]
    known = isinstance(model, BaseEstimator) or library_of(model) is not None  # CatBoost's are of no common class
    if not known or not hasattr(model, "predict"):
        raise BundleError(f"{what}: holds a {type(model).__name__}, not a fitted scikit-learn model")
    return model, sorted({str(each.original_sklearn_version) for each in found})


def another_version(versions: Sequence[str], what: str) -> str:
    """Say that a model was written by another scikit-learn, and what to do."""
    import sklearn

    return (
        f"{what}: was written by scikit-learn {', '.join(versions)}, but this is {sklearn.__version__}, which may "
        "answer otherwise; bundle it where that version is installed, or fit it again here, or pass --accept-version "
        "with --golden answers.csv: rows with the answers that the model gave there"
    )
