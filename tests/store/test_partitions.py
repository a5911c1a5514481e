"""Daily partitions on PostgreSQL, as deploy/partitions.sql makes them."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import psycopg
import pytest

from app.store.database import open_database
from app.store.migrate import upgrade
from app.store.queries.predictions import find, insert
from app.types import new_id
from tests.support.processes import Postgres
from tests.support.rows import prediction

SCRIPT = (Path(__file__).parents[2] / "deploy" / "partitions.sql").read_text(encoding="utf-8")
DAY_NS = 86_400 * 10**9


def test_rows_lie_in_the_partition_of_their_day(postgres: Postgres) -> None:
    """Ids of ours go to their day, others beside them; repeating is safe, and the schema counts as up to date."""
    name = uuid.uuid4().hex
    database = open_database(postgres.create_database(name))
    upgrade(database.writer)
    postgres.execute(name, SCRIPT)
    postgres.execute(name, "SELECT plumbline_add_partitions(8)")
    now = time.time_ns()
    ids = [new_id(now), new_id(now + DAY_NS), "chosen"]
    for _ in range(2):
        with database.writer.begin() as connection:
            insert(connection, [prediction(identity) for identity in ids])
    with database.readers.connect() as connection:
        found = find(connection, ids)
    before, after = upgrade(database.writer)
    database.close()
    partitions = postgres.query(name, "SELECT tableoid::regclass::text FROM predictions ORDER BY prediction_id")
    days = [time.strftime("predictions_%Y%m%d", time.gmtime((now + ahead * DAY_NS) / 10**9)) for ahead in (0, 1)]

    assert found.keys() == set(ids)
    assert partitions == [(days[0],), (days[1],), ("predictions_other",)]
    assert before == after


def test_a_table_with_rows_is_left_alone(postgres: Postgres) -> None:
    """The script refuses to convert a table that is in use, and changes nothing."""
    name = uuid.uuid4().hex
    database = open_database(postgres.create_database(name))
    upgrade(database.writer)
    with database.writer.begin() as connection:
        insert(connection, [prediction("p")])

    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        postgres.execute(name, SCRIPT)
    database.close()
    assert postgres.query(name, "SELECT prediction_id FROM predictions") == [("p",)]
