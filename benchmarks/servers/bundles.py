"""Bundles that only the benchmarks serve: ``python -m benchmarks.servers.bundles FOLDER NAME...`` writes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from app.bundling import build_bundle
from tests.support.processes import ROOT

SEED = 20131
WIDE_FEATURES = 100
WIDE_ROWS = 10_000
"""Rows of the wide model's reference and of its window."""
TARGET = "outcome"


def make_bundles(folder: Path, *names: str) -> None:
    """Write bundles by name, in a process of its own: what fits models would keep memory and threads here."""
    subprocess.run([sys.executable, "-m", "benchmarks.servers.bundles", str(folder), *names], check=True, cwd=ROOT)


def forest(models: Path) -> None:
    """The breast cancer example with 100 trees."""
    from sklearn.ensemble import RandomForestClassifier

    _breast_cancer(models, "forest", RandomForestClassifier(n_estimators=100, random_state=SEED))


def boosting(models: Path) -> None:
    """The breast cancer example with histogram gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    _breast_cancer(models, "boosting", HistGradientBoostingClassifier(random_state=SEED))


def wide(models: Path) -> None:
    """A logistic regression over 100 numbers, with a reference and live rows as large as its window."""
    from sklearn.datasets import make_classification
    from sklearn.linear_model import LogisticRegression

    features, target = make_classification(3 * WIDE_ROWS, WIDE_FEATURES, n_informative=20, random_state=SEED)
    rows = pd.DataFrame(features, columns=[f"x{number:02}" for number in range(WIDE_FEATURES)])
    rows[TARGET] = target
    _build(models, "wide", LogisticRegression(), rows[:WIDE_ROWS], rows[WIDE_ROWS:-WIDE_ROWS], rows[-WIDE_ROWS:])


BUNDLES: dict[str, Callable[[Path], None]] = {"forest": forest, "boosting": boosting, "wide": wide}


def _breast_cancer(models: Path, name: str, model: Any) -> None:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer(as_frame=True)
    rows = found.data.rename(columns=lambda column: column.replace(" ", "_"))
    rows[TARGET] = found.target_names[found.target]
    rows = rows.sample(frac=1, random_state=SEED)
    _build(models, name, model, rows[:240], rows[240:400], rows[400:])


def _build(models: Path, name: str, model: Any, train: pd.DataFrame, holdout: pd.DataFrame, live: pd.DataFrame) -> None:
    model.fit(train.drop(columns=TARGET), train[TARGET])
    attached = {"live.csv": live.to_csv(index=False, lineterminator="\n").encode()}
    build_bundle(model, data=train, holdout=holdout, target=TARGET, name=name, models=models, attachments=attached)


if __name__ == "__main__":
    for chosen in sys.argv[2:]:
        BUNDLES[chosen](Path(sys.argv[1]))
