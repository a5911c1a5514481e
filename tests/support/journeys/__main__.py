"""Print which files of the application a request or a check runs through: ``python -m tests.support.journeys``.

The real ``plumbline serve`` runs in this process, and its checks in the process that it forks; another process sends
the requests. A function counts if it runs in most repetitions of a journey on a warm service, so neither start-up nor
chance counts. What an idle service does is no part of a journey. A check takes long, and whatever works by itself does
so meanwhile: of a check only those calls count that an idle service does not make, with all that leads to them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from itertools import chain, groupby
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import yaml
from sqlalchemy import Connection, event
from sqlalchemy.engine import Engine

from app.cli import main as run_command
from app.types import Json
from tests.support.deadlines import DEADLINE_S, wait_until
from tests.support.journeys.call_recorder import Call, CallRecorder
from tests.support.processes import free_port
from tests.support.raw_client import post, replies
from tests.support.release.histories import CREDIT
from tests.support.release.release_store import FIXTURES

REQUESTS = ("predict", "predict with an id", "outcome")
CHECK = "drift check"
IDLE, PULSE = "idle", "pulse"
REPETITIONS = dict.fromkeys(REQUESTS, 9) | {CHECK: 3, IDLE: 1, PULSE: 1}
SECTIONS = [name for name, times in REPETITIONS.items() for _ in range(times)]
"""What is recorded; a section has its place here, from 1 on, as its number."""
IDLE_S = 3.0
"""Longer than the pause of any task that looks for work, but for the pulse, which follows a request in ten seconds."""
LEASES = ("monitor", "watch")
TAIL_S = 0.02
"""What a request leaves to do behind its answer."""
WARM_REQUESTS = 3
ROWS = 120
ROW = {"income": 30000.0, "age": 40, "channel": "web", "member": True, "balance": 10.0, "branch": 7}
EVERY_S = 1.0


@dataclass(frozen=True)
class Journey:
    """What one journey runs through.

    Attributes:
        files: under ``app/``, sorted, each with the functions that run.
        functions: how many different ones.
        processes: in how many processes.
    """

    files: Mapping[str, Sequence[str]]
    functions: int
    processes: int


def record_journeys(folder: Path) -> dict[str, Journey]:
    """Run the service in ``folder`` until all journeys are recorded; it must not have run in this process before."""
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_settings(folder, port)), encoding="utf-8")
    recorder = CallRecorder(folder / "calls")
    driver = get_context("fork").Process(target=_drive, args=(recorder, folder, port))
    driver.start()  # before any thread
    recorder.install()
    _end_at_outbox(recorder)
    with (
        patch("os.nice"),  # a check of the lowest priority waits for minutes beside a busy test run
        patch.object(sys, "argv", ["plumbline", "serve", "--config", str(config)]),
        _standard_output_to(folder / "log"),
        suppress(SystemExit),
    ):
        run_command()
    driver.join()
    if driver.exitcode:
        raise RuntimeError(f"the requests failed; the service wrote\n{(folder / 'log').read_text(encoding='utf-8')}")
    return summarise(recorder.calls())


def summarise(calls: Sequence[Call]) -> dict[str, Journey]:
    """Tell what belongs to each journey."""
    sections: defaultdict[str, list[set[Call]]] = defaultdict(list)
    by_number: defaultdict[int, set[Call]] = defaultdict(set)
    for call in calls:
        by_number[call.section].add(call._replace(section=0))
    for number, name in enumerate(SECTIONS, start=1):
        sections[name].append(by_number[number])
    idle, pulse = sections[IDLE][0], sections[PULSE][0]
    found = {name: _journey([_of_request(calls, idle) for calls in sections[name]]) for name in REQUESTS}
    return found | {CHECK: _journey([calls - idle - pulse for calls in sections[CHECK]])}


def _of_request(calls: AbstractSet[Call], idle: AbstractSet[Call]) -> set[Call]:
    """Leave out the tasks and the timers that work in an idle service, too."""
    periodic = {call.path[0] for call in idle if call.in_task or call.path[0].name.startswith("StallMeter.")}
    return {call for call in calls if call.path[0] not in periodic}


def _journey(repetitions: Sequence[AbstractSet[Call]]) -> Journey:
    """Count the functions on the paths that most repetitions take."""
    times = Counter(chain(*repetitions))
    common = [call for call, number in times.items() if number > len(repetitions) / 2]
    functions = sorted({function for call in common for function in call.path})
    files = {file: [each.name for each in group] for file, group in groupby(functions, attrgetter("file"))}
    return Journey(files, len(functions), len({call.process for call in common}))


def _settings(folder: Path, port: int) -> Json:
    return {
        "server": {"port": port, "deadline": "1h"},
        "serving": {"models": str(FIXTURES / "store-0.1.0" / "models"), "active": "credit/1"},
        "store": {"url": f"sqlite:///{folder / 'store.db'}"},
        "drift": {"every": f"{EVERY_S:g}s", "window": {"rows": ROWS, "hours": 0}},
        "performance": {"every": "1d"},
        "alerts": {"notify": ["json://127.0.0.1:9/"]},  # where nobody listens
    }


def _end_at_outbox(recorder: CallRecorder) -> None:
    """End the journey of a check with the transaction that stores a message."""

    def look(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO outbox"):
            connection.info["has_message"] = True

    def end(connection: Connection) -> None:
        if connection.info.pop("has_message", False):
            recorder.end()

    event.listen(Engine, "before_cursor_execute", look)
    event.listen(Engine, "commit", end)


@contextmanager
def _standard_output_to(log: Path) -> Iterator[None]:
    """Send what this process and those that it forks write to standard output to a file."""
    sys.stdout.flush()
    kept = os.dup(1)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _drive(recorder: CallRecorder, folder: Path, port: int) -> None:
    """Send all requests, then stop the service."""
    try:
        _Driver(recorder, folder, port).run()
    finally:
        os.kill(os.getppid(), signal.SIGTERM)


class _Driver:
    """Sends requests to the service, and says to the recorder when a journey begins and ends."""

    def __init__(self, recorder: CallRecorder, folder: Path, port: int) -> None:
        self._recorder = recorder
        self._store = folder / "store.db"
        self._rng = np.random.default_rng(3)
        self._begun: Counter[str] = Counter()
        self._port = port
        self._ids = 0

    def run(self) -> None:
        """Run all sections in their order."""
        wait_until(self._is_ready)
        with (
            closing(sqlite3.connect(self._store, isolation_level=None, timeout=DEADLINE_S)) as self._sql,
            socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE_S) as self._connection,
        ):
            self._hold_leases()
            self._repeat("predict", self._plain_prediction)
            self._repeat("predict with an id", self._chosen_prediction)
            self._repeat("outcome", self._outcome)
            self._predict_many(shift=0.0)
            self._post("/checks", {})  # loads all that a check needs
            with self._recorder.recording(self._next(IDLE)):
                time.sleep(IDLE_S)
            with self._recorder.recording(self._next(PULSE)):
                self._sql.execute("DELETE FROM pulses")
                self._post(*self._plain_prediction())
                wait_until(lambda: bool(self._sql.execute("SELECT count(*) FROM pulses").fetchone()[0]))
                time.sleep(EVERY_S)
            for _ in range(REPETITIONS[CHECK]):
                self._check()

    def _repeat(self, name: str, prepare: Callable[[], tuple[str, Json]]) -> None:
        for _ in range(WARM_REQUESTS):
            self._post(*prepare())
        for _ in range(REPETITIONS[name]):
            request = prepare()
            time.sleep(TAIL_S)
            with self._recorder.recording(self._next(name)):
                self._post(*request)
                time.sleep(TAIL_S)

    def _plain_prediction(self) -> tuple[str, Json]:
        return "/predict", {"features": ROW}

    def _chosen_prediction(self) -> tuple[str, Json]:
        return "/predict", {"features": ROW, "prediction_id": self._new_id()}

    def _outcome(self) -> tuple[str, Json]:
        path, body = self._chosen_prediction()
        self._post(path, body)
        return "/outcome", {"prediction_id": body["prediction_id"], "outcome": "good"}

    def _check(self) -> None:
        """Let the scheduler find drifted rows that nobody has been told of, and wait for the message."""
        self._hold_leases()
        self._sql.execute("DELETE FROM outbox")
        self._sql.execute("DELETE FROM alerts")
        self._predict_many(shift=1.5)
        time.sleep(EVERY_S)
        self._recorder.begin(self._next(CHECK))
        self._sql.execute("UPDATE leases SET until = 0 WHERE name = 'monitor'")
        wait_until(lambda: not self._recorder.section)

    def _hold_leases(self) -> None:
        """Let nobody check or judge the service: the leases belong to a replica that is not there."""
        for name in LEASES:
            self._sql.execute("INSERT OR REPLACE INTO leases VALUES (?, 'elsewhere', ?, 1)", (name, 2**62))

    def _predict_many(self, *, shift: float) -> None:
        self._post("/predict", {"instances": self._rows(ROWS, shift=shift)})

    def _rows(self, number: int, **changes: float) -> list[Json]:
        rows = CREDIT.draw(self._rng, CREDIT.start + np.zeros(number, dtype=np.int64), missing=0.0, **changes)
        return json.loads(rows.drop(columns="y").to_json(orient="records"))  # type: ignore[no-any-return]

    def _new_id(self) -> str:
        self._ids += 1
        return f"row-{self._ids:04d}"

    def _next(self, name: str) -> int:
        number = SECTIONS.index(name) + 1 + self._begun[name]
        self._begun[name] += 1
        return number

    def _is_ready(self) -> bool:
        with suppress(OSError), closing(HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)) as client:
            client.request("GET", "/health/ready")
            return client.getresponse().status == HTTPStatus.OK
        return False

    def _post(self, path: str, body: Json) -> None:
        """Send a request in one packet, with the same head as the one before where bodies are of one length."""
        self._connection.sendall(post(json.dumps(body).encode(), target=path.encode()))
        reply = replies(self._connection, 1)[0]
        if reply.status != HTTPStatus.OK:
            raise RuntimeError(f"{path} gives {reply.status}: {reply.body.decode()}")


def main() -> None:
    """Print every journey."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        found = record_journeys(Path(folder))
    if options.json:
        sys.stdout.write(json.dumps({name: asdict(journey) for name, journey in found.items()}))
        return
    for name, journey in found.items():
        files = "".join(f"    {file}: {', '.join(names)}\n" for file, names in journey.files.items())
        sys.stdout.write(f"{name}: {len(journey.files)} files, {journey.functions} functions\n{files}\n")


if __name__ == "__main__":
    main()
