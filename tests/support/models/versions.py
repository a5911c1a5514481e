"""Two versions of one model that answer every row otherwise, so that an answer shows which version made it."""

from __future__ import annotations

from pathlib import Path

from sklearn.linear_model import LogisticRegression

from app.bundling import build_bundle
from tests.support.models import bundles

NAME = "switch"
ROW = {"a": 2.0, "b": 1.0, "c": 0.0}
ANSWERS = {"1": "yes", "2": "no", "3": "yes"}
"""What each version says to :data:`ROW`."""


def build_versions(models: Path) -> None:
    """Write ``switch/1``, ``switch/2`` with the labels exchanged, and ``switch/3``."""
    for version in ANSWERS:
        data = bundles.numbers(("yes", "no") if version == "2" else ("no", "yes"))
        model = LogisticRegression().fit(data[["a", "b", "c"]], data["y"])
        holdout = bundles.unseen(data)
        build_bundle(model, data=data, holdout=holdout, target="y", name=NAME, version=version, models=models)
