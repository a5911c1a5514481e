"""A store that a release has left behind, opened by the code of today: what its checks say of it now."""

from __future__ import annotations

import asyncio
import json
import lzma
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from pathlib import Path

from app.config.loader import load_config
from app.config.settings import Config
from app.monitoring.check_request import Check
from app.monitoring.checks import run_check
from app.monitoring.reference.reference import Reference, load_reference
from app.monitoring.worker import Worker
from app.reports.drift import DriftReport
from app.reports.performance import PerformanceReport
from app.serving.bundle.reader import read_bundle
from app.store.database import Connection, open_database, open_readers
from app.store.migrate import upgrade
from app.store.queries.reports import history
from app.types import SECOND, Json, Micros, ModelSchema, Role
from tests.support.application import client_of
from tests.support.release.fixed_clock import FixedClock

FIXTURES = Path(__file__).parents[2] / "fixtures"
RECEIVER_PORT = 18_765
"""Where messages go while a store is made. A channel's name depends on its URL, so the port never changes."""
ENVIRONMENT = {
    "CHANNEL": f"json://127.0.0.1:{RECEIVER_PORT}/hook",
    "RETRAIN": f"http://127.0.0.1:{RECEIVER_PORT}/retrain",
}
CUT = (
    "DELETE FROM predictions WHERE predicted_at > :now",
    "DELETE FROM shadow_predictions WHERE predicted_at > :now",
    "DELETE FROM outcomes WHERE recorded_at > :now",
)
"""Make the store what it was at a moment: its predictions and outcomes are only ever added."""
ALERTS = """
    SELECT rule, model_version, severity, state, since, changed_at, held, told_at, acknowledged_at FROM alerts
    WHERE model_name = ? ORDER BY since, rule
"""
MESSAGES = (
    "SELECT channel, event, body FROM outbox WHERE created_at = ? ORDER BY channel, json_extract(body, '$.title')"
)


@dataclass(frozen=True)
class Look:
    """One check of one version at one moment."""

    kind: str
    model_name: str
    model_version: str
    role: Role
    now: Micros


@dataclass(frozen=True)
class Release:
    """A fixture: ``store.db.xz``, the bundles and configurations of its models, and what the checks said."""

    folder: Path

    @property
    def reports(self) -> Path:
        """The folder of the expected reports, a file for each look."""
        return self.folder / "reports"

    @property
    def next_looks(self) -> Path:
        """The folder of what the next check of a model leads to, a file for each model."""
        return self.folder / "next"

    def config(self, model: str, store: Path) -> Config:
        """The configuration under which a model was served, for a store in another place."""
        places = {"STORE__URL": f"sqlite:///{store}", "SERVING__MODELS": str(self.folder / "models")}
        environ = {f"PLUMBLINE__{name}": value for name, value in places.items()} | ENVIRONMENT
        return load_config(self.folder / f"{model}.yaml", environ)

    def unpack(self, store: Path) -> None:
        """Write the store to a file, as the release left it."""
        store.write_bytes(lzma.decompress((self.folder / "store.db.xz").read_bytes()))

    def looks(self, store: Path) -> list[Look]:
        """All looks whose reports the store holds."""
        columns = "kind, model_name, model_version, json_extract(body, '$.role'), checked_at"
        with closing(sqlite3.connect(store)) as connection:
            rows = connection.execute(f"SELECT {columns} FROM reports ORDER BY checked_at, report_id")  # noqa: S608 - a constant
            return [Look(*row) for row in rows]

    def path_of(self, look: Look) -> Path:
        """The file of the expected report of a look."""
        moment = datetime.fromtimestamp(look.now // SECOND, UTC).strftime("%Y%m%dT%H%M%SZ")
        return self.reports / f"{look.model_name}-{look.model_version}-{look.kind}-{moment}.json"


def migrate(store: Path) -> None:
    """Bring a store to the schema of today."""
    database = open_database(f"sqlite:///{store}")
    try:
        upgrade(database.writer)
    finally:
        database.close()


def cut_to(store: Path, now: Micros) -> None:
    """Take all predictions and outcomes out of a store that came after a moment."""
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("PRAGMA synchronous=OFF")
        for statement in CUT:
            connection.execute(statement, {"now": now})


def repeat_look(release: Release, store: Path, look: Look) -> Json:
    """Make a look again, in a store that was cut to its moment; the expected file has the same form."""
    config = release.config(look.model_name, store)
    folder = release.folder / "models" / look.model_name / look.model_version
    version = (look.kind, look.model_name, look.model_version)
    with _reading(store) as connection:
        earlier = history(connection, *version, end=look.now, newest_first=True, failed=False, limit=1)
    before = earlier[0] if earlier else None
    schema, _ = _reference(folder)
    check = Check(look.kind, schema, folder, config.drift, config.performance, look.now, before, look.role)
    return {"look": asdict(look), "report": _run(check, store)}


class SameProcessWorker(Worker):
    """Runs checks in this process: a process of the lowest priority waits for minutes beside other tests."""

    def __init__(self, store: Path) -> None:
        super().__init__(f"sqlite:///{store}")
        self._store = store

    async def run(self, check: Check) -> DriftReport | PerformanceReport:
        """Give the body of the report."""
        return await asyncio.to_thread(_run, check, self._store)


def make_next_look(release: Release, store: Path, model: str, now: Micros) -> Json:
    """Let the service of a model make its next checks at a moment: its reports, alerts and messages."""
    clock, worker = FixedClock(now), SameProcessWorker(store)
    with clock.installed(), client_of(release.config(model, store), worker) as client:
        made = client.post("/checks").raise_for_status().json()["reports"]
        reports = {each["kind"]: client.get(f"/reports/{each['report_id']}").json() for each in made}
        shown = client.get("/alerts").json()
    return {
        "now": now,
        "reports": reports,
        "alerts": sorted(shown["alerts"], key=itemgetter("since", "rule")),  # else some follow their ids
        "recommendations": shown["recommendations"],
        "stored_alerts": _select(store, ALERTS, model),
        "messages": [_message(row) for row in _select(store, MESSAGES, now)],
    }


def _select(store: Path, statement: str, parameter: object) -> list[Json]:
    """Read rows as JSON objects."""
    with closing(sqlite3.connect(store)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(statement, (parameter,))]


def _message(row: Json) -> Json:
    """Decode a message; of its text only the first line is kept, since the rest quotes the playbook."""
    body = json.loads(row["body"])
    return row | {"body": body | {"text": body["text"].splitlines()[0]} if "text" in body else body}


def _run(check: Check, store: Path) -> DriftReport | PerformanceReport:
    with _reading(store) as connection:
        return run_check(check, connection, _reference(check.folder)[1])


@contextmanager
def _reading(store: Path) -> Iterator[Connection]:
    engine = open_readers(f"sqlite:///{store}", snapshots=False)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@lru_cache
def _reference(folder: Path) -> tuple[ModelSchema, Reference]:
    schema = read_bundle(folder).schema
    return schema, load_reference(folder, schema)
