"""The models of the store fixture: their data, their bundles, and what happens to each in production.

All data is drawn from fixed seeds, so two runs give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.bundling import build_bundle
from app.types import SECOND, Json, Micros
from tests.support.release.fixed_clock import STEP_S

STEP = STEP_S * SECOND
DAY = 86_400 * SECOND
START = Micros(1_772_409_600 * SECOND)
"""2026-03-02T00:00:00Z, a Monday."""
TRAIN_ROWS = 1_500
Times: TypeAlias = NDArray[np.int64]
"""Micros of each row."""
Draw: TypeAlias = Callable[..., pd.DataFrame]
"""Draws one row for each time, features and the truth ``y``; keywords change the world."""


@dataclass(frozen=True)
class Stretch:
    """Some steps of equal traffic.

    Attributes:
        rows: predictions in each step.
        changes: keywords of the history's ``draw``.
    """

    steps: int
    rows: int
    changes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class History:
    """What happens to one model.

    Attributes:
        looks: steps after which every check runs on the active version.
        shadow_looks: steps after which every check runs on the shadow, version 2, too.
        next_look: step after which the next check is due; it is left to those who open the store.
        settings: the configuration of the service.
    """

    name: str
    start: Micros
    draw: Draw
    stretches: Sequence[Stretch]
    looks: Sequence[int]
    shadow_looks: Sequence[int]
    settings: Json
    next_look: int | None = None

    def end_of(self, step: int) -> Micros:
        """The end of a step; the first one has the number 1."""
        return Micros(self.start + step * STEP)


def draw_credit(
    rng: np.random.Generator,
    times: Times,
    *,
    shift: float = 0.0,
    missing: float = 0.05,
    unseen: float = 0.0,
    wrong: float = 0.0,
) -> pd.DataFrame:
    """Draw a loan's features: heavy tails, missing and unseen values, and a constant; the truth is good or bad."""
    rows = len(times)
    income = rng.lognormal(10.0 + shift, 0.8, rows)
    age = rng.integers(18, 80, rows)
    channel = rng.choice(["web", "shop", "phone"], rows, p=[0.6, 0.3, 0.1]).astype(object)
    member = rng.random(rows) < 0.4
    balance = 1000 * rng.standard_t(2, rows)
    score = 1.2 * (np.log(income) - 10) + 0.03 * (age - 45) + 0.8 * member - 0.5 * np.arcsinh(balance / 1000)
    good = score + 0.8 * rng.logistic(size=rows) > 0
    good ^= rng.random(rows) < wrong
    channel[rng.random(rows) < unseen] = "app"
    income[rng.random(rows) < missing] = np.nan
    features = {"income": income, "age": age, "channel": channel, "member": member, "balance": balance}
    return pd.DataFrame({**features, "branch": np.full(rows, 7), "y": np.where(good, "good", "bad")})


def draw_price(rng: np.random.Generator, times: Times, *, larger: float = 0.0, noise: float = 5.0) -> pd.DataFrame:
    """Draw a flat's features, of which the demand follows the hour of the day; the truth is a price."""
    rows = len(times)
    hour = times / (3600 * SECOND) % 24
    area = rng.normal(80.0 + larger, 20.0, rows).round(1)
    rooms = 1 + rng.poisson(area.clip(20) / 30)
    demand = 2 * np.sin(2 * np.pi * hour / 24) + rng.normal(size=rows)
    district = rng.choice(["north", "south", "east"], rows, p=[0.5, 0.3, 0.2])
    price = 3 * area + 10 * rooms + 15 * demand + 20 * (district == "south") + rng.normal(0.0, noise, rows)
    return pd.DataFrame({"area": area, "rooms": rooms, "demand": demand, "district": district, "y": price})


def draw_iris(rng: np.random.Generator, times: Times, *, wrong: float = 0.0) -> pd.DataFrame:
    """Draw two lengths of a flower; the truth is one of three species."""
    rows = len(times)
    species = rng.integers(0, 3, rows)
    petal = rng.normal(1.5 + 1.5 * species, 0.6, rows)
    sepal = rng.normal(5.0 + 0.5 * species, 0.5, rows)
    truth = np.where(rng.random(rows) < wrong, (species + 1) % 3, species)
    return pd.DataFrame({"petal": petal, "sepal": sepal, "y": np.array(["setosa", "versicolor", "virginica"])[truth]})


