"""The meter reads what the counters say, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.alerting.service.report import KEPT_S, Meter
from app.errors import Unavailable
from app.metrics import JournalMetrics, ModelMetrics, ServingMetrics
from app.store.database import Readers, open_database
from app.store.journal.journal import Journal
from app.types import SECOND, Micros, ModelSchema, Task


class Counted:
    """A meter over counters of its own, which are in ``serving``."""

    def __init__(self, journal: Journal, readers: Readers, ledger: JournalMetrics) -> None:
        self.serving = serving = ServingMetrics(CollectorRegistry())
        self.ledger = ledger
        self.readers = readers
        self.meter = Meter(serving, ledger, journal, readers)
        self.versions: dict[str, ModelMetrics] = {
            version: serving.for_model(ModelSchema("m", version, Task.BINARY, ())) for version in ("1", "2")
        }

    def steps(self, version: str = "1") -> list[tuple[float, int, int, int, bool]]:
        """The figures of the steps to be told, their beginning in seconds."""
        [pulse] = [pulse for pulse in self.meter.pulses() if pulse.model_version == version]
        return [(step.began / SECOND, *step[1:5]) for step in pulse.steps]


def at(seconds: float) -> Micros:
    """A moment of the meter's clock."""
    return Micros(round(seconds * SECOND))


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    """A meter that was read once."""
    database = open_database(f"sqlite:///{tmp_path / 'store.db'}")
    ledger = JournalMetrics(CollectorRegistry())
    readers = Readers(database.readers)
    found = Counted(Journal(database, ledger, max_rows=10), readers, ledger)
    found.meter.read(at(0))
    yield found
    readers.close()
    database.close()


def test_each_step_has_what_was_counted_in_it(counted: Counted) -> None:
    """Rows are counted once, by version and by what became of them; a replayed one was answered."""
    first, second = counted.versions["1"], counted.versions["2"]
    first.rows["realtime", "ok"].inc(3)
    first.latency.observe(0.3, [0.0])
    counted.meter.read(at(2))
    first.rows["realtime", "replayed"].inc()
    first.rows["realtime", "refused"].inc(2)
    second.rows["realtime", "failed"].inc(4)
    counted.meter.read(at(4))

    assert counted.steps() == [(0, 3, 0, 0, False), (2, 1, 2, 0, False)]
    assert counted.steps("2") == [(2, 0, 0, 4, False)]
    told = {pulse.model_version: pulse for pulse in counted.meter.pulses()}
    assert [sum(step.latencies) for step in told["1"].steps] == [1, 0]


def test_only_what_is_new_is_told(counted: Counted) -> None:
    """A version that did nothing since the last pulse has no other; old steps are dropped."""
    counted.versions["1"].rows["realtime", "ok"].inc()
    counted.meter.read(at(2))
    counted.meter.noted()
    counted.versions["2"].rows["realtime", "ok"].inc()
    counted.meter.read(at(4))
    assert [pulse.model_version for pulse in counted.meter.pulses()] == ["2"]

    counted.versions["1"].rows["realtime", "ok"].inc()
    counted.meter.read(at(KEPT_S + 3))
    assert counted.steps() == [(4, 1, 0, 0, False)]


def test_a_version_that_is_being_loaded_may_be_read(counted: Counted) -> None:
    """Its series are made one after the other in another thread; those that are not there yet count nothing."""
    counted.serving.predictions.labels("m", "3", Task.BINARY.value, "ok").inc(2)
    counted.meter.read(at(2))

    assert counted.steps("3") == [(0, 2, 0, 0, False)]


def test_failures_without_a_store_are_marked(counted: Counted) -> None:
    """A step in which rows could not be stored, or nothing could be read, says so; the one after it does not."""

    def unstored() -> None:
        counted.ledger.accept(1)
        counted.ledger.finish(1, failure="store")

    def unread() -> None:
        with pytest.raises(Unavailable):
            asyncio.run(counted.readers.run(lambda connection: connection.exec_driver_sql("SELECT 1 FROM nowhere")))

    for moment, happens in enumerate((unstored, None, unread, None), start=1):
        counted.versions["1"].rows["realtime", "failed"].inc()
        if happens is not None:
            happens()
        counted.meter.read(at(moment))

    assert counted.steps() == [(0, 0, 0, 1, True), (1, 0, 0, 1, False), (2, 0, 0, 1, True), (3, 0, 0, 1, False)]
