"""A month, simulated in parts: what it found so far lies beside its store, and the next part goes on from there."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic

from app.config.settings import Config
from app.types import Json
from benchmarks.months.arrivals import arrivals_of
from benchmarks.months.replay import Replay, watching
from benchmarks.months.stream import BEGIN, DAY, HOUR, NAME, Stream

DAYS = 30
TICK_ROWS = 50
"""Rows between two turns of the scheduler, on average: a check waits for twice as many."""


async def live(watch: Replay, stream: Stream, day: int) -> None:
    """Live through one day: rows and labels come, and whenever a check is due, it runs."""
    turns = round(24 * stream.rows_per_hour / TICK_ROWS)
    arrivals = [arrivals_of(stream, watch.bundle, each) for each in range(max(day - 2, 0), day + 1)]
    labels = [label for each in arrivals for label in each.labels]
    for start, end in pairwise(BEGIN + day * DAY + DAY * turn // turns for turn in range(turns + 1)):
        rows = [row for row in arrivals[-1].rows if start <= row.predicted_at < end]
        await watch.run_until(end, rows, [each for each in labels if start <= each.recorded_at < end])


def settings(folder: Path) -> Config:
    """The default settings with a store in a folder."""
    return Config.model_validate({"store": {"url": f"sqlite:///{folder / 'store.db'}"}})


@dataclass
class Month:
    """One month of one stream: days simulated, checks by kind, and what somebody was told.

    Attributes:
        told: each alert's rule, severity, message, hours after the beginning, and "firing" or "resolved".
    """

    seed: int
    rows_per_hour: float
    days: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    told: list[Json] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.rows_per_hour:g}-{self.seed}"

    @property
    def alerts(self) -> Sequence[Json]:
        """The alerts somebody was told."""
        return [each for each in self.told if each["event"] == "firing"]

    async def run(self, folder: Path, *, until: float) -> None:
        """Go on to the end of the month, or to the end of the day in which ``monotonic()`` passes ``until``.

        What is killed within a day cannot go on: its folder must go, and the month begins anew.
        """
        stream, place = Stream(self.seed, self.rows_per_hour), folder / self.name
        if not place.exists():
            stream.bundle(place)
        async with watching(settings(place), place / NAME / "1", now=BEGIN + self.days * DAY) as watch:
            while self.days < DAYS and monotonic() < until:
                await live(watch, stream, self.days)
                self._note(watch)
                (folder / f"{self.name}.json").write_text(json.dumps(vars(self)), encoding="utf-8")
        if self.days == DAYS:
            shutil.rmtree(place)

    def _note(self, watch: Replay) -> None:
        self.days += 1
        self.checks.update(report.kind for report in watch.reports)
        for change in watch.told:
            finding, after = change.alert.finding, (change.alert.changed_at - BEGIN) / HOUR
            about = {"rule": change.alert.rule, "severity": finding.severity, "message": finding.message}
            self.told.append(about | {"event": change.event, "hours": round(after, 1)})
        watch.reports.clear()
        watch.told.clear()


def known(folder: Path) -> list[Month]:
    """All months begun in a folder."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    return [Month(**(each | {"checks": Counter(each["checks"])})) for each in found]
