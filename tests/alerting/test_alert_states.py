"""The life of an alert in the store, on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from app.alerting.evaluation import evaluate
from app.store.database import Connection, Database
from app.store.queries import alerts, reports
from app.store.queries.alerts import RECENT_S, Alert, Finding, record
from app.store.queries.replicas import database_now
from app.store.tables import ALERTS
from app.types import SECOND, Micros, Report, Task
from tests.support.alerting.reports import covered, drift_body, performance_body

Check = Callable[..., Report]


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection that writes."""
    with database.writer.connect() as connection:
        yield connection


@pytest.fixture
def check(connection: Connection) -> Check:
    """Saves a report, a second after the one before, with its alerts in the same transaction."""
    with connection.begin():
        start = database_now(connection)
    count = 0

    def run(body: Any, kind: str = "performance", status: str = "ok", version: str = "1") -> Report:
        nonlocal count
        count += 1
        report = Report(f"r{count}", kind, "m", version, Micros(start + count * SECOND), status, body)
        with connection.begin():
            reports.save(connection, report)
            evaluate(connection, report, task=Task.BINARY, retrain_share=0.3)
        return report

    return run


def shown(connection: Connection, version: str = "1") -> list[Alert]:
    """What GET /alerts lists."""
    with connection.begin():
        return list(alerts.shown(connection, "m", version))


BAD = performance_body(accuracy="degraded")
GOOD = performance_body(accuracy="ok")


def test_an_alert_fires_once_and_is_refreshed(connection: Connection, check: Check) -> None:
    """A rule that goes on holding stays one alert: its start stays, its numbers and its report are the latest."""
    first = check(BAD)
    worse = performance_body(accuracy="degraded")
    worse["realised"]["metrics"]["accuracy"]["value"] = 0.7
    second = check(worse)

    [alert] = shown(connection)
    assert (alert.since, alert.report_id, alert.finding.value) == (first.checked_at, second.report_id, 0.7)
    assert alert.resolved_at is None


def test_a_rule_that_no_longer_holds_resolves(connection: Connection, check: Check) -> None:
    """The first good report resolves the alert, which keeps what it last said."""
    bad = check(BAD)
    good = check(GOOD)

    [alert] = shown(connection)
    assert (alert.resolved_at, alert.report_id, alert.finding.value) == (good.checked_at, bad.report_id, 0.84)


def test_a_rule_that_holds_again_is_a_new_alert(connection: Connection, check: Check) -> None:
    """After it was resolved, the same rule opens another alert, listed before the resolved one."""
    for body in (BAD, GOOD, BAD):
        check(body)

    again, before = shown(connection)
    assert again.resolved_at is None
    assert before.resolved_at is not None
    assert again.alert_id != before.alert_id


@pytest.mark.parametrize("body", [performance_body(accuracy="insufficient_data"), {"status": "error", "errors": []}])
def test_too_little_data_changes_nothing(connection: Connection, check: Check, body: Any) -> None:
    """A report without a verdict leaves a firing alert exactly as it was."""
    check(BAD)
    before = shown(connection)
    check(body, status="insufficient_data")

    assert shown(connection) == before


def test_a_check_that_keeps_failing_is_an_alert(connection: Connection, check: Check) -> None:
    """The third failure in a row fires, with its reason; success resolves it, and other alerts stay as they were."""
    check(BAD)
    failed: Any = {"status": "error", "errors": [{"feature": None, "reason": "no memory"}]}
    states = []
    for _ in range(3):
        check(failed, status="error")
        states.append([(alert.rule, alert.state) for alert in shown(connection)])
    [message] = [alert.finding.message for alert in shown(connection) if alert.rule == "performance_check_failing"]
    check(BAD)

    pending = [("accuracy_drop", "firing"), ("performance_check_failing", "pending")]
    assert states == [pending, pending, [("accuracy_drop", "firing"), ("performance_check_failing", "firing")]]
    assert message == "the performance check fails: no memory"
    assert [(alert.rule, alert.state) for alert in shown(connection)][1] == ("performance_check_failing", "resolved")


def test_labels_that_stay_away_fire_with_the_third_report(connection: Connection, check: Check) -> None:
    """Coverage is compared with the report of the day before; the third low one in a row fires."""
    today = covered(0.1)
    report = check({})
    with connection.begin():
        then = Micros(report.checked_at - (86_400 - 600) * SECOND)
        reports.save(connection, replace(report, report_id="then", checked_at=then, body=covered(0.8)))
    states = []
    for _ in range(3):
        check(today)
        states += [alert.state for alert in shown(connection)]

    assert states == ["pending", "pending", "firing"]


@pytest.mark.parametrize("history", [[BAD], [BAD, GOOD], [BAD, GOOD, BAD]])
def test_the_same_report_twice_changes_nothing(connection: Connection, check: Check, history: list[Any]) -> None:
    """Recording any report of the past again, the latest or an old one, leaves every alert as it was."""
    saved = [check(body) for body in history]
    before = shown(connection)
    with connection.begin():
        for report in saved:
            evaluate(connection, report, task=Task.BINARY, retrain_share=0.3)

    assert shown(connection) == before


