"""Tiny real models and their data, for the tests of bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from app.types import Answer, Label

ROWS = 240


def numbers(labels: Sequence[Label] = ("no", "yes"), *, seed: int = 7) -> pd.DataFrame:
    """Three numeric columns and a target ``y`` with these labels, which depends on them."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(ROWS, 3)), columns=["a", "b", "c"])
    score = frame["a"] + 0.5 * frame["b"] + rng.normal(scale=0.3, size=ROWS)
    place = pd.qcut(score, len(labels), labels=False)
    frame["y"] = [labels[index] for index in place]
    return frame


def mixed(*, seed: int = 7) -> pd.DataFrame:
    """Columns of every type, with missing values, and a target ``y``."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 80, ROWS),
            "income": rng.lognormal(10, 1, ROWS),
            "channel": rng.choice(["web", "shop", "phone"], ROWS),
            "member": rng.random(ROWS) < 0.4,
        }
    )
    frame["y"] = np.where(frame["income"] * (1 + frame["member"]) > 30_000, "good", "bad")
    frame.loc[::9, "income"] = np.nan
    return frame


def unseen(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that are not those of the frame, and nearly the same: a reference that the model was not fitted on."""
    moved = frame.copy()
    for name in moved.columns.drop("y"):
        if pd.api.types.is_float_dtype(moved[name].dtype):
            moved[name] *= 1 + 1e-9
        elif pd.api.types.is_integer_dtype(moved[name].dtype):
            moved[name] += 1
    return moved


def fit(model: Any, frame: pd.DataFrame, *, named: bool = True) -> Any:
    """The model fitted on all columns but ``y``."""
    inputs = frame.drop(columns="y")
    return model.fit(inputs if named else inputs.to_numpy(), frame["y"])


def pipeline() -> Any:
    """An unfitted classifier over named columns of :func:`mixed`, which fills missing incomes."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
            ("channel", OneHotEncoder(handle_unknown="ignore"), ["channel"]),
        ],
        remainder="passthrough",
    )
    return make_pipeline(columns, LogisticRegression())


def told(answers: Sequence[Answer]) -> NDArray[np.float64]:
    """The answers' probabilities, shape (n, classes)."""
    return np.array([answer.probabilities for answer in answers], dtype=np.float64)


def rewrite(folder: Path, **changes: Any) -> None:
    """Change keys of a bundle's manifest; None takes a key out."""
    path = folder / "bundle.yaml"
    manifest = yaml.safe_load(path.read_bytes()) | changes
    path.write_text(yaml.safe_dump({key: value for key, value in manifest.items() if value is not None}))


def pin(folder: Path, name: str, content: bytes) -> None:
    """Put a file into a bundle as an attacker would who can write the manifest as well."""
    (folder / name).write_bytes(content)
    files = yaml.safe_load((folder / "bundle.yaml").read_bytes())["files"]
    rewrite(folder, files=files | {name: hashlib.sha256(content).hexdigest()})


def absolute(values: Any) -> Any:
    """A function of our own inside a model, which is on no list of trusted types."""
    return np.abs(values)


def minus_mean(values: Any) -> Any:
    """A step that computes from the rows of the batch, not from what it was fitted on."""
    return values - values.mean(axis=0)


def insist_on_equal_columns(values: Any) -> Any:
    """A step that refuses rows whose first two values differ."""
    if not np.array_equal(values[:, 0], values[:, 1]):
        raise ValueError("columns differ")
    return values
