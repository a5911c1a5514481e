"""The heartbeat of a replica, tick by tick, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import func, select

from app.alerting.service.heartbeat import Outage
from app.alerting.service.rollback import BY
from app.store.database import Connection, Database, open_database
from app.store.migrate import upgrade
from app.store.queries.replicas import database_now, read_pulses
from app.store.tables import REPORTS
from app.types import Micros, ModelSchema
from tests.support.alerting.activations import activate, did, entry
from tests.support.alerting.heartbeat import SCHEMA, Heard, beating
from tests.support.alerting.reports import step
from tests.support.deadlines import DEADLINE_S
from tests.support.processes import Postgres


def saved(connection: Connection) -> int:
    """How many reports there are."""
    return connection.execute(select(func.count()).select_from(REPORTS)).scalar_one()


@contextmanager
def connected(url: str) -> Iterator[Database]:
    """A replica's own connections."""
    database = open_database(url)
    upgrade(database.writer)
    yield database
    database.close()


def test_failing_rows_fire_once_and_resolve(database: Database) -> None:
    """The second judgement fires, the next ones repeat nothing; it resolves once the failures are five minutes old."""

    async def scenario() -> None:
        async with beating(database) as replica:
            states = []
            for turn in range(5):
                replica.version.rows["realtime", "ok"].inc(60)
                replica.version.rows["realtime", "failed"].inc(20)
                await replica.after(10)
                states.append(await replica.alerts())
                assert await replica.readers.run(saved) == max(0, min(turn, 2))
            replica.version.rows["realtime", "ok"].inc()
            await replica.after(320)

            fires = [("error_rate", "firing")]
            assert states == [[], [("error_rate", "pending")], fires, fires, fires]
            assert await replica.alerts() == [("error_rate", "resolved")]
            assert [change.event for change in replica.told] == ["firing", "resolved"]

    asyncio.run(scenario())


def test_a_quiet_service_writes_no_reports(database: Database) -> None:
    """While all is well, nothing but the pulse is stored."""

    async def scenario() -> None:
        async with beating(database) as replica:
            for _ in range(3):
                replica.version.rows["realtime", "ok"].inc(100)
                await replica.after(10)

            assert await replica.readers.run(saved) == 0

    asyncio.run(scenario())


def test_one_replica_judges_for_all(postgres: Postgres) -> None:
    """Failures of a replica that has no lease are judged by the one that has, and told once."""
    url = postgres.create_database("watched_by_two")

    async def scenario() -> None:
        with connected(url) as one, connected(url) as other:
            async with beating(one) as first, beating(other) as second:
                for _ in range(4):
                    second.version.rows["realtime", "failed"].inc(100)
                    await first.after(10)
                    await second.after(10)

                assert [change.alert.rule for change in first.told] == ["error_rate"]
                assert second.told == []

    asyncio.run(scenario())


def test_a_check_that_never_ends_is_told(database: Database) -> None:
    """What is overdue fires at the first judgement, and resolves with the first check that ends."""

    async def scenario() -> None:
        async with beating(database) as replica:
            replica.overdue = {"drift": {"overdue_s": 200.0, "limit_s": 180.0}}
            await replica.after(10)
            assert await replica.alerts() == [("no_check", "firing")]
            replica.overdue = {}
            await replica.after(10)
            assert await replica.alerts() == [("no_check", "resolved")]

    asyncio.run(scenario())


def activate_now(database: Database) -> None:
    """Version 2 was activated a minute ago, and half of its rows fail."""
    with database.writer.begin() as connection:
        activate(connection, entry(database_now(connection), "2", 60))
        did(connection, "2", [step(-at, ok=50, failed=50) for at in (4, 2)], replica="gone")


def test_a_failing_version_is_rolled_back(database: Database) -> None:
    """The evidence may come from a replica that is gone since: the one that judges rolls back, between two pulses."""
    activate_now(database)

    async def scenario() -> None:
        async with beating(database, schema=replace(SCHEMA, version="2")) as replica:
            await replica.after(2)

            [(probation, evidence)] = replica.rolled_back
            assert (probation.version, probation.before, evidence["value"]) == ("2", "1", 0.5)

    asyncio.run(scenario())


