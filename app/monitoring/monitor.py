"""Run the checks that are due, save their reports, and know which are overdue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, cast

import structlog
from prometheus_client import Histogram

from app.background import WORK_PREFIX, PeriodicTask, start_work
from app.config.settings import Config
from app.errors import Unavailable
from app.monitoring.check_request import KINDS, QUALITY_SHARE, Check, alpha_per_look
from app.monitoring.quality.traffic import is_silent, quality_tests
from app.monitoring.worker import CheckFailed, Worker
from app.reports.drift import DriftReport, FailedCheck
from app.reports.performance import PerformanceReport
from app.reports.service import OverdueCheck
from app.store.database import Connection, Readers
from app.store.journal.journal import Journal
from app.store.journal.writer import attempt
from app.store.queries import replicas, reports
from app.store.queries.labelled import newer_outcomes
from app.store.queries.replicas import database_now
from app.store.queries.windows import newer_rows, read_arrivals
from app.types import SECOND, Micros, ModelSchema, Report, Role, VersionSource, Watched, new_id

INTERVALS = 3
MIN_OVERDUE_S = 60.0
"""A check takes its time, however short the interval is."""


class DueChecks(Protocol):
    """Knows which checks are due."""

    def is_due(self, connection: Connection, kind: str, schema: ModelSchema) -> bool:
        """Tell whether a check is due: it is time, and there are enough new rows."""


class Overdue:
    """Remember since when each check has been due.

    A check that has ended, also with an error, is no longer overdue.

    Attributes:
        since: by kind and version.
    """

    def __init__(self, config: Config, checks: DueChecks) -> None:
        every = {"drift": config.drift.every, "performance": config.performance.every}
        self._limits_s = {kind: max(INTERVALS * every[kind], MIN_OVERDUE_S) for kind in KINDS}
        self._checks = checks
        self.since: dict[tuple[str, str], Micros] = {}

    def read(self, connection: Connection, schema: ModelSchema) -> dict[str, OverdueCheck]:
        """For each kind of check, the seconds that it has been due, and may be."""
        now = database_now(connection)
        return {
            kind: {"overdue_s": self._overdue_s(connection, kind, schema, now), "limit_s": limit}
            for kind, limit in self._limits_s.items()
        }

    def _overdue_s(self, connection: Connection, kind: str, schema: ModelSchema, now: Micros) -> float:
        key = (schema.version, kind)
        if not self._checks.is_due(connection, kind, schema):
            self.since.pop(key, None)
            return 0.0
        found = reports.history(connection, kind, schema.name, schema.version, newest_first=True, limit=1)
        ended = found[0].checked_at if found else 0
        return max(0.0, (now - max(self.since.setdefault(key, now), ended)) / SECOND)


NEW_SHARE = 0.1
"""Part of a window that must be new before the next check of it."""


class WatchedVersions(VersionSource, Protocol):
    """Knows the versions that checks look at."""

    def active(self) -> Watched:
        """The version that answers."""

    def shadows(self) -> Sequence[Watched]:
        """The versions beside it."""


@dataclass(frozen=True, slots=True)
class RequestedCheck:
    """A check that was asked for.

    Attributes:
        report_id: the id of the report that it will save.
        task: ends when the report is saved.
    """

    report_id: str
    kind: str
    task: asyncio.Task[Report]


class Monitor:
    """Runs the checks on the active version and its shadows, and saves their reports.

    One check runs at a time.

    Args:
        listener: is called for reports on versions that answer: a shadow has no alerts.
    """

    def __init__(
        self,
        config: Config,
        versions: WatchedVersions,
        readers: Readers,
        journal: Journal,
        worker: Worker,
        listener: reports.ReportListener,
        durations: Histogram,
    ) -> None:
        self._config = config
        self._versions = versions
        self._readers = readers
        self._journal = journal
        self._worker = worker
        self._listener = listener
        self._durations = durations
        self._turn = asyncio.Lock()
        self._waiting: dict[tuple[str, Watched], RequestedCheck] = {}
        self._tasks: set[asyncio.Task[Report]] = set()
        self._log = structlog.get_logger("monitor")

    async def run_due(self) -> list[Report]:
        """Run the checks whose time has come and which have enough new rows to look at."""
        found = []
        for watched in (self._versions.active(), *self._versions.shadows()):
            due = [
                kind for kind in KINDS if await self._readers.run(self.is_due, kind, watched.schema, role=watched.role)
            ]
            found += await self.run(due, watched)
        return found

    async def run(self, kinds: Sequence[str] = KINDS, watched: Watched | None = None) -> list[Report]:
        """Run checks now; one that fails is a report with its error, and the others go on."""
        requested = await self.request(kinds, watched)
        if requested:
            await asyncio.wait([check.task for check in requested])
        return [check.task.result() for check in requested]

    async def request(self, kinds: Sequence[str] = KINDS, watched: Watched | None = None) -> list[RequestedCheck]:
        """Ask for checks; they run in the order of the requests.

        A check that still waits for its turn serves all who ask for it, since it reads the rows when it begins. A check
        that has begun may have missed the newest rows, so another one follows it.

        Raises:
            Unavailable: the store cannot be reached.
        """
        target = watched or self._versions.active()
        now = await self._readers.run(database_now)
        return [self._waiting.get((kind, target)) or self._enqueue(kind, target, now) for kind in kinds]

    async def stop(self) -> None:
        """End the check that runs and those that wait; they save no report."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def is_due(self, connection: Connection, kind: str, schema: ModelSchema, role: Role = "active") -> bool:
        """Whether it is time for a check, and there is enough that is new to look at."""
        settings = self._config.drift if kind == "drift" else self._config.performance
        last = reports.latest(connection, kind, schema.name, schema.version)
        since = last.checked_at if last else Micros(0)
        if database_now(connection) - since < settings.every * SECOND:
            return False
        enough = max(1, round(settings.window.rows * NEW_SHARE))
        if kind == "performance" and newer_outcomes(connection, after=since, most=enough) == enough:
            return True
        if newer_rows(connection, schema.name, schema.version, after=since, most=enough, role=role) == enough:
            return True
        return (
            kind == "drift"
            and role == "active"
            and last is not None
            and self._has_fallen_silent(connection, schema, last)
        )

    def _has_fallen_silent(self, connection: Connection, schema: ModelSchema, last: Report) -> bool:
        """Tell whether rows have stopped coming.

        One more look then says so.
        """
        findings = last.drift.get("data_quality", {}).get("findings", []) if last.drift else []
        if any(finding["kind"] == "freshness" for finding in findings):
            return False
        arrivals = read_arrivals(connection, schema.name, schema.version, database_now(connection))
        budget = alpha_per_look(self._config.drift.every, self._config.drift.false_alarm_every) * QUALITY_SHARE
        return arrivals is not None and is_silent(arrivals, budget / quality_tests(len(schema.features)))

    def _enqueue(self, kind: str, watched: Watched, now: Micros) -> RequestedCheck:
        report_id = new_id(now * 1000)
        task = asyncio.create_task(self._take_turn(report_id, kind, watched), name=f"{WORK_PREFIX}check-{kind}")
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        self._waiting[kind, watched] = requested = RequestedCheck(report_id, kind, task)
        return requested

    def _forget(self, task: asyncio.Task[Report]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it is in the log; asyncio would complain where nobody waits for the check any more

    async def _take_turn(self, report_id: str, kind: str, watched: Watched) -> Report:
        async with self._turn:
            del self._waiting[kind, watched]
            try:
                return await self._check(report_id, kind, watched)
            except Exception as error:
                self._log.warning("report_not_saved", kind=kind, report_id=report_id, reason=str(error))
                raise

    async def _check(self, report_id: str, kind: str, watched: Watched) -> Report:
        schema, config = watched.schema, self._config
        started = time.perf_counter()
        now, before = await self._readers.run(_now_and_before, kind, schema)
        try:
            found = await self._worker.run(
                Check(
                    kind,
                    schema,
                    watched.folder,
                    config.drift,
                    config.performance,
                    now,
                    before,
                    watched.role,
                    config.outcomes.absent_means,
                    config.privacy.features,
                )
            )
            body = _with_role(watched.role, found)
        except CheckFailed as error:
            self._log.exception("check_failed", kind=kind, exc_info=error)
            body = FailedCheck(role=watched.role, status="error", errors=[{"feature": None, "reason": str(error)}])
        report = Report(report_id, kind, schema.name, schema.version, now, body["status"], body)
        served = self._versions.served()

        def save(connection: Connection) -> Exception | None:
            reports.save(connection, report)
            follow = partial(self._listener.on_report, connection, report, served)
            return attempt(connection, follow) if watched.role == "active" else None

        if failure := await self._journal.run(save):
            self._log.exception("alerts_not_updated", kind=kind, report_id=report.report_id, exc_info=failure)
        self._durations.labels(kind).observe(time.perf_counter() - started)
        self._log.info("checked", kind=kind, status=report.status, report_id=report.report_id)
        return report


def _now_and_before(connection: Connection, kind: str, schema: ModelSchema) -> tuple[Micros, Report | None]:
    return database_now(connection), reports.latest(connection, kind, schema.name, schema.version)


def _with_role(role: Role, body: DriftReport | PerformanceReport) -> DriftReport | PerformanceReport | FailedCheck:
    """Put the role first, as a report is stored."""
    return cast("DriftReport | PerformanceReport", {"role": role, **body})


LEASE = "monitor"
LEASE_TICKS = 3
"""The lease lasts for so many ticks. A holder that misses them all has lost it."""


class Job(NamedTuple):
    """Work for each tick, with its name in the log."""

    name: str
    run: Callable[[], Awaitable[object]]


class Scheduler:
    """Runs its jobs, one after the other, at every tick while it holds the lease."""

    def __init__(self, journal: Journal, jobs: Sequence[Job], *, tick_s: float) -> None:
        self._journal = journal
        self._jobs = jobs
        self._tick_s = tick_s
        self._holder = new_id()
        self._log = structlog.get_logger("scheduler")
        self.task = PeriodicTask("scheduler", self.tick, interval_s=tick_s, store_away="warn", log=self._log)

    async def stop(self) -> None:
        """Stop and release the lease, so that another replica can take it at once."""
        if not self.task.started:
            return
        await self.task.stop(grace_s=0)
        try:
            await self._journal.run(partial(replicas.release, name=LEASE, holder=self._holder))
        except Unavailable:
            self._log.warning("lease_not_released", reason="the store cannot be reached; the lease ends by itself")

    async def tick(self) -> None:
        """Take or renew the lease and run the jobs; run none where another replica holds the lease.

        A job that fails is logged, and the next one runs.

        Raises:
            Unavailable: the store cannot be reached.
        """
        if not await self._acquire_lease():
            return
        renewing = start_work("lease", self._renew_lease())
        try:
            for job in self._jobs:
                await self._run(job)
        finally:
            renewing.cancel()

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a job that fails must not keep the others from running
            self._log.exception("job_failed", job=job.name, exc_info=error)

    async def _acquire_lease(self) -> bool:
        """Take or renew the lease; False where another replica holds it."""
        seconds = self._tick_s * LEASE_TICKS
        acquire = partial(replicas.acquire, name=LEASE, holder=self._holder, seconds=seconds)
        return await self._journal.run(acquire) is not None

    async def _renew_lease(self) -> None:
        """Renew the lease while the jobs run.

        Else another replica could begin the same check.
        """
        while True:
            await asyncio.sleep(self._tick_s)
            with suppress(Unavailable):
                await self._acquire_lease()
