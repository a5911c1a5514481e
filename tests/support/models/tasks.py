"""Small bundles of every task and label type, each with the scikit-learn model that it was made of."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.bundling import build_bundle
from app.types import Json, Label
from tests.support.models import bundles

LABELS: dict[str, Sequence[Label]] = {
    "zero_one": (0, 1),
    "boolean": (False, True),
    "text": ("no", "yes"),
    "blank": ("", "yes"),
    "three": ("a", "b", "c"),
}


@dataclass(frozen=True)
class Fitted:
    """A model, the data it was fitted on (with the target ``y``), and so what the service must answer."""

    name: str
    model: Any
    data: pd.DataFrame

    @property
    def rows(self) -> list[Json]:
        """The data's rows as request bodies carry them: missing is None."""
        features = self.data.drop(columns="y").astype(object)
        return [
            {str(name): None if pd.isna(value) else value for name, value in row.items()}
            for row in features.where(features.notna(), None).to_dict("records")
        ]

    def answers(self, rows: Sequence[Json]) -> tuple[list[Label], list[list[float]] | None]:
        """scikit-learn's own predictions and probabilities for these rows."""
        frame = pd.DataFrame(list(rows), columns=self.data.columns.drop("y")).astype(self.data.dtypes.drop("y"))
        labels = self.model.predict(frame).tolist()
        return labels, self.model.predict_proba(frame).tolist() if hasattr(self.model, "predict_proba") else None


def build_all(models: Path) -> dict[str, Fitted]:
    """Write a bundle of each into ``models``."""
    made = [_fit(name, LogisticRegression(), bundles.numbers(labels)) for name, labels in LABELS.items()]
    price = bundles.numbers()
    price["y"] = 100 + 7 * price["a"] - 3 * price["b"]
    made.append(_fit("price", make_pipeline(StandardScaler(), LinearRegression()), price))
    made.append(_fit("mixed", bundles.pipeline(), bundles.mixed()))
    for fitted in made:
        data, holdout = fitted.data, bundles.unseen(fitted.data)
        build_bundle(fitted.model, data=data, holdout=holdout, target="y", name=fitted.name, models=models)
    return {fitted.name: fitted for fitted in made}


def read_csv(text: str) -> list[dict[str, str]]:
    """The rows of a CSV text by column."""
    return list(csv.DictReader(io.StringIO(text)))


def _fit(name: str, model: Any, data: pd.DataFrame) -> Fitted:
    return Fitted(name, model.fit(data.drop(columns="y"), data["y"]), data)
