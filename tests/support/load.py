"""What every fault test does: load a service with numbered predictions, and compare acknowledgements with the store."""

from __future__ import annotations

import asyncio
import csv
import itertools
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.driver import Load, drive, request_bytes
from tests.support.deadlines import DEADLINE_S, until

CLIENTS = 64


def live_row(models: Path) -> dict[str, float]:
    """The example's first live row, by the names of its features."""
    with (models / "breast_cancer" / "1" / "live.csv").open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    return {name: float(value) for name, value in row.items() if name != "outcome"}


def predict_requests(models: Path) -> Callable[[str], bytes]:
    """A maker of `/predict` requests: one row under a given id."""
    features = live_row(models)
    return lambda identity: request_bytes(
        "/predict", json.dumps({"features": features, "prediction_id": identity}).encode()
    )


def outcome_request(identity: str) -> bytes:
    """A `/outcome` request about a given id."""
    return request_bytes("/outcome", json.dumps({"prediction_id": identity, "outcome": "benign"}).encode())


def batch(models: Path, prefix: object, rows: int = 200) -> dict[str, object]:
    """The body of a `/predict` request for many rows."""
    ids = [f"{prefix}-{number}" for number in range(rows)]
    return {"instances": [live_row(models)] * rows, "prediction_ids": ids}


def quick_settings(**more: str) -> dict[str, str]:
    """Settings for a fault test: no check disturbs the journal, and an outage is a refusal."""
    return {"DRIFT__EVERY": "1d", "PERFORMANCE__EVERY": "1d", "STORE__ON_OUTAGE": "reject", **more}


def numbered(prefix: str) -> Iterator[str]:
    """Ids that never repeat within a test."""
    return (f"{prefix}-{number}" for number in itertools.count())


@dataclass(slots=True)
class Run:
    """What the clients saw; ``load`` is filled when the load has ended."""

    notes: Path
    load: Load = field(default_factory=Load)

    @property
    def acknowledged(self) -> list[str]:
        """The ids that a client saw answered with 200."""
        return self.notes.read_text(encoding="ascii").split()

    async def more(self, number: int = 2 * CLIENTS) -> None:
        """Wait until so many more are acknowledged.

        Twice as many as there are clients include some that were asked for after the call.
        """
        wanted = len(self.acknowledged) + number
        await until(lambda: len(self.acknowledged) >= wanted)


@asynccontextmanager
async def under_load(
    port: int, notes: Path, build: Callable[[str], bytes], *, clients: int = CLIENTS
) -> AsyncIterator[Run]:
    """Keep clients on a port while the block runs; ``notes`` takes acknowledged ids, which begin with its name."""
    run = Run(notes)
    stop = asyncio.Event()
    with notes.open("w", buffering=1, encoding="ascii") as acknowledged:
        driving = asyncio.create_task(
            drive(
                port,
                numbered(notes.stem),
                build,
                connections=clients,
                seconds=10 * DEADLINE_S,
                stop=stop,
                acknowledged=acknowledged,
            )
        )
        try:
            yield run
        finally:
            stop.set()
            run.load = await driving


def stored_in_sqlite(file: Path, table: str = "predictions") -> set[str]:
    """The ids in a table of a SQLite store that no process has open, once its file is found sound."""
    with closing(sqlite3.connect(file)) as connection:
        if (verdict := connection.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
            raise AssertionError(f"{file}: {verdict}")
        return {identity for (identity,) in connection.execute(f"SELECT prediction_id FROM {table}")}  # noqa: S608 - a table of ours


def ledger(metrics: str) -> tuple[float, float]:
    """Rows accepted, and rows accounted for (stored, forwarded, failed, queued or spooled), from `/metrics`."""
    accepted = accounted = 0.0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            match sample.name, sample.labels.get("state"):
                case "ml_journal_rows_total", "accepted":
                    accepted += sample.value
                case "ml_journal_rows_total", "stored" | "forwarded":
                    accounted += sample.value
                case "ml_journal_failed_rows_total" | "ml_journal_queue_rows" | "ml_journal_spooled_rows", _:
                    accounted += sample.value
    return accepted, accounted
