"""The outbox, on both databases."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from threading import Thread

import pytest
from sqlalchemy import create_engine

from app.store.database import Connection, Database, open_database
from app.store.migrate import upgrade
from app.store.queries import outbox
from app.types import SECOND, Json, Micros
from tests.support.processes import Postgres

START = Micros(1_790_000_000 * SECOND)
BODY: Json = {"title": "t"}


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A connection in a transaction."""
    with database.writer.begin() as connection:
        yield connection


def at(seconds: float) -> Micros:
    """Seconds after the beginning."""
    return Micros(START + round(seconds * SECOND))


def put(connection: Connection, alert: str, event: str = "firing", channel: str = "x", seconds: float = 0.0) -> bool:
    """Store a message of an alert."""
    return outbox.enqueue(
        connection, channel=channel, event=event, key=alert, body=BODY, alert_id=alert, now=at(seconds)
    )


def claim(connection: Connection, seconds: float, channel: str = "x") -> str | None:
    """The id of what is claimed for a minute."""
    message = outbox.claim(connection, channel, now=at(seconds), seconds=60)
    return message.outbox_id if message else None


def test_the_same_event_is_one_message(connection: Connection) -> None:
    """An event of an alert is stored once for each channel, however often it is told."""
    assert [put(connection, "a"), put(connection, "a", seconds=9.0), put(connection, "a", channel="y")] == [
        True,
        False,
        True,
    ]
    assert outbox.count_waiting(connection, since=START) == 2


def test_a_claim_keeps_others_away_and_ends(connection: Connection) -> None:
    """What one replica has claimed is nobody else's for a while, and then anybody's: its holder may be dead."""
    put(connection, "a")

    assert [claim(connection, second) for second in (1, 2, 60, 62)] == ["a/firing/x", None, None, "a/firing/x"]
    message = outbox.claim(connection, "x", now=at(200), seconds=60)
    assert message is not None
    assert (message.tries, message.body, message.created_at) == (3, BODY, START)


def test_messages_leave_in_order(connection: Connection) -> None:
    """The oldest comes first, each channel has its own, and what waits for its next try does not stop the others."""
    put(connection, "b", seconds=1)
    put(connection, "a", seconds=0)
    put(connection, "c", channel="y")
    first = outbox.claim(connection, "x", now=at(2), seconds=60)
    assert first is not None
    outbox.put_off(connection, first, until=at(100), error="answered 500")

    assert first.outbox_id == "a/firing/x"
    assert [claim(connection, 3) for _ in range(2)] == ["b/firing/x", None]
    assert [claim(connection, 3, "y"), claim(connection, 101), claim(connection, 101)] == [
        "c/firing/y",
        "a/firing/x",
        "b/firing/x",
    ]


def test_the_end_waits_for_the_begin(connection: Connection) -> None:
    """While the message that an alert fires is being sent, that of its end must not overtake it."""
    put(connection, "a")
    begin = outbox.claim(connection, "x", now=at(1), seconds=60)
    put(connection, "a", "resolved", seconds=2)
    before = claim(connection, 3)
    assert begin is not None
    outbox.delivered(connection, begin, now=at(4))

    assert [before, claim(connection, 5)] == [None, "a/resolved/x"]


def test_an_end_stands_for_both(connection: Connection) -> None:
    """Of an alert that ended before anybody heard of it there is one message: that it is over."""
    put(connection, "a")
    put(connection, "b")
    put(connection, "a", "resolved", seconds=2)

    assert outbox.supersede(connection, "x", now=at(3)) == 1
    assert [claim(connection, 4) for _ in range(3)] == ["b/firing/x", "a/resolved/x", None]


def test_the_end_comes_last(connection: Connection) -> None:
    """A beginning that was stored behind the end, by a replica that did not know of it yet, is not sent after it."""
    put(connection, "a", "resolved", seconds=1)
    put(connection, "a", seconds=2)
    begin_first = claim(connection, 3)
    dropped = outbox.supersede(connection, "x", now=at(3))
    end = claim(connection, 4)
    put(connection, "b", "resolved", seconds=5)
    message = outbox.claim(connection, "x", now=at(6), seconds=60)
    assert message is not None
    outbox.delivered(connection, message, now=at(6))
    put(connection, "b", seconds=7)

    assert (begin_first, dropped, end) == ("a/firing/x", 0, None)
    assert outbox.supersede(connection, "x", now=at(8)) == 1


def test_a_rest_is_for_all_that_waits(connection: Connection) -> None:
    """A channel that wants to be left alone is; what waits for longer anyway still does, and other channels go on."""
    for alert in ("a", "b"):
        put(connection, alert)
    put(connection, "c", channel="y")
    message = outbox.claim(connection, "x", now=at(1), seconds=60)
    assert message is not None
    outbox.put_off(connection, message, until=at(500), error="answered 429")
    outbox.rest(connection, "x", until=at(100))

    assert [claim(connection, 99), claim(connection, 99, "y")] == [None, "c/firing/y"]
    assert [claim(connection, 101), claim(connection, 499), claim(connection, 501)] == [
        "b/firing/x",
        "b/firing/x",
        "a/firing/x",
    ]


def test_nothing_is_settled_twice(connection: Connection) -> None:
    """A sender whose claim ran out does not put off what another one tries meanwhile; what arrived stays arrived."""
    put(connection, "a")
    slow = outbox.claim(connection, "x", now=at(0), seconds=60)
    quick = outbox.claim(connection, "x", now=at(61), seconds=60)
    assert slow is not None
    assert quick is not None
    outbox.put_off(connection, slow, until=at(62), error="late")
    between = claim(connection, 63)
    outbox.delivered(connection, quick, now=at(64))
    outbox.put_off(connection, quick, until=at(65), error="late")

    assert [between, claim(connection, 1000)] == [None, None]
    assert outbox.count_waiting(connection, since=START) == 0


def test_old_messages_are_given_up_and_deleted(connection: Connection) -> None:
    """What a channel did not take in time is given up, not what is being sent; later the rows go."""
    put(connection, "a")
    put(connection, "b", seconds=1)
    claim(connection, 2)

    assert outbox.expire(connection, "x", before=at(10), now=at(11)) == 1
    assert outbox.expire(connection, "x", before=at(70), now=at(71)) == 1
    assert outbox.purge(connection, before=at(1), limit=10) == 1
    assert outbox.purge(connection, before=at(100), limit=10) == 1


def test_replicas_never_claim_the_same(postgres: Postgres) -> None:
    """Connections that claim at once share the messages out; SQLite has one writer."""
    database = open_database(postgres.create_database(uuid.uuid4().hex))
    upgrade(database.writer)
    engine = create_engine(database.writer.url)
    with database.writer.begin() as connection:
        for number in range(40):
            put(connection, f"a{number:02}")
    claimed: list[str] = []

    def claim_all() -> None:
        with engine.connect() as own:
            while True:
                with own.begin():
                    found = claim(own, 1)
                if found is None:
                    return
                claimed.append(found)

    threads = [Thread(target=claim_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.dispose()
    database.close()

    assert sorted(claimed) == [f"a{number:02}/firing/x" for number in range(40)]
