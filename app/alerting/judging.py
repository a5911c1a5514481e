"""Judging the service as a whole: its figures, what is overdue, and rollbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from app.alerting.evaluation import judge_beats
from app.alerting.outage import AfterReport
from app.alerting.ruleset import RuleSet
from app.alerting.service_report import Overdue, end_of_earlier, read_service, says_more
from app.store import reports
from app.store.engine import Connection
from app.store.journal import Journal
from app.store.readers import Readers
from app.types import ModelSchema, Report


class Judging:
    """Reads what all replicas did, and saves reports of it where an alert is to change by them."""

    def __init__(
        self,
        *,
        journal: Journal,
        readers: Readers,
        schema: Callable[[], ModelSchema],
        overdue: Overdue,
        after: AfterReport,
        rules: RuleSet | None = None,
    ) -> None:
        self._journal = journal
        self._readers = readers
        self._schema = schema
        self._overdue = overdue
        self._after = after
        self._rules = rules or RuleSet()
        self._turn = asyncio.Lock()  # two at once would save the same report twice
        self._log = structlog.get_logger("watch")

    async def judge(self) -> None:
        """Judge the service once.

        Raises:
            Unavailable: the store cannot be reached.
        """
        async with self._turn:
            found = await self._readers.run(self._read)
            if found:
                await self._journal.run(partial(self._save, found))
                self._log.info("service_judged", status=found[-1].status, report_id=found[-1].report_id)

    def _save(self, found: Sequence[Report], connection: Connection) -> None:
        for report in found:
            reports.save(connection, report)
            self._after(connection, report)

    def _read(self, connection: Connection) -> Sequence[Report]:
        report = read_service(connection, self._schema(), self._overdue)
        if ended := end_of_earlier(connection, report):
            return [ended, report]
        return [report] if says_more(connection, report, judge_beats(connection, report, self._rules)) else []
