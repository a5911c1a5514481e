"""Retention deletes rows and keeps what was found out from them."""

from __future__ import annotations

from typing import Any

from app.store.database import Database
from app.store.queries import reports
from app.store.queries.labelled import read_error_stream, read_labelled
from app.store.queries.outcomes import Rules, Submission, record
from app.store.queries.predictions import insert
from app.store.retention import purge_chunks
from app.types import Micros, Outcome, Report
from tests.support.rows import prediction


def test_reports_outlive_their_rows(database: Database) -> None:
    """When every row is purged, the windows are empty, and each report and the history are as before."""
    bodies: list[Any] = [{"realised": {"coverage": number / 10}} for number in range(5)]
    made = [
        Report(f"r{number}", "performance", "m", "1", Micros(number), "ok", body) for number, body in enumerate(bodies)
    ]
    rules = Rules(lambda _schema, label: label, hold=False)
    with database.writer.begin() as connection:
        insert(connection, [prediction(f"p{number}", number) for number in range(100)])
        record(rules, connection, [Submission(Outcome(f"p{number}", 1), Micros(200)) for number in range(100)])
        for report in made:
            reports.save(connection, report)
    with database.writer.begin() as connection:
        gone = purge_chunks(connection, before=Micros(1_000), limit=1_000)
    with database.readers.connect() as connection:
        assert gone == 100
        assert read_labelled(connection, "m", "1", rows=100, hours=0).rows == 0
        assert read_error_stream(connection, "m", "1", most=100) == []
        assert list(reports.history(connection, "performance", "m", "1", limit=10)) == made
        assert reports.latest(connection, "performance", "m", "1") == made[-1]
