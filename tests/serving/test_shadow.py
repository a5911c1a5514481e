"""The turns of a shadow: when it takes rows, and how long it rests after a failure."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.background import AT_ONCE
from app.config.settings import Serving
from app.metrics import JournalMetrics, ServingMetrics
from app.serving.bundle.reader import read_manifest
from app.serving.registry import Challenger
from app.serving.shadow import BATCH_ROWS, GATHER_S, Shadow
from app.store.database import open_database
from app.store.journal.journal import Journal
from app.store.migrate import upgrade
from tests.support.models.faulty import build_moody
from tests.support.models.versions import NAME, build_versions
from tests.support.rows import prediction

FEATURES = [2.0, 1.0, 0.0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with versions of one model, of which the fourth is refused: it is a pickle."""
    models = tmp_path_factory.mktemp("versions")
    build_versions(models)
    build_moody(models, NAME, "4")
    return models


async def turns(models: Path, folder: Path, version: str, *rows: int) -> tuple[list[float], dict[str, float]]:
    """The pauses after turns, before each of which so many rows are offered; and what became of the rows."""
    manifest, sha256 = read_manifest(models / NAME / version)
    challenger = Challenger(manifest.schema_of(), models / NAME / version, sha256)
    database = open_database(f"sqlite:///{folder / 'store.db'}")
    upgrade(database.writer)
    journal = Journal(database, JournalMetrics(CollectorRegistry()), max_rows=10_000)
    journal.start()
    series = CollectorRegistry()
    counters = ServingMetrics(series).for_shadow(challenger.schema)
    shadow = Shadow(challenger, Serving(models=models, active=f"{NAME}/1"), journal, counters)
    pauses, offered = [], 0
    for number in rows:
        names = [f"row{offered + place}" for place in range(number)]
        shadow.offer([prediction(each, 1, model_name=NAME, features=FEATURES) for each in names])
        offered += number
        pauses.append(await shadow.turn())
    await shadow.stop(5)
    await journal.close()
    database.close()
    labels = {"model_name": NAME, "model_version": version}
    counts = {
        state: series.get_sample_value("ml_shadow_rows_total", labels | {"state": state}) or 0.0 for state in counters
    }
    return pauses, counts


def test_a_batch_is_taken_at_once_and_fewer_rows_wait(models: Path, tmp_path: Path) -> None:
    """The first turn loads the version; then a full batch is followed by the next one, and the end takes the rest."""
    pauses, counts = asyncio.run(turns(models, tmp_path, "2", 2 * BATCH_ROWS + 1, 0, 0))

    assert pauses == [AT_ONCE, AT_ONCE, GATHER_S]
    assert counts == {"stored": 2 * BATCH_ROWS + 1, "failed": 0.0, "dropped": 0.0}


def test_a_shadow_that_fails_rests_longer_each_time(models: Path, tmp_path: Path) -> None:
    """Rows that come meanwhile do not shorten the pause; what waits at the end is dropped and counted."""
    pauses, counts = asyncio.run(turns(models, tmp_path, "4", 0, BATCH_ROWS, 2 * BATCH_ROWS))

    assert pauses == [1.0, 2.0, 4.0]
    assert counts == {"stored": 0.0, "failed": 2 * BATCH_ROWS, "dropped": BATCH_ROWS}
