"""A check, from the store to its report."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import text

from app.config.settings import AbsentMeans, Drift, Performance
from app.monitoring.check_request import Check
from app.monitoring.checks import run_check
from app.store.database import Database, Throttle, open_database, open_readers
from app.store.migrate import upgrade
from app.store.queries.outcomes import Rules, Submission, record
from app.store.queries.predictions import insert
from app.types import SECOND, Answer, Micros, ModelSchema, Outcome, Prediction, Report
from tests.monitoring.conftest import Draw, MakeReference
from tests.support.monitoring.unlabelled_windows import BINARY, reference, sample

LABELLED, ROWS = 400, 700


def test_drift_looks_at_the_configured_segments_and_says_the_same_again(
    tmp_path: Path, schema: ModelSchema, draw: Draw, make_reference: MakeReference
) -> None:
    """``performance.segments`` divide the drift report too; asked again, later, about the same rows it is the same."""
    rows = [
        Prediction(
            f"row-{row}", "credit", "1", values, Answer(("bad", "good")[row % 2]), Micros(row * SECOND), 1, "request"
        )
        for row, values in enumerate(draw(300, seed=2, shift=1.0))
    ]
    known = make_reference(draw(2000, seed=1))
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(database.writer)
    with database.writer.begin() as connection:
        insert(connection, rows)
    settings = Performance.model_validate({"segments": ["channel"]})

    def look(at: int, before: Report | None) -> Report:
        now = Micros(at * SECOND)
        with database.readers.connect() as connection:
            body = run_check(Check("drift", schema, tmp_path, Drift(), settings, now, before), connection, known)
        return Report("r", "drift", "credit", "1", now, body["status"], body)

    first = look(400, None)
    again = look(900, first)
    database.close()

    assert first.drift is not None
    assert first.drift["drifted_features"] == ["income"]
    assert first.drift["segments"]["channel"]["values"]["web"]["drifted_features"] == ["income"]
    assert json.dumps(again.body, allow_nan=False) == json.dumps(first.body, allow_nan=False)


def fill(database: Database) -> None:
    """Store rows of the binary model, one a second, with the outcomes of the older ones."""
    drawn = sample(BINARY, ROWS, 5).answers
    inputs = sample(BINARY, ROWS, 5).inputs.tolist()
    shares = [] if drawn.probabilities is None else drawn.probabilities.tolist()
    rows = [
        Prediction(
            f"row-{row}", "m", "1", inputs[row], Answer(said, tuple(shares[row])), Micros(row * SECOND), 1, "request"
        )
        for row, said in enumerate(drawn.predictions.tolist())
    ]
    outcomes = [Outcome(f"row-{row}", drawn.outcomes.tolist()[row]) for row in range(LABELLED)]
    rules = Rules(lambda _stored, label: label, hold=False)
    upgrade(database.writer)
    with database.writer.begin() as connection:
        insert(connection, rows)
        record(rules, connection, [Submission(outcome, Micros(ROWS * SECOND)) for outcome in outcomes])


def test_estimates_look_at_the_latest_rows_and_are_proved_on_older_ones(tmp_path: Path) -> None:
    """The latest rows are estimated while their outcomes are awaited, and the older ones compared with theirs."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    fill(database)
    settings = Performance.model_validate({"label_delay": f"{ROWS - LABELLED}s"})
    check = Check("performance", BINARY, tmp_path, Drift(), settings, Micros(ROWS * SECOND), None)
    with database.readers.connect() as connection:
        report: Any = run_check(check, connection, reference(BINARY, 1000))
    database.close()
    found = report["estimated"]

    assert (report["realised"]["labelled"], found["rows"]) == (LABELLED, ROWS)
    assert found["comparison"]["rows"] == LABELLED
    assert found["comparison"]["metrics"]["accuracy"]["realised"] == report["realised"]["metrics"]["accuracy"]["value"]
    assert found["comparison"]["metrics"]["accuracy"]["within"]
    json.dumps(report, allow_nan=False)


def fill_complaints(database: Database, delay_s: int) -> None:
    """Store rows, one a second; those of the second class get their outcome, and nobody says the first."""
    drawn, inputs = sample(BINARY, ROWS, 5).answers, sample(BINARY, ROWS, 5).inputs.tolist()
    shares = [] if drawn.probabilities is None else drawn.probabilities.tolist()
    rows = [
        Prediction(f"row-{row}", "m", "1", inputs[row], Answer(said, tuple(shares[row])), at(row), 1, "request")
        for row, said in enumerate(drawn.predictions.tolist())
    ]
    upgrade(database.writer)
    with database.writer.begin() as connection:
        insert(connection, rows)
        for row in np.flatnonzero(drawn.outcomes == 1).tolist():
            outcome = Submission(Outcome(f"row-{row}", 1), at(row + delay_s))
            record(Rules(lambda _stored, label: label, hold=False), connection, [outcome])


