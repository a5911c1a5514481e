"""One story from requests to messages: a running service, its checks, and the web server that is told."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.bundling import build_bundle
from tests.support.processes import Service, serving
from tests.support.receivers import webhook

pytestmark = pytest.mark.fault
FEATURES = ("age", "income", "visits", "noise")
WINDOW, STEP = 200, 100
LOOKS = 2 * WINDOW // STEP
"""Looks at each stretch of the story: an alert ends when the last window that showed it has passed."""


@dataclass
class World:
    """Where rows come from: the truth follows two of four features, and is another in one of 20 rows."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    numbers: Iterator[int] = field(default_factory=count)

    def draw(self, rows: int, *, shift: float = 0.0, flipped: bool = False) -> pd.DataFrame:
        """Rows with the last feature shifted, or with every label flipped."""
        frame = pd.DataFrame(self.rng.normal(size=(rows, len(FEATURES))), columns=list(FEATURES))
        right = frame["age"] + frame["income"] > 0
        frame["noise"] += shift
        frame["y"] = (right ^ (self.rng.random(rows) < 0.05) ^ flipped).astype(int)
        return frame

    def live(self, service: Service, *, shift: float = 0.0, flipped: bool = False) -> None:
        """Live through some looks: rows, their labels, a check."""
        for _ in range(LOOKS):
            rows = self.draw(STEP, shift=shift, flipped=flipped)
            ids = [f"row-{next(self.numbers)}" for _ in range(STEP)]
            instances = rows[list(FEATURES)].to_dict("records")
            labels = [
                {"prediction_id": one, "outcome": label} for one, label in zip(ids, rows["y"].tolist(), strict=True)
            ]
            called = [
                service.call("POST", "/predict", {"instances": instances, "prediction_ids": ids}),
                service.call("POST", "/outcome", {"outcomes": labels}),
                service.call("POST", "/checks"),
            ]
            assert [status for status, _ in called] == [200, 200, 200]


def bundle(models: Path, world: World) -> None:
    """Fit a model on rows of the world, and keep others as its reference."""
    from sklearn.linear_model import LogisticRegression

    train, holdout = world.draw(2000), world.draw(1000)
    model = LogisticRegression().fit(train[list(FEATURES)], train["y"])
    build_bundle(model, data=train, holdout=holdout, target="y", name="story", models=models)


def test_one_message_each(tmp_path: Path) -> None:
    """A shift of one sigma in one feature is one low message, a label flip one critical; recovery ends each once."""
    world = World()
    bundle(tmp_path / "models", world)
    window = {
        f"{kind}__WINDOW__{key}": value
        for kind in ("DRIFT", "PERFORMANCE")
        for key, value in (("ROWS", str(WINDOW)), ("HOURS", "0"))
    }
    with webhook() as receiver:
        settings = window | {"SERVING__ACTIVE": "story", "ALERTS__NOTIFY": f'["{receiver.url}"]'}
        with serving(tmp_path, models=tmp_path / "models", settings=settings) as service:
            world.live(service)
            world.live(service, shift=1.0)
            receiver.wait_for(1)
            world.live(service, shift=1.0, flipped=True)
            receiver.wait_for(2)
            world.live(service)
            receiver.wait_for(4)
            service.end(signal.SIGTERM)

    assert receiver.titles[:2] == ["[LOW] story 1: feature_drift", "[CRITICAL] story 1: accuracy_drop"]
    assert sorted(receiver.titles[2:]) == ["[RESOLVED] story 1: accuracy_drop", "[RESOLVED] story 1: feature_drift"]
