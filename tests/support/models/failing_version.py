"""A model whose second version raises on rows that the first one takes."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.bundling import build_bundle
from tests.support.models import bundles
from tests.support.processes import Service

NAME = "encoded"
SETTINGS = {
    "SERVING__ACTIVE": f"{NAME}/1",
    "SERVING__RUNTIME": "sklearn",
    "DRIFT__EVERY": "1d",
    "PERFORMANCE__EVERY": "1d",
}
ACTIVATE = f"/models/{NAME}/activate"
KNOWN, NEW = {"age": 40, "channel": "web"}, {"age": 40, "channel": "kiosk"}
"""A row that both versions take, and one on which version 2 raises: its category was not in the data."""


Answered: TypeAlias = tuple[float, int, str | None]
ENOUGH = 200
"""Answers in a row of one version after which no other is to be expected."""


def build_versions(models: Path) -> None:
    """Write version 1, which ignores categories that it does not know, and version 2, which raises on them."""
    data: pd.DataFrame = bundles.mixed()[["age", "channel", "y"]]
    for version, unknown in (("1", "ignore"), ("2", "error")):
        columns = ColumnTransformer(
            [("channel", OneHotEncoder(handle_unknown=unknown), ["channel"])], remainder="passthrough"
        )
        model = make_pipeline(columns, LogisticRegression()).fit(data[["age", "channel"]], data["y"])
        build_bundle(model, data=data, holdout=data, target="y", name=NAME, version=version, models=models)


def half_new() -> Iterator[dict[str, Any]]:
    """Requests of which every other one has a category that is new."""
    return ({"features": row} for row in itertools.cycle((KNOWN, NEW)))


def ask(service: Service, seconds: float, *, until: str | None = None) -> list[Answered]:
    """Time, status and version of each answer to requests of which half have a category that is new.

    Args:
        until: end early, once nothing but this version has answered for a while.
    """
    seen: list[Answered] = []
    end = time.monotonic() + seconds
    for body in half_new():
        if time.monotonic() > end or (until and {part[1:] for part in seen[-ENOUGH:]} == {(200, until)}):
            break
        status, answer = service.call("POST", "/predict", body)
        seen.append((time.monotonic(), status, answer.get("model_version")))
        time.sleep(0.005)
    return seen


def history(value: str) -> list[dict[str, Any]]:
    """The history out of a stored activation."""
    changes: list[dict[str, Any]] = json.loads(value)["history"]
    return changes