def at(second: int) -> Micros:
    """A second after the beginning."""
    return Micros(second * SECOND)


def test_no_outcome_means_a_label(tmp_path: Path) -> None:
    """With ``outcomes.absent_means`` old rows without an outcome count as its label, in reads alone."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    fill_complaints(database, delay_s=5)
    said: dict[str, Any] = {}
    for name, absent in (("null", None), ("set", AbsentMeans.model_validate({"label": 0, "after": "100s"}))):
        check = Check("performance", BINARY, tmp_path, Drift(), Performance(), at(ROWS), None, absent=absent)
        with database.readers.connect() as connection:
            said[name] = run_check(check, connection, reference(BINARY, 1000))
    with database.readers.connect() as connection:
        stored = connection.execute(text("SELECT count(*) FROM outcomes")).scalar_one()
    database.close()
    alone, whole = said["null"]["realised"], said["set"]["realised"]
    truth = sample(BINARY, ROWS, 5).answers.outcomes

    assert alone["coverage"] < 0.9
    assert not alone["mature"]
    assert "outcomes of class 0 are missing" in alone["metrics"]["specificity"]["withheld"]["reason"]
    assert (whole["coverage"], whole["mature"]) == (1.0, True)
    assert whole["absent"] == {"label": 0, "after_seconds": 100.0, "rows": int((truth[:600] == 0).sum())}
    assert whole["metrics"]["specificity"]["status"] == "ok"
    assert said["set"]["status"] != "degraded"
    assert said["set"]["concept_drift"]["rows"] == whole["labelled"] == 600
    assert stored == int((truth == 1).sum())


def test_the_status_says_what_it_stands_on(tmp_path: Path) -> None:
    """Without outcomes the status is that of the estimate, also by segment; with outcomes it is theirs."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    fill(database)
    settings = Performance.model_validate({"segments": [BINARY.feature_names[0]], "label_delay": "300s"})
    known = reference(BINARY, 1000)
    with database.readers.connect() as connection:
        check = Check("performance", BINARY, tmp_path, Drift(), settings, at(ROWS), None)
        later: Any = run_check(check, connection, known)
    with database.writer.begin() as connection:
        connection.execute(text("DELETE FROM outcomes"))
    with database.readers.connect() as connection:
        early: Any = run_check(check, connection, known)
    database.close()

    assert (later["basis"], later["status"]) == ("realised", later["realised"]["metrics"]["accuracy"]["status"])
    assert (early["basis"], early["status"]) == ("estimated", early["estimated"]["status"])
    assert early["status"] != "insufficient_data"
    assert set(early["estimated"]["segments"]) == {BINARY.feature_names[0]}


def transactions(database: Database) -> int:
    """The number of connections that keep the store from forgetting old rows."""
    if database.lock is None:
        clients = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"  # autovacuum is none
        others = "datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
        with database.writer.begin() as connection:
            return int(connection.execute(text(f"{clients} AND {others}")).scalar_one())
    with database.writer.begin() as connection:
        connection.execute(text("REPLACE INTO leases (name, holder, token, until) VALUES ('test', '', 0, 0)"))
    driver = database.writer.raw_connection()
    driver.cursor().execute("PRAGMA busy_timeout = 0")
    busy = int(driver.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
    driver.close()
    return busy


@pytest.mark.parametrize("kind", ["drift", "performance"])
def test_a_check_holds_no_transaction_when_it_pauses(store_url: str, tmp_path: Path, kind: str) -> None:
    """Between statements and between columns the store is free, and pauses change nothing in the report."""
    database = open_database(store_url)
    fill(database)
    check = Check(kind, BINARY, tmp_path, Drift(), Performance(), Micros(ROWS * SECOND), None)
    known, held = reference(BINARY, 1000), []
    ticks = count()

    def sleep(_seconds: float) -> None:
        held.append(transactions(database))
        throttle.start()  # so that every step ends with a pause

    throttle = Throttle(clock=lambda: 2.0 * next(ticks), cpu_clock=lambda: float(next(ticks)), sleep=sleep)
    engine = open_readers(store_url, snapshots=False)
    throttle.pause_between_statements(engine)
    with engine.connect() as connection:
        paused = run_check(check, connection, known, throttle.pause)
    engine.dispose()
    with database.readers.connect() as connection:
        plain = run_check(check, connection, known)
    database.close()

    assert len(held) > 40
    assert set(held) == {0}
    assert paused == plain
