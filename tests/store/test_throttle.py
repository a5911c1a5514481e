"""Pacing, beside a process that keeps the same processor busy: who had to wait rests, and never amid statements."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, text

from app.store.throttle import Pacing

BUSY = "print(flush=True)\nwhile True: pass"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A database in memory."""
    engine = create_engine("sqlite://")
    yield engine
    engine.dispose()


@pytest.fixture
def neighbour() -> Iterator[None]:
    """A process that never waits, on the one processor that this one may use as well."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        yield
        busy.kill()
    os.sched_setaffinity(0, allowed)


def work(seconds: float = 0.1) -> None:
    """Use up processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.usefixtures("neighbour")
def test_who_has_to_wait_rests_for_longer(engine: Engine) -> None:
    """Part of the time of a check beside a busy process is rest."""
    pacing = Pacing(engine)
    started = time.monotonic()
    with pacing.check():
        work()
    took = time.monotonic() - started
    work()

    assert 0 < pacing.rested_s < took


@pytest.mark.usefixtures("neighbour")
def test_no_rest_amid_statements(engine: Engine) -> None:
    """From a transaction's first statement to its end, rests come between statements alone: they hold no snapshot."""
    pacing = Pacing(engine)
    rested = []
    with pacing.check(), engine.connect() as connection:
        for _ in range(2):
            connection.execute(text("SELECT 1")).all()
            rested.append(pacing.rested_s)
            work()
            rested.append(pacing.rested_s)
        connection.rollback()
        work()
        rested.append(pacing.rested_s)

    first, worked, second, again, after = rested
    assert first == worked < second == again < after


@pytest.mark.usefixtures("neighbour")
def test_rest_in_one_check_is_bounded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is always busy keeps no check from its end; the next one has rests of its own."""
    monkeypatch.setattr("app.store.throttle._MOST_S", 0.05)
    pacing = Pacing(engine)
    for _ in range(2):
        with pacing.check():
            work()

        assert 0 < pacing.rested_s <= 0.05 + 1e-9


def test_who_never_waits_never_rests(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all time is processor time, a check takes as long as it computes."""
    monkeypatch.setattr("app.store.throttle.time.monotonic", time.process_time)
    pacing = Pacing(engine)
    with pacing.check():
        work()

    assert pacing.rested_s == 0.0
