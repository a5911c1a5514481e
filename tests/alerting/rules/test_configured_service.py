"""Rules of one's own over the figures of the service, and service rules that are switched off."""

from __future__ import annotations

import asyncio

from app.alerting.rules.configured import RuleSet
from app.config.settings import Alerts
from app.store.database import Database
from tests.alerting.service.test_heartbeat import saved
from tests.support.alerting.heartbeat import beating


def rules(*items: object) -> RuleSet:
    """The rules of a configuration."""
    return RuleSet.of(Alerts.model_validate({"rules": items}).rules)


def test_a_rule_over_a_service_figure_fires_and_resolves(database: Database) -> None:
    """A report is written for it although no default rule holds, and again when it is over."""
    mine = {"name": "refusing", "metric": "service.refused", "critical": 10, "for": 2}

    async def scenario() -> None:
        async with beating(database, rules=rules("default", mine)) as replica:
            states = []
            for seconds in (10, 10, 10, 320):
                replica.version.rows["realtime", "ok"].inc(60)
                replica.version.rows["realtime", "refused"].inc(20 if seconds == 10 else 0)
                await replica.after(seconds)
                states.append(await replica.alerts())

            pending, fires, over = ([("refusing", state)] for state in ("pending", "firing", "resolved"))
            assert states == [pending, fires, fires, over]
            assert [change.event for change in replica.told] == ["firing", "resolved"]

    asyncio.run(scenario())


def test_a_service_rule_that_is_off_says_nothing(database: Database) -> None:
    """Failing rows fire nothing where the rule over them is off, and no report is written for them."""

    async def scenario() -> None:
        async with beating(database, rules=rules("default", {"name": "error_rate", "enabled": False})) as replica:
            for _ in range(4):
                replica.version.rows["realtime", "ok"].inc(60)
                replica.version.rows["realtime", "failed"].inc(20)
                await replica.after(10)

            assert await replica.alerts() == []
            assert await replica.readers.run(saved) == 0

    asyncio.run(scenario())