CHANNELS = {"notify": ["${CHANNEL}"], "retrain": {"url": "${RETRAIN}", "cooldown": "2h"}}
PRICE = History(
    "price",
    START,
    draw_price,
    (Stretch(32, 12), Stretch(32, 12, {"larger": 15.0, "noise": 15.0})),
    looks=(16, 48, 64),
    shadow_looks=(),
    settings={
        "serving": {"active": "price/1"},
        "drift": {"window": {"rows": 150, "hours": 3}},
        "performance": {"window": {"rows": 250, "hours": 4}, "label_delay": "15m", "segments": ["district"]},
        "alerts": CHANNELS,
    },
)
IRIS = History(
    "iris",
    Micros(START + DAY),
    draw_iris,
    (Stretch(8, 30), Stretch(8, 30, {"wrong": 0.3})),
    looks=(8, 16),
    shadow_looks=(),
    settings={
        "serving": {"active": "iris/1"},
        "drift": {"window": {"rows": 200, "hours": 0}},
        "performance": {"window": {"rows": 200, "hours": 0}},
        "alerts": CHANNELS,
    },
)
CREDIT = History(
    "credit",
    Micros(START + 2 * DAY),
    draw_credit,
    (
        Stretch(1, 40),
        Stretch(7, 80),
        Stretch(8, 80, {"shift": 0.6, "missing": 0.15, "unseen": 0.05}),
        Stretch(8, 80, {"wrong": 0.4}),
        Stretch(104, 0),
        Stretch(8, 80, {"shift": 0.6, "missing": 0.15}),
        Stretch(8, 0),
    ),
    looks=(1, 4, 8, 12, 16, 24, 28),
    shadow_looks=(24,),
    settings={
        "serving": {"active": "credit/1", "shadows": ["2"]},
        "outcomes": {"unknown": "hold"},
        "drift": {"every": "10m", "window": {"rows": 250, "hours": 1}, "false_alarm_every": "7d"},
        "performance": {"every": "10m", "window": {"rows": 300, "hours": 1.5}, "segments": ["channel", "region"]},
        "alerts": CHANNELS
        | {"rules": ["default", {"name": "wide_drift", "metric": "drift.share", "warning": 0.1, "critical": 0.9}]},
    },
    next_look=144,
)
HISTORIES = (PRICE, IRIS, CREDIT)
"""In the order of their times, since the label delay is that of the latest outcomes in the store."""


def build_bundles(models: Path) -> None:
    """Write the bundles of all histories into ``models``."""
    from sklearn.linear_model import LogisticRegression, Ridge

    _bundle(CREDIT, _with_columns(LogisticRegression(), ["income", "age", "balance"], ["channel"]), models)
    _bundle(
        CREDIT,
        _with_columns(LogisticRegression(C=0.01), ["income", "age", "balance"], ["channel"]),
        models,
        version="2",
    )
    _bundle(PRICE, _with_columns(Ridge(), ["area", "rooms", "demand"], ["district"]), models, time="time")
    _bundle(IRIS, _with_columns(LogisticRegression(), ["petal", "sepal"], []), models)


def _with_columns(model: Any, numbers: Sequence[str], categories: Sequence[str]) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    steps = [
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), list(numbers)),
        ("categories", OneHotEncoder(handle_unknown="ignore"), list(categories)),
    ]
    return make_pipeline(ColumnTransformer([step for step in steps if step[2]], remainder="passthrough"), model)


def _bundle(history: History, model: Any, models: Path, *, version: str = "1", time: str | None = None) -> None:
    """Fit on one sample, and take another as the reference; both are from the four weeks before the history."""
    rng = np.random.default_rng(11)
    times = history.start - 28 * DAY + np.arange(TRAIN_ROWS) * (28 * DAY // TRAIN_ROWS)
    data, holdout = history.draw(rng, times), history.draw(rng, times)
    if time:
        data[time] = holdout[time] = pd.to_datetime(times, unit="us", utc=True)
    kept = [name for name in data.columns if name not in ("y", time)]
    build_bundle(
        model.fit(data[kept], data["y"]),
        data=data,
        holdout=holdout,
        target="y",
        name=history.name,
        version=version,
        models=models,
        time=time,
        positive="bad" if history is CREDIT else None,
        now=Micros(history.start - DAY),
    )