def test_a_rollback_that_is_refused_is_tried_again_later(database: Database) -> None:
    """Somebody was quicker, or the version is gone: half a minute passes before the next try."""
    activate_now(database)

    async def scenario() -> None:
        async with beating(database, schema=replace(SCHEMA, version="2"), refused=True) as replica:
            tries = []
            for _ in range(17):
                await replica.after(2)
                tries.append(len(replica.rolled_back))

            assert tries == [1] * 16 + [2]


def test_a_rollback_keeps_nobody_waiting(database: Database) -> None:
    """While it waits for an activation that is on its way, the pulse goes on, and no other rollback begins."""
    activate_now(database)

    async def scenario() -> None:
        free = asyncio.Event()
        async with beating(database, schema=replace(SCHEMA, version="2"), free=free) as replica:
            for _ in range(3):
                replica.version.rows["realtime", "ok"].inc()
                async with asyncio.timeout(DEADLINE_S):
                    await replica.after(20)
            [pulse] = [pulse for pulse in await replica.readers.run(read_pulses, "m", "2") if pulse.replica != "gone"]
            free.set()

            assert (len(pulse.steps), len(replica.rolled_back)) == (3, 1)

    asyncio.run(scenario())


def test_a_version_that_comes_back_is_rolled_back_again(database: Database) -> None:
    """After a rollback that was done nobody waits for the next one."""
    activate_now(database)

    async def scenario() -> None:
        async with beating(database, schema=replace(SCHEMA, version="2")) as replica:
            tries = []
            for _ in range(3):
                await replica.after(10)
                tries.append(len(replica.rolled_back))

            assert tries == [1, 2, 3]

    asyncio.run(scenario())


class Unwritable(Outage):
    """An outage at the first two ticks that cannot be recorded."""

    def __init__(self, heard: Heard) -> None:
        super().__init__(heard)
        self._reasons = ["away", "away", None, None]

    def observe(self, _reason: str | None, active: ModelSchema, clock: Micros, *, now: Micros) -> None:
        """Observe what the journal might have said."""
        super().observe(self._reasons.pop(0), active, clock, now=now)

    def record(self, *_: object, **__: object) -> None:
        """Fail."""
        raise ValueError("out of range")


def test_an_outage_that_cannot_be_written_down_is_dropped(database: Database) -> None:
    """The turn goes on to the pulse, and the next one does not try again."""
    heard = Heard()
    outage = Unwritable(heard)

    async def scenario() -> None:
        async with beating(database, outage=outage) as replica:
            for _ in range(4):
                replica.version.rows["realtime", "ok"].inc()
                await replica.after(10)
            [pulse] = await replica.readers.run(read_pulses, "m", "1")

            assert (len(pulse.steps), len(heard.alerts), len(outage.ended)) == (4, 1, 0)

    asyncio.run(scenario())


def test_each_rollback_is_told(database: Database) -> None:
    """The second one soon after the first ends the first one's alert, and is one of its own."""
    evidence = {"version": "2", "to": "1", "reason": "slow", "value": 1.0, "limit": 0.5}
    back = {"act": "rollback", "by": BY, "evidence": evidence}

    def rolled_back(*versions: str) -> Callable[[Connection], None]:
        def store(connection: Connection) -> None:
            now = database_now(connection)
            entries = [entry(now, version, 0) | (back if version == "1" else {}) for version in versions]
            activate(connection, *entries, earlier=())

        return store

    async def scenario() -> None:
        async with beating(database) as replica:
            for versions in ("21", "2121"):
                await replica.journal.run(rolled_back(*versions))
                for _ in range(2):
                    await replica.after(10)

            assert [change.event for change in replica.told] == ["firing", "resolved", "firing"]
            assert await replica.alerts() == [("rolled_back", "firing"), ("rolled_back", "resolved")]

    asyncio.run(scenario())
