"""What one performance check of 100,000 labelled rows costs, read from SQLite: seconds and memory."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sqlalchemy import Connection
from sqlalchemy import insert as insert_into

from app.monitoring.performance.concept_drift import MAX_STREAM_ROWS
from app.monitoring.performance.degradation import Degradation
from app.monitoring.performance.report import performance_report
from app.monitoring.performance.scoring import Scored
from app.monitoring.reference.reference import Reference
from app.store.database import open_database
from app.store.migrate import upgrade
from app.store.queries.labelled import read_error_stream, read_labelled
from app.store.queries.predictions import insert
from app.store.tables import OUTCOMES
from app.types import SECOND, Answer, Micros, Prediction
from benchmarks.performance.populations import BINARY, binary

ROWS = 100_000


def fill(url: str, rows: Scored) -> None:
    """Store these rows, one a second, each with its outcome."""
    database = open_database(url)
    upgrade(database.writer)
    assert rows.probabilities is not None  # noqa: S101 - the population is binary
    answers = list(zip(rows.predictions.tolist(), rows.probabilities.tolist(), rows.outcomes.tolist(), strict=True))
    for start in range(0, rows.rows, 5_000):
        with database.writer.begin() as connection:
            part = list(enumerate(answers[start : start + 5_000], start))
            insert(connection, [_prediction(row, said, tuple(shares)) for row, (said, shares, _) in part])
            connection.execute(insert_into(OUTCOMES), [_outcome(row, truth) for row, (_, _, truth) in part])
    database.close()


def check(url: str, reference: Reference) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and MiB that a check takes in a process that has run one before."""
    database = open_database(url)
    gc.disable()  # as in the process of the checks
    with database.readers.connect() as connection:
        _run(connection, reference, 1_000)
        memory, started, worked = _memory(), time.perf_counter(), time.process_time()
        _run(connection, reference, ROWS)
        taken = time.perf_counter() - started, time.process_time() - worked, _memory() - memory
    database.close()
    return taken


def measure() -> tuple[float, float, float]:
    """Run this module in a process of its own, whose memory nothing else has touched."""
    command = [sys.executable, "-m", "benchmarks.performance.cost"]
    seconds, processor, mebibytes = map(float, subprocess.check_output(command, text=True).split())
    return seconds, processor, mebibytes


def main() -> None:
    """Fill a store and check it once; print what it took."""
    rng = np.random.default_rng(1)
    rows = binary(rng, 10_000)
    reference = Reference(BINARY, [], rows.predictions, rows.probabilities, rows.outcomes, sha256="made")
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'store.db'}"
        fill(url, binary(rng, ROWS))
        print(*check(url, reference))


def _run(connection: Connection, reference: Reference, rows: int) -> None:
    window = read_labelled(connection, "m", "1", rows=rows, hours=0)
    stream = read_error_stream(connection, "m", "1", most=MAX_STREAM_ROWS)
    performance_report(BINARY, reference, window, Degradation(), now=Micros(10**9 * SECOND), stream=stream)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _prediction(row: int, said: int, shares: tuple[float, ...]) -> Prediction:
    return Prediction(
        f"row-{row}",
        "m",
        "1",
        [1.5, "web", 3],
        Answer(said, shares),
        Micros(row * SECOND),
        latency_us=7,
        request_id="r",
    )


def _outcome(row: int, truth: int) -> dict[str, object]:
    at = row * SECOND + SECOND // 2
    return {"prediction_id": f"row-{row}", "revision": 1, "outcome": str(truth), "value": 1.5, "recorded_at": at}


if __name__ == "__main__":
    main()
