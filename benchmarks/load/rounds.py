"""The quick scenarios, in rounds: each server takes its turn in each, so that a slow minute hits all alike."""

from __future__ import annotations

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.load.bodies import OUTCOME, bulk_body, example_body, live_rows, own_id_body
from benchmarks.load.closed_loop import Figures, Loader
from benchmarks.scenarios.disk import executemany_rate, fsync_ms, stored
from benchmarks.servers.processes import EXAMPLE, MODELS, bare, on_server_core, plumbline, post
from tests.support.processes import Postgres, launch

MANY = 64
"""Connections of a busy service."""
BULK_ROWS = 1000
BULK_CONNECTIONS = 4
WARM_S = 1.0
KEY = "benchmark-key-of-no-other-use"
WHOLE = ("trace", "order")
"""What differs from request to request, beside the id of the body: see ``post.lua``."""
FASTEST = 1.0
"""A share of the floor's rate that outcomes will not reach: for so many there are predictions."""


def keyed_settings() -> dict[str, str]:
    """Settings of a service that knows :data:`KEY`."""
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    return {"AUTH__KEYS": json.dumps([{"name": "bench", "sha256": hashed, "scopes": ["admin"]}])}


@dataclass(slots=True)
class Measured:
    """One value a round, by what was measured."""

    loads: defaultdict[tuple[str, int], list[Figures]] = field(default_factory=lambda: defaultdict(list))
    fsync_p50_ms: list[float] = field(default_factory=list)
    fsync_p99_ms: list[float] = field(default_factory=list)
    executemany: list[float] = field(default_factory=list)
    row_bytes: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    start_s: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Rounds:
    """Measures into ``measured``; ``folder`` lies on the disk of the stores, ``models`` holds the further bundles."""

    folder: Path
    models: Path
    loader: Loader
    seconds: float
    postgres: Postgres
    measured: Measured = field(default_factory=Measured)

    def run(self, number: int) -> None:
        """One round."""
        p50, p99 = fsync_ms(self.folder)
        self.measured.fsync_p50_ms.append(p50)
        self.measured.fsync_p99_ms.append(p99)
        single = self._file("single.json", example_body())
        for name in ("floor", "plain"):
            with bare(name) as (port, _):
                self._load(name, port, single, MANY, 1)
        self._whole()
        with plumbline(self.folder) as (service, url):
            self._load("plumbline", service.port, single, MANY, 1)
            service.process.kill()
            service.process.wait()
            self.measured.row_bytes["sqlite"].append(stored(url)[1])
            with on_server_core():
                rate = executemany_rate(url, self._place(f"bare-{number}"), groups=round(20 * self.seconds))
            self.measured.executemany.append(rate)
        for name in ("forest", "boosting"):
            with plumbline(self.folder, models=self.models, active=name) as (service, _):
                self._load(name, service.port, single, MANY)
        with plumbline(self.folder, store=self.postgres.create_database(f"round{number}")) as (service, url):
            self._load("postgresql", service.port, single, MANY, 1)
            self.measured.row_bytes["postgresql"].append(stored(url)[1])
        bulk = self._file("bulk.json", bulk_body(live_rows(MODELS / EXAMPLE / "1", BULK_ROWS)))
        with plumbline(self.folder) as (service, _):
            self._load("bulk", service.port, bulk, BULK_CONNECTIONS, 1)
        self._outcomes()

    def start(self) -> None:
        """One start on an empty store, from exec to the first 200 of /health/ready."""
        place = self._place(f"start-{len(self.measured.start_s)}")
        with on_server_core():
            started = time.perf_counter()
            service = launch(place, models=MODELS)
        service.wait_ready()
        self.measured.start_s.append(time.perf_counter() - started)
        service.process.kill()
        service.process.wait()

    def _whole(self) -> None:
        """The request that people send: a key, an id of the caller's, a trace, and features by name."""
        body = self._file("whole.json", own_id_body())
        with bare("floor") as (port, _):
            self._load("floor, whole request", port, body, MANY, key=KEY, varying=WHOLE)
        with plumbline(self.folder, settings=keyed_settings(), key=KEY) as (service, _):
            self._load("whole request", service.port, body, MANY, key=KEY, varying=WHOLE)

    def _outcomes(self) -> None:
        """Outcomes of predictions that are stored, each once."""
        rate = FASTEST * self.measured.loads["floor", MANY][-1].rate
        bodies = round(rate * (self.seconds + WARM_S) / BULK_ROWS) + 2
        rows = live_rows(MODELS / EXAMPLE / "1", BULK_ROWS)
        with plumbline(self.folder) as (service, _):
            for body in range(bodies):
                post(service.port, "/predict", bulk_body(rows, [f"{body}-{row}" for row in range(BULK_ROWS)]))
            first = round(bodies * WARM_S / (self.seconds + WARM_S)) or 1
            self._tell(service.port, range(first), WARM_S)
            self._note("outcome", MANY, self._tell(service.port, range(first, bodies), self.seconds))

    def _tell(self, port: int, bodies: range, seconds: float) -> Figures:
        """Load `/outcome` with the predictions of some bodies."""
        ids = self._file("ids", "".join(f"{body}-{row}\n" for body in bodies for row in range(BULK_ROWS)).encode())
        template = self._file("outcome.json", OUTCOME)
        return self.loader.run(port, template, connections=MANY, seconds=seconds, path="/outcome", ids=ids)

    def _load(
        self, name: str, port: int, body: Path, *connections: int, key: str = "", varying: Sequence[str] = ()
    ) -> None:
        """Warm a server up, then measure it at each number of connections."""
        self.loader.run(port, body, connections=connections[0], seconds=WARM_S, key=key, varying=varying)
        for number in connections:
            figures = self.loader.run(port, body, connections=number, seconds=self.seconds, key=key, varying=varying)
            self._note(name, number, figures)

    def _note(self, name: str, connections: int, figures: Figures) -> None:
        self.measured.loads[name, connections].append(figures)
        print(f"{name:20} {connections:3} connections  {figures.rate:8.0f}/s  p99 {figures.p99_ms:.2f} ms", flush=True)

    def _file(self, name: str, content: bytes) -> Path:
        file = self.folder / name
        file.write_bytes(content)
        return file

    def _place(self, name: str) -> Path:
        place = self.folder / name
        place.mkdir()
        return place
