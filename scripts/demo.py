"""A week of a service in three minutes, and the page on it: ``python -m scripts.demo``.

Real flights of the example go through the real journal, checks and alert rules; only the clock of the store is
simulated. Two sensors fail on the second day, outcomes are wrong on the fifth, and both recover. Then the service
begins on that store, with live traffic, until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
import webbrowser
from argparse import ArgumentParser
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import structlog

from app.commands.simulation.drift import DriftKind, Sample, changed, plan_drift, read_samples
from app.commands.tables.dialect import Dialect
from app.config.settings import Config
from app.serving.bundle.reader import Bundle
from app.store.queries.outcomes import Revision
from app.store.tables import to_text
from app.types import SECOND, Micros, Prediction
from benchmarks.months.replay import Replay, watching
from benchmarks.months.stream import HOUR
from scripts.serve import LOOK_EVERY_S, is_ready

DAYS = 7
TURN_H = 2
"""Hours between two checks."""
ROWS_PER_HOUR = 120
LABEL_DELAY_H = 4


@dataclass(frozen=True, slots=True)
class Chapter:
    """Something that goes wrong between two hours of the week."""

    title: str
    first_hour: int
    last_hour: int
    kind: DriftKind
    amount: float
    features: tuple[str | None, ...] = (None,)

    def holds(self, hour: float) -> bool:
        """Whether it goes wrong at this hour."""
        return self.first_hour <= hour < self.last_hour


STORY = (
    Chapter("two sensors read too high", 28, 50, DriftKind.SHIFT, 1.0, ("temp", "wind_speed")),
    Chapter("four of ten outcomes are wrong", 94, 116, DriftKind.LABEL_FLIP, 0.4),
)


def main() -> None:
    """Replay the week, then serve it."""
    parser = ArgumentParser(description=__doc__, prog="python -m scripts.demo")
    parser.add_argument("--models", type=Path, default=Path("models"), help="folder of bundles")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--folder", type=Path, default=Path(".cache", "demo"), help="of the store, which is made anew")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    for file in chosen.folder.glob("store.db*"):
        file.unlink()
    store = f"sqlite:///{chosen.folder.resolve() / 'store.db'}"
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for line in asyncio.run(replay(store, chosen.models / "flights" / "1", now=time.time())):
        print(line, flush=True)
    serve(store, chosen.models, chosen.port)


async def replay(store: str, folder: Path, *, now: float) -> list[str]:
    """Let the week before ``now`` pass over a store, and give a line on each alert that began or ended."""
    hours = 24 * DAYS
    begin = round(now * SECOND) - hours * HOUR
    every = {"every": f"{TURN_H}h"}
    config = Config.model_validate({"store": {"url": store}, "drift": every, "performance": every})
    async with watching(config, folder, now=begin) as watch:
        week = Week(watch.bundle, begin, np.random.default_rng(DAYS))
        for start, stop in pairwise(range(0, hours + 1, TURN_H)):
            rows, labels = week.between(start, stop)
            await watch.run_until(begin + stop * HOUR, rows, labels)
            print(f"\rhour {stop} of {hours}", end="" if stop < hours else "\n", file=sys.stderr, flush=True)
        return _story(watch, begin)


class Week:
    """The rows of the example's live data in order, each with its answer, and the outcomes that follow later."""

    def __init__(self, bundle: Bundle, begin: int, rng: np.random.Generator) -> None:
        schema = bundle.schema
        classes = tuple(schema.classes)
        self._bundle, self._begin, self._rng = bundle, begin, rng
        live = bundle.folder / "live.csv"
        self._samples, _ = read_samples(live, schema.features, classes, "outcome", Dialect.of(None, None, None))
        self._drifts = {
            chapter: [
                plan_drift(
                    chapter.kind, self._samples, schema.features, classes, from_row=0, amount=chapter.amount, name=name
                )
                for name in chapter.features
            ]
            for chapter in STORY
        }
        self._place = 0
        self._labels: list[Revision] = []

    def between(self, start: int, stop: int) -> tuple[list[Prediction], list[Revision]]:
        """The rows and the outcomes that come between two hours of the week."""
        hours = np.sort(self._rng.uniform(start, stop, self._rng.poisson(ROWS_PER_HOUR * (stop - start))))
        schema = self._bundle.schema
        samples = [self._sample(hour, place) for place, hour in enumerate(hours.tolist(), self._place)]
        features = [tuple(sample.features[feature.name] for feature in schema.features) for sample in samples]
        answers = self._bundle.estimator.predict(features)
        rows = []
        for hour, sample, row, answer in zip(hours.tolist(), samples, features, answers, strict=True):
            at, name = self._begin + round(hour * HOUR), f"flight-{self._place}"
            known_at = Micros(at + LABEL_DELAY_H * HOUR)
            rows.append(Prediction(name, schema.name, schema.version, row, answer, Micros(at), 0, "demo"))
            self._labels.append(Revision(name, 1, to_text(sample.outcome), None, None, known_at, None))
            self._place += 1
        due = [label for label in self._labels if label.recorded_at < self._begin + stop * HOUR]
        self._labels = self._labels[len(due) :]
        return rows, due

    def _sample(self, hour: float, place: int) -> Sample:
        sample = self._samples[place % len(self._samples)]
        for chapter in STORY:
            if chapter.holds(hour):
                for drift in self._drifts[chapter]:
                    sample = changed(sample, drift, self._rng)
        return sample


def _story(watch: Replay, begin: int) -> list[str]:
    """What went wrong, and what the service said, in order of time."""
    told = [
        (change.alert.changed_at, f"{change.event:9} {change.alert.rule}: {change.alert.finding.message}")
        for change in watch.told
    ]
    wrong = [
        (begin + hour * HOUR, f"{word:9} {chapter.title}")
        for chapter in STORY
        for word, hour in (("BEGINS", chapter.first_hour), ("ENDS", chapter.last_hour))
    ]
    return [f"{_moment(at)}  {text}" for at, text in sorted([*told, *wrong])]


def _moment(at: int) -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).strftime("%a %d %b %H:%M UTC")


def serve(store: str, models: Path, port: int) -> None:
    """Serve the store with live traffic, until Ctrl-C."""
    names = {"STORE__URL": store, "SERVING__MODELS": str(models), "SERVING__ACTIVE": "flights", "SERVER__PORT": port}
    environ = os.environ | {f"PLUMBLINE__{name}": str(value) for name, value in names.items()}
    program, address = [sys.executable, "-m", "app"], f"http://127.0.0.1:{port}"
    service = subprocess.Popen([*program, "serve"], env=environ)
    try:
        while not is_ready("127.0.0.1", port):
            if service.poll() is not None:
                sys.exit(service.returncode)
            time.sleep(LOOK_EVERY_S)
        page = f"{address}/dashboard?range=7d"
        print(f"\nThe week is at {page}, and live traffic follows. Ctrl-C ends both.\n", flush=True)
        if sys.stdout.isatty():
            webbrowser.open(page)
        live = ["simulate", "--url", address, "--models", str(models), "--rate", "2", "--rows", "1000000"]
        traffic = subprocess.Popen([*program, *live], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with suppress(KeyboardInterrupt):
            service.wait()
        traffic.terminate()
        traffic.wait()
    finally:
        service.terminate()
        service.wait()


def _end(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _end)  # a shell may have started this to ignore it
    signal.signal(signal.SIGTERM, _end)
    with suppress(KeyboardInterrupt):
        main()
