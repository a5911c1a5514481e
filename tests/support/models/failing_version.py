"""A model whose second version raises on rows that the first one takes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, SplineTransformer

from app.bundling import build_bundle
from tests.support.deadlines import wait_until
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
KNOWN, NEW = {"age": 40, "channel": "web"}, {"age": 140, "channel": "web"}
"""A row that both versions take, and one on which version 2 raises: so old nobody in the data was."""


Answered: TypeAlias = tuple[int, str | None]
ENOUGH = 200
"""Answers in a row of one version after which no other is to be expected."""


def build_versions(models: Path) -> None:
    """Write version 1, which takes ages beyond those in the data, and version 2, which raises on them."""
    data: pd.DataFrame = bundles.mixed()[["age", "channel", "y"]]
    holdout = bundles.mixed(seed=8)[["age", "channel", "y"]]
    holdout["age"] = holdout["age"].clip(data["age"].min(), data["age"].max())
    for version, beyond in (("1", "constant"), ("2", "error")):
        columns = ColumnTransformer(
            [
                ("age", SplineTransformer(extrapolation=beyond), ["age"]),
                ("channel", OneHotEncoder(handle_unknown="ignore"), ["channel"]),
            ]
        )
        model = make_pipeline(columns, LogisticRegression()).fit(data[["age", "channel"]], data["y"])
        build_bundle(model, data=data, holdout=holdout, target="y", name=NAME, version=version, models=models)


def half_new() -> Iterator[dict[str, Any]]:
    """Requests of which every other one has an age that is new."""
    return ({"features": row} for row in itertools.cycle((KNOWN, NEW)))


def ask(service: Service, requests: Iterable[dict[str, Any]]) -> list[Answered]:
    """Status and version of each answer."""
    answers = (service.call("POST", "/predict", body) for body in requests)
    return [(status, answer.get("model_version")) for status, answer in answers]


def ask_some(service: Service, number: int) -> list[Answered]:
    """Ask so many times; half of the requests have an age that is new."""
    return ask(service, itertools.islice(half_new(), number))


def ask_until(service: Service, version: str) -> list[Answered]:
    """Ask, half of the times with an age that is new, until nothing but this version answers any more."""
    seen: list[Answered] = []

    def is_over() -> bool:
        seen.extend(ask_some(service, 50))
        return {*seen[-ENOUGH:]} == {(200, version)}

    wait_until(is_over, lambda: seen[-ENOUGH:])
    return seen


def history(value: str) -> list[dict[str, Any]]:
    """The history out of a stored activation."""
    changes: list[dict[str, Any]] = json.loads(value)["history"]
    return changes
