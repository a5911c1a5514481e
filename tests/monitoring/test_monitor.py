"""When a check is due, and when it is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.config.settings import Config
from app.metrics import JournalMetrics
from app.monitoring.metrics import check_durations
from app.monitoring.monitor import Monitor, RequestedCheck
from app.monitoring.worker import Worker
from app.serving.bundle.reader import read_bundle
from app.store.database import Connection, Database, Readers, open_database
from app.store.journal.journal import Journal
from app.store.migrate import upgrade
from app.store.queries import reports
from app.store.queries.predictions import insert
from app.store.queries.replicas import database_now
from app.store.queries.versions import remember
from app.types import SECOND, Micros, ModelSchema, Report, ServedVersions
from benchmarks.months.replay import OneVersion
from tests.support.application import make_config
from tests.support.models.tasks import Fitted
from tests.support.rows import EMPTY_BODY, prediction

MINUTE = 60 * SECOND
DAY = 24 * 60 * MINUTE


def fill(database: Database, schema: ModelSchema, row: Sequence[object], silence: int) -> None:
    """Store ten rows a minute for the last two hours and for the same hours a day earlier, up to some silence ago."""
    with database.writer.begin() as connection:
        now = database_now(connection)
        moments = [now - minute * MINUTE - tenth * 6 * SECOND for minute in range(120) for tenth in range(10)]
        times = [moment - by for moment in moments for by in (0, DAY) if by or moment < now - silence]
        named = {"model_name": schema.name, "model_version": schema.version, "features": list(row)}
        insert(connection, [prediction(f"{at}", at, **named) for at in [now - 3 * DAY, *times]])
        checked = Micros(now - 2 * MINUTE)
        reports.save(connection, Report("before", "drift", schema.name, schema.version, checked, "stable", EMPTY_BODY))
        reports.save(connection, Report("other", "performance", schema.name, schema.version, now, "ok", EMPTY_BODY))


class NoAlerts:
    """A listener that writes nothing."""

    def on_report(self, connection: Connection, report: Report, served: ServedVersions) -> None:
        """Write nothing."""


class FailingAlerts:
    """A listener that fails after it has written something."""

    def on_report(self, connection: Connection, report: Report, _served: ServedVersions) -> None:
        """Write a report, then fail."""
        reports.save(connection, replace(report, report_id="half"))
        raise ValueError("no such rule")


@asynccontextmanager
async def monitoring(
    config: Config, folder: Path, row: Sequence[object], silence: int, listener: reports.ReportListener | None = None
) -> AsyncIterator[Monitor]:
    """A monitor of a store in which rows came up to some silence ago."""
    schema = read_bundle(folder).schema
    url, series = config.store.url.get_secret_value(), CollectorRegistry()
    database = open_database(url)
    upgrade(database.writer)
    with database.writer.begin() as connection:
        remember(connection, schema, "", now=Micros(0))
    fill(database, schema, row, silence)
    journal = Journal(database, JournalMetrics(series), max_rows=100)
    readers, worker = Readers(database.readers), Worker(url)
    durations = check_durations(series)
    journal.start()
    try:
        versions = OneVersion(schema, folder)
        yield Monitor(config, versions, readers, journal, worker, listener or NoAlerts(), durations)
    finally:
        await worker.close()
        await journal.close()
        readers.close()
        database.close()


async def due(
    config: Config,
    folder: Path,
    row: Sequence[object],
    silence: int,
    times: int,
    listener: reports.ReportListener | None = None,
) -> list[list[Report]]:
    """What a monitor finds when it is asked some times in a row."""
    async with monitoring(config, folder, row, silence, listener) as monitor:
        return [await monitor.run_due() for _ in range(times)]


def test_silence_calls_for_one_look(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """When rows stop coming, one more look says so; the next one waits for rows again."""
    models, fitted = small_models
    config = make_config(tmp_path, models, "mixed", drift={"every": "1m"}, performance={"every": "1d"})
    row = list(fitted["mixed"].rows[0].values())

    first, second = asyncio.run(due(config, models / "mixed" / "1", row, 10 * MINUTE, 2))

    assert [report.kind for report in first] == ["drift"]
    assert first[0].drift is not None
    assert "freshness" in [finding["kind"] for finding in first[0].drift["data_quality"]["findings"]]
    assert second == []


def test_a_short_pause_does_not(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Without new rows, and before the silence means anything, nothing is looked at."""
    models, fitted = small_models
    config = make_config(tmp_path, models, "mixed", drift={"every": "1m"}, performance={"every": "1d"})
    row = list(fitted["mixed"].rows[0].values())

    assert asyncio.run(due(config, models / "mixed" / "1", row, 3 * MINUTE, 1)) == [[]]


def test_alerts_that_fail_lose_no_report(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], capsys: pytest.CaptureFixture[str]
) -> None:
    """A report is saved, without what was half written after it, and the log says why there is no alert."""
    models, fitted = small_models
    config = make_config(tmp_path, models, "mixed", drift={"every": "1m"}, performance={"every": "1d"})
    row = list(fitted["mixed"].rows[0].values())

    [[made]] = asyncio.run(due(config, models / "mixed" / "1", row, 10 * MINUTE, 1, FailingAlerts()))

    database = open_database(config.store.url.get_secret_value())
    with database.readers.connect() as connection:
        assert reports.get(connection, made.report_id) == made
        assert reports.get(connection, "half") is None
    database.close()
    said = capsys.readouterr().out
    assert "alerts_not_updated" in said
    assert "no such rule" in said


def test_a_check_that_waits_serves_all_who_ask(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """Asked twice, the monitor runs what has begun once more and what waits once; the reports have the ids given."""
    models, fitted = small_models
    config = make_config(tmp_path, models, "mixed")
    row = list(fitted["mixed"].rows[0].values())

    async def scenario() -> tuple[list[RequestedCheck], list[RequestedCheck], list[Report]]:
        async with monitoring(config, models / "mixed" / "1", row, MINUTE) as monitor:
            first, second = await monitor.request(), await monitor.request()
            await asyncio.wait([check.task for check in (*first, *second)])
            return first, second, [check.task.result() for check in (*first, *second)]

    first, second, saved = asyncio.run(scenario())

    assert [check.kind for check in second] == ["drift", "performance"]
    assert first[0].report_id != second[0].report_id
    assert first[1] is second[1]
    assert [report.report_id for report in saved] == [check.report_id for check in (*first, *second)]


def test_a_monitor_that_stops_saves_no_report(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> None:
    """The check that runs and the one that waits both end at once, and neither is a failed check."""
    models, fitted = small_models
    config = make_config(tmp_path, models, "mixed")
    row = list(fitted["mixed"].rows[0].values())

    async def scenario() -> list[RequestedCheck]:
        async with monitoring(config, models / "mixed" / "1", row, MINUTE) as monitor:
            requested = await monitor.request()
            await monitor.stop()
            return requested

    requested = asyncio.run(scenario())
    database = open_database(config.store.url.get_secret_value())
    with database.readers.connect() as connection:
        saved = [reports.get(connection, check.report_id) for check in requested]
    database.close()

    assert [check.task.cancelled() for check in requested] == [True, True]
    assert saved == [None, None]
