"""A store copied from SQLite to PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, insert, select, update

from app.errors import ConfigError
from app.store import migrate
from app.store.database import Database, open_database, open_readers
from app.store.migrate import upgrade
from app.store.queries import predictions
from app.store.tables import ALERTS, METADATA, MODELS, OUTCOMES, PREDICTIONS, REPORTS, SETTINGS
from tests.support.processes import Postgres
from tests.support.rows import prediction

ROWS = 2 * migrate.CHUNK + 1
MODEL = {"name": "m", "version": "1", "sha256": "0", "schema": "{}", "first_loaded_at": 1}
OUTCOME = {"revision": 1, "outcome": '"good"', "value": None, "observed_at": None, "recorded_by": "café"}
REPORT = {"kind": "drift", "model_name": "m", "model_version": "1", "checked_at": 1, "status": "drift", "body": "{}"}
ALERT = {"rule": "drift", "model_name": "m", "model_version": "1", "severity": "high", "since": 1, "body": "{}"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Database]:
    """A SQLite store, open for writing as by a service, with rows in every table."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    upgrade(database.writer)
    add(database, ["p", *map(str, range(ROWS - 1))])
    with database.writer.begin() as connection:
        connection.execute(insert(MODELS).values(MODEL))
        connection.execute(insert(REPORTS).values(REPORT | {"report_id": "r1"}))
        first = {"alert_id": "a1", "state": "firing", "changed_at": 1, "report_id": "r1"}
        connection.execute(insert(ALERTS).values(ALERT | first))
        connection.execute(insert(SETTINGS).values(key="active", value='"1"', changed_at=1))
    yield database
    database.close()


@pytest.fixture
def source(here: Database) -> Iterator[Engine]:
    """Connections to it that cannot write."""
    engine = open_readers(str(here.writer.url))
    yield engine
    engine.dispose()


@pytest.fixture
def there(postgres: Postgres) -> Iterator[Database]:
    """An empty PostgreSQL store."""
    database = open_database(postgres.create_database(uuid.uuid4().hex))
    upgrade(database.writer)
    yield database
    database.close()


def add(database: Database, ids: list[str], predicted_at: int = 1_000) -> None:
    """Add predictions with an outcome each, many at one time."""
    with database.writer.begin() as connection:
        times = {identity: predicted_at + number // 7 for number, identity in enumerate(ids)}
        predictions.insert(connection, [prediction(identity, time) for identity, time in times.items()])
        truth = [OUTCOME | {"prediction_id": identity, "recorded_at": time} for identity, time in times.items()]
        connection.execute(insert(OUTCOMES), truth)


def contents(database: Database) -> dict[str, set[tuple[object, ...]]]:
    """Every row of every table."""
    with database.readers.connect() as connection:
        return {name: {tuple(row) for row in connection.execute(select(t))} for name, t in METADATA.tables.items()}


def copy(source: Engine, there: Database) -> tuple[list[migrate.Copied], int]:
    """Copy; the counts, and how many rows were reported as dealt with."""
    steps: list[int] = []
    return migrate.copy(source, there.writer, steps.append), sum(steps)


def test_every_row_of_every_table_arrives(here: Database, source: Engine, there: Database) -> None:
    """The two stores are equal afterwards, also when it is done twice; the progress adds up to the rows."""
    for _ in range(2):
        tables, steps = copy(source, there)

        assert contents(there) == contents(here)
        assert all(table.complete for table in tables)
        assert {table.table: table.target for table in tables}["predictions"] == ROWS
        assert steps >= 2 * ROWS + 4


def test_a_copy_goes_on_where_it_ended(here: Database, source: Engine, there: Database) -> None:
    """After an interruption, and after rows that came late with an early time, the next copy brings what is missing."""

    def interrupt(rows: int) -> None:
        if rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate.copy(source, there.writer, interrupt)
    assert len(contents(there)["predictions"]) == migrate.CHUNK

    copy(source, there)
    add(here, ["late"], predicted_at=5)
    add(here, ["new"], predicted_at=9_000)
    copy(source, there)

    assert contents(there) == contents(here)


def test_rows_that_come_while_copying_are_noticed(here: Database, source: Engine, there: Database) -> None:
    """The writer is not held up, and the counts say that another copy is needed."""
    steps = 0

    def write(_rows: int) -> None:
        nonlocal steps
        steps += 1
        add(here, [f"during-{steps}"], predicted_at=1)

    tables = {table.table: table for table in migrate.copy(source, there.writer, write)}

    assert not tables["predictions"].complete
    copy(source, there)
    assert contents(there) == contents(here)


def test_the_later_state_stands(here: Database, source: Engine, there: Database) -> None:
    """A resolved alert gives way to the next of its rule, a changed setting is changed, and newer ones there stay."""
    copy(source, there)
    with here.writer.begin() as connection:
        connection.execute(update(ALERTS).values(state="resolved", changed_at=2))
        second = {"alert_id": "a2", "state": "firing", "changed_at": 3, "report_id": "r1"}
        connection.execute(insert(ALERTS).values(ALERT | second))
        connection.execute(update(SETTINGS).values(value='"2"', changed_at=2))
    copy(source, there)
    assert contents(there) == contents(here)

    with there.writer.begin() as connection:
        connection.execute(update(SETTINGS).values(value='"3"', changed_at=3))
    copy(source, there)
    assert contents(there)["settings"] == {("active", '"3"', 3)}


def test_another_schema_is_refused(source: Engine) -> None:
    """Rows are copied between equal schemas only; the message says what to do."""
    with pytest.raises(ConfigError, match="plumbline migrate first"):
        migrate.check_source(source, "9999")


def test_nothing_is_left_out() -> None:
    """Every table is copied but the leases and the pulses, which speak of processes that are gone."""
    passing = {METADATA.tables["leases"], METADATA.tables["pulses"]}
    assert {*migrate.LONG, *migrate.SHORT} == set(METADATA.tables.values()) - passing
    assert PREDICTIONS in migrate.LONG
