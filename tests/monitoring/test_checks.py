"""A check, from the store to its report."""

from __future__ import annotations

import json
from pathlib import Path

from app.config.settings import Drift, Performance
from app.monitoring.check_request import Check
from app.monitoring.checks import run_check
from app.store.database import open_database
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

    assert first.body["drifted_features"] == ["income"]
    assert first.body["segments"]["channel"]["values"]["web"]["drifted_features"] == ["income"]
    assert json.dumps(again.body, allow_nan=False) == json.dumps(first.body, allow_nan=False)


def test_estimates_look_at_the_latest_rows_and_are_proved_on_older_ones(tmp_path: Path) -> None:
    """The latest rows are estimated while their outcomes are awaited, and the older ones compared with theirs."""
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
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(database.writer)
    with database.writer.begin() as connection:
        insert(connection, rows)
        record(rules, connection, [Submission(outcome, Micros(ROWS * SECOND)) for outcome in outcomes])
    settings = Performance.model_validate({"label_delay": f"{ROWS - LABELLED}s"})
    check = Check("performance", BINARY, tmp_path, Drift(), settings, Micros(ROWS * SECOND), None)
    with database.readers.connect() as connection:
        report = run_check(check, connection, reference(BINARY, 1000))
    database.close()
    found = report["estimated"]

    assert (report["realised"]["labelled"], found["rows"]) == (LABELLED, ROWS)
    assert found["comparison"]["rows"] == LABELLED
    assert found["comparison"]["metrics"]["accuracy"]["realised"] == report["realised"]["metrics"]["accuracy"]["value"]
    assert found["comparison"]["metrics"]["accuracy"]["within"]
    json.dumps(report, allow_nan=False)
