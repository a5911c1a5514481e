"""One story through the real checks and rules: what goes wrong is told once, and once more when it is over."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.alerting.evaluation import evaluate
from app.config.settings import Drift, Performance
from app.monitoring.check_request import KINDS, Check
from app.monitoring.checks import run_check
from app.monitoring.reference.reference import Reference
from app.statistics import FloatArray, IntArray
from app.store.database import Database
from app.store.queries import alerts, reports
from app.store.queries.outcomes import Revision, append
from app.store.queries.predictions import insert
from app.store.tables import to_text
from app.types import SECOND, Answer, Feature, FeatureType, Micros, ModelSchema, Prediction, Report, Task

FEATURES = tuple(Feature(name, FeatureType.NUMERIC) for name in ("age", "income", "visits", "noise"))
SCHEMA = ModelSchema("m", "1", Task.BINARY, FEATURES, (0, 1), 1)
WINDOW, STEP = 200, 100
PAUSE = 60 * SECOND
WRONG = 0.05
LOOKS = 2 * WINDOW // STEP
"""Looks at each stretch of the story: an alert ends when the last window that showed it has passed."""

Told = list[tuple[str, str, str]]
"""Event, rule and severity of all that was told, in order."""


class Service:
    """A model that answers by the first two features and is right in 95 of 100, under watch by a simulated clock."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rng = np.random.default_rng(5)
        inputs, answers, truth = self._draw(1000, shift=0.0, flipped=False)
        self._reference = Reference(SCHEMA, list(inputs.T), answers, outcomes=truth, sha256="abc")
        window = {"rows": WINDOW, "hours": 0}
        self._drift = Drift.model_validate({"window": window})
        self._performance = Performance.model_validate({"window": window})
        self._now = Micros(0)

    def live(self, *, shift: float = 0.0, flipped: bool = False) -> Told:
        """Live through some looks with the last feature shifted, or every label flipped."""
        told: Told = []
        for _ in range(LOOKS):
            self._store(*self._draw(STEP, shift, flipped))
            for kind in KINDS:
                told += self._check(kind)
        return told

    def firing(self) -> list[str]:
        """The rules that fire by now."""
        with self._database.readers.connect() as connection:
            return [alert.rule for alert in alerts.firing(connection, "m", "1")]

    def _draw(self, rows: int, shift: float, flipped: bool) -> tuple[FloatArray, IntArray, IntArray]:
        """Inputs, the model's answers, and the truth."""
        inputs = self._rng.normal(size=(rows, len(FEATURES)))
        inputs[:, -1] += shift
        answers = (inputs[:, 0] + inputs[:, 1] > 0).astype(np.int64)
        wrong = (self._rng.random(rows) < WRONG) ^ flipped
        return inputs, answers, answers ^ wrong

    def _store(self, inputs: FloatArray, answers: IntArray, truth: IntArray) -> None:
        """Store rows, one every tenth of a second up to this look, with labels that come at once."""
        self._now = Micros(self._now + PAUSE)
        times = [Micros(self._now - (STEP - place) * SECOND // 10) for place in range(STEP)]
        rows = [
            Prediction(f"row-{at}", "m", "1", tuple(values), Answer(answer), at, 1, "request")
            for at, values, answer in zip(times, inputs.tolist(), answers.tolist(), strict=True)
        ]
        labels = [
            Revision(f"row-{at}", 1, to_text(label), None, None, at, None)
            for at, label in zip(times, truth.tolist(), strict=True)
        ]
        with self._database.writer.begin() as connection:
            insert(connection, rows)
            append(connection, labels)

    def _check(self, kind: str) -> Told:
        """Run a check as the monitor does: read, compute, and save the report together with its alerts."""
        with self._database.readers.connect() as connection:
            before = reports.latest(connection, kind, "m", "1")
            check = Check(kind, SCHEMA, Path(), self._drift, self._performance, self._now, before)
            body = run_check(check, connection, self._reference)
        report = Report(f"{kind}-{self._now}", kind, "m", "1", self._now, body["status"], body)
        with self._database.writer.begin() as connection:
            reports.save(connection, report)
            changes = evaluate(connection, report, task=SCHEMA.task, retrain_share=self._drift.retrain_share)
        return [(change.event, change.alert.rule, change.alert.finding.severity) for change in changes]


def test_one_alert_each_told_once(database: Database) -> None:
    """A shift of one sigma in one feature is one low alert, a label flip one critical; each ends when it is over."""
    service = Service(database)

    assert service.live() == []
    assert service.live(shift=1.0) == [("firing", "feature_drift", "low")]
    assert service.live(shift=1.0, flipped=True) == [("firing", "accuracy_drop", "critical")]
    assert service.firing() == ["accuracy_drop", "feature_drift"]
    assert sorted(service.live()) == [
        ("resolved", "accuracy_drop", "critical"),
        ("resolved", "feature_drift", "low"),
    ]
    assert service.firing() == []
    assert service.live() == []
