"""Which version is on probation, and when it must be rolled back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.alerting.service.rollback import BY, Probation, evaluate_probation, find_probation, last_rollback
from app.store.database import Connection, Database
from app.store.queries.replicas import Step, database_now
from app.store.queries.versions import read_activation
from tests.support.alerting.activations import activate, did, entry
from tests.support.alerting.reports import step

MINUTES = 600.0
BACK: Any = {"act": "rollback", "by": BY, "evidence": {"version": "2"}}


def probation_after(
    database: Database, *history: tuple[str, float, Any], earlier: Sequence[str] = ("1",)
) -> Probation | None:
    """The version on probation after these changes: version, seconds ago, and what else stands in the entry."""
    with database.writer.begin() as connection:
        now = database_now(connection)
        activate(connection, *(entry(now, version, ago) | more for version, ago, more in history), earlier=earlier)
        return find_probation(connection, "m", seconds=MINUTES)


def test_an_activated_version_is_on_probation_for_its_time(database: Database) -> None:
    """From its activation on, for the time that is set; a service without any activation has none."""
    with database.writer.begin() as connection:
        assert find_probation(connection, "m", seconds=MINUTES) is None

    found = probation_after(database, ("2", 300, {}))
    assert found is not None
    assert (found.version, found.before) == ("2", "1")
    assert probation_after(database, ("2", 700, {})) is None


def test_a_version_that_is_rolled_back_to_is_not(database: Database) -> None:
    """Neither by a person nor by the service, and not by naming it once more: so nothing goes round in circles."""
    assert probation_after(database, ("2", 300, {}), ("1", 200, {"act": "rollback"})) is None
    assert probation_after(database, ("2", 300, {}), ("1", 200, BACK), ("1", 100, {})) is None


def test_to_activate_the_active_version_begins_nothing(database: Database) -> None:
    """Its time runs from when it began to answer; with nothing to go back to, there is no probation."""
    assert probation_after(database, ("2", 700, {}), ("2", 10, {})) is None
    assert probation_after(database, ("1", 10, {}), earlier=()) is None


def test_a_person_may_try_again(database: Database) -> None:
    """A version that was rolled back is on probation again once it is activated again, from then on."""
    found = probation_after(database, ("2", 300, {}), ("1", 200, BACK), ("2", 100, {}))

    assert found is not None
    with database.writer.begin() as connection:
        assert 95 < (database_now(connection) - found.since) / 1e6 < 115


def test_a_rollback_is_told_for_a_day(database: Database) -> None:
    """What the service rolled back stands with its evidence for a day; what a person did is no alert."""
    with database.writer.begin() as connection:
        now = database_now(connection)
        seen = []
        changed: list[tuple[float, Any]] = [(100, {}), (90_000, {}), (100, {"by": "boss"})]
        for ago, changes in changed:
            entries = entry(now, "2", 95_000), entry(now, "1", ago) | BACK | changes
            activate(connection, *entries)
            seen.append(last_rollback(read_activation(connection, "m"), now=now))

    told: list[Any] = [{"version": "2"}, None, None]
    assert seen == told


def evidence(connection: Connection, new: Sequence[Step], old: Sequence[Step] = ()) -> Any | None:
    """What is held against version 2, activated a minute ago, after these steps."""
    activate(connection, entry(database_now(connection), "2", 60))
    did(connection, "2", new)
    did(connection, "1", old)
    found = find_probation(connection, "m", seconds=MINUTES)
    assert found is not None
    return evaluate_probation(connection, found)


def test_failing_rows_are_evidence(database: Database) -> None:
    """Half of the rows fail: the evidence names both versions, the share, and what it was before."""
    with database.writer.begin() as connection:
        found = evidence(connection, [step(-at, ok=50, failed=50) for at in (4, 2)], [step(-100, ok=1000)])

    assert found == {
        "version": "2",
        "to": "1",
        "rule": "error_rate",
        "value": 0.5,
        "limit": 0.01,
        "reason": "50.0% of 200 rows failed, limit 1%; with the version before: 0.0% of 1,000 rows failed",
    }


def test_all_replicas_count_together(database: Database) -> None:
    """What is too little in each of two replicas is enough in both."""
    with database.writer.begin() as connection:
        assert evidence(connection, [step(-4, ok=25, failed=5)]) is None
        did(connection, "2", [step(-2, ok=25, failed=5)], replica="b")
        found = find_probation(connection, "m", seconds=MINUTES)
        assert found is not None
        assert evaluate_probation(connection, found) is not None


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ([step(-70, ok=50, failed=50), step(-65, ok=50, failed=50)], []),
        ([step(-at, ok=90, failed=10) for at in (6, 4, 2)], [step(-90, ok=900, failed=100)]),
        ([step(-at, failed=100, away=True) for at in (6, 4, 2)], []),
        ([step(-4, ok=500), step(-2, ok=500)], []),
        ([step(-at, ok=100, slow=0.7) for at in (6, 4, 2)], [step(-90, ok=200, slow=0.6)]),
        ([step(-at, ok=100, slow=0.4) for at in (6, 4, 2)], [step(-90, ok=200, slow=0.001)]),
    ],
    ids=["before", "as before", "store away", "well", "as slow as before", "within the limit"],
)
def test_what_is_no_evidence(database: Database, new: Sequence[Step], old: Sequence[Step]) -> None:
    """Nothing counts that was before the activation, that the version before did alike, or that the store caused."""
    with database.writer.begin() as connection:
        assert evidence(connection, new, old) is None


@pytest.mark.parametrize("old", [[], [step(-90, ok=200, slow=0.01)], [step(-90, ok=20, slow=0.7)]])
def test_slow_answers_are_evidence(database: Database, old: Sequence[Step]) -> None:
    """A version beyond the limit, and twice as slow as the one before where that one answered enough to say."""
    with database.writer.begin() as connection:
        found = evidence(connection, [step(-at, ok=100, slow=0.9) for at in (6, 4, 2)], old)

    assert found is not None
    assert (found["rule"], found["limit"], found["value"] > 0.5) == ("latency", 0.5, True)