def test_the_worst_comes_first(connection: Connection, check: Check) -> None:
    """Firing alerts are listed by severity, and the causes of a performance alert come from the latest drift report."""
    quality = {
        "status": "warning",
        "findings": [{"feature": "b", "kind": "constant", "value": 1.0, "limit": 0.1, "message": "stands still"}],
    }
    check(drift_body({"a": 0.2}, data_quality=quality), kind="drift", status="drift")
    check(BAD)

    found = shown(connection)
    assert [(alert.rule, alert.finding.severity) for alert in found] == [
        ("accuracy_drop", "critical"),
        ("data_quality", "medium"),
        ("feature_drift", "low"),
    ]
    assert found[0].finding.causes == ("a",)


@pytest.mark.parametrize(
    ("counts", "rule", "severities"),
    [
        ((1, 3, 2, 1), "feature_drift", ["low", "high", "low", "low"]),
        ((3, 2, 4), "drift_many", ["high", "low", "high"]),
    ],
)
def test_an_alert_keeps_its_name(
    connection: Connection, check: Check, counts: Sequence[int], rule: str, severities: Sequence[str]
) -> None:
    """While the number of drifted features changes, one alert stays open, and its severity follows the number."""
    seen = []
    for count in counts:
        check(drift_body(dict.fromkeys("abcd"[:count], 0.2)), kind="drift")
        seen += [(alert.rule, alert.finding.severity) for alert in shown(connection) if alert.resolved_at is None]

    assert seen == [(rule, severity) for severity in severities]
    assert len(shown(connection)) == 1


def test_joint_drift_goes_on_beside_drift_of_features(connection: Connection, check: Check) -> None:
    """An alert of joint drift is not resolved because a feature drifts too, and none opens beside one of features."""
    joint = {
        "status": "drift",
        "auc": 0.8,
        "material_auc": 0.55,
        "features": [{"feature": "a", "share": 0.6}],
    }
    check(drift_body({}, multivariate=joint), kind="drift")
    check(drift_body({"a": 0.2}, multivariate=joint), kind="drift")
    assert {alert.rule for alert in shown(connection) if alert.is_open} == {"joint_drift", "feature_drift"}

    check(drift_body({"a": 0.2}, multivariate=joint | {"status": "stable"}), kind="drift")
    check(drift_body({"a": 0.2}, multivariate=joint), kind="drift")
    assert {alert.rule for alert in shown(connection) if alert.is_open} == {"feature_drift"}


def test_a_finding_near_its_limit_is_one_alert(connection: Connection, check: Check) -> None:
    """Data quality is in order once a whole window has no finding, not as soon as one look has none."""
    finding = {"feature": "b", "kind": "missing_share", "value": 0.008, "limit": 0.007, "message": "some are missing"}
    broken, clear = {"status": "warning", "findings": [finding]}, {"status": "ok", "findings": []}
    old, new = {"from": "1970-01-01T00:00:00.000000Z"}, {"from": "2100-01-01T00:00:00.000000Z"}

    states = []
    for quality, window in ((broken, old), (clear, old), (broken, old), (clear, old), (clear, new)):
        check(drift_body({}, data_quality=quality, window=window), kind="drift")
        states += [[(alert.rule, alert.resolved_at is None) for alert in shown(connection)]]

    assert states == [[("data_quality", True)]] * 4 + [[("data_quality", False)]]


def test_versions_have_alerts_of_their_own(connection: Connection, check: Check) -> None:
    """A good report on one version does not resolve the alert of another."""
    check(BAD, version="1")
    check(GOOD, version="2")

    assert [alert.resolved_at for alert in shown(connection, "1")] == [None]
    assert shown(connection, "2") == []


def test_old_alerts_are_no_longer_shown(connection: Connection, check: Check) -> None:
    """An alert that was resolved longer than a week ago is kept and not listed; a firing one is, whatever its age."""
    finding = Finding("low", 1.0, 0.5, "long ago")
    report = check({})
    old = replace(report, checked_at=Micros(report.checked_at - (RECENT_S + 60) * SECOND))
    with connection.begin():
        record(connection, old, {"feature_drift": finding, "drift_many": finding}, {})
        record(connection, replace(old, checked_at=Micros(old.checked_at + 1)), {"drift_many": None}, {})

    assert [alert.rule for alert in shown(connection)] == ["feature_drift"]


def test_an_alert_whose_rule_is_gone_is_resolved(connection: Connection, check: Check) -> None:
    """What fires by a rule that the configuration no longer has ends with the next report."""
    report = check(BAD)
    with connection.begin():
        old = replace(report, checked_at=Micros(report.checked_at - 1))
        record(connection, old, {"mine": Finding("medium", 1.0, 0.5, "once upon a time")}, {})
    check(BAD)

    assert [(alert.rule, alert.state) for alert in shown(connection)] == [
        ("accuracy_drop", "firing"),
        ("mine", "resolved"),
    ]


def test_two_replicas_open_one_alert(connection: Connection, check: Check) -> None:
    """Of two replicas that open the same alert at once, the database refuses the second."""
    check(BAD)
    with connection.begin():
        row = connection.exec_driver_sql("SELECT * FROM alerts").mappings().one()

    with pytest.raises(IntegrityError), connection.begin():
        connection.execute(ALERTS.insert().values(dict(row) | {"alert_id": "twin"}))
