"""The pauses of a check, on a machine whose clocks the test turns."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from sqlalchemy import create_engine, text

from app.store.database import MAX_PAUSE_S, MAX_PAUSES_PER_CPU_S, MAX_PAUSES_S, PAUSE_PER_WAIT, Throttle


@dataclass
class Machine:
    """A machine on which a check computes, waits for the processor, and sleeps."""

    now_s: float = 0.0
    cpu_s: float = 0.0
    slept: list[float] = field(default_factory=list)

    def throttle(self) -> Throttle:
        """A throttle that lives by this machine's clocks."""
        return Throttle(clock=lambda: self.now_s, cpu_clock=lambda: self.cpu_s, sleep=self.sleep)

    def work(self, cpu_s: float, *, waited_s: float = 0.0) -> None:
        """Compute for some time, and wait for the processor for some more."""
        self.cpu_s += cpu_s
        self.now_s += cpu_s + waited_s

    def sleep(self, seconds: float) -> None:
        """Sleep, which takes no processor time."""
        self.now_s += seconds
        self.slept.append(seconds)


@pytest.fixture
def machine() -> Machine:
    """A machine that has been up for a while."""
    return Machine(now_s=1000.0, cpu_s=10.0)


def test_a_check_that_never_waits_never_pauses(machine: Machine) -> None:
    """Where all time is processor time, nobody is disturbed, and a check takes as long as it computes."""
    throttle = machine.throttle()
    for _ in range(100):
        machine.work(0.1)
        throttle.pause()

    assert machine.slept == []


def test_a_check_that_waited_pauses_for_several_times_as_long(machine: Machine) -> None:
    """The pause is in proportion to the wait since the pause before, in which sleep does not count."""
    throttle = machine.throttle()
    machine.work(1.0, waited_s=0.01)
    throttle.pause()
    throttle.pause()
    machine.work(1.0, waited_s=0.02)
    throttle.pause()

    assert machine.slept == pytest.approx([0.01 * PAUSE_PER_WAIT, 0.02 * PAUSE_PER_WAIT])
    assert throttle.paused_s == pytest.approx(sum(machine.slept))


def test_short_waits_add_up_to_a_pause(machine: Machine) -> None:
    """A wait that is not worth a pause is not forgotten."""
    throttle = machine.throttle()
    for _ in range(100):
        machine.work(0.01, waited_s=0.0001)
        throttle.pause()

    assert sum(machine.slept) == pytest.approx(100 * 0.0001 * PAUSE_PER_WAIT, rel=0.1)


def test_one_pause_is_bounded(machine: Machine) -> None:
    """A machine that stood still for a minute makes no check sleep for minutes."""
    throttle = machine.throttle()
    machine.work(1.0, waited_s=60.0)
    throttle.pause()

    assert machine.slept == [MAX_PAUSE_S]


def test_all_pauses_are_bounded_by_the_processor_time_of_the_check(machine: Machine) -> None:
    """A check that is always kept waiting sleeps in proportion to its work, so that it ends."""
    throttle = machine.throttle()
    for _ in range(10):
        machine.work(0.05, waited_s=1.0)
        throttle.pause()

    assert throttle.paused_s == pytest.approx(0.5 * MAX_PAUSES_PER_CPU_S)


def test_all_pauses_of_a_check_are_bounded(machine: Machine) -> None:
    """However much a check computes, its pauses end; the next check has pauses of its own."""
    throttle = machine.throttle()
    for _ in range(2):
        throttle.start()
        for _ in range(100):
            machine.work(1.0, waited_s=1.0)
            throttle.pause()

        assert throttle.paused_s == pytest.approx(MAX_PAUSES_S)


def test_a_pause_comes_before_each_statement(machine: Machine) -> None:
    """Statements are steps of a check as its columns are."""
    engine = create_engine("sqlite://")
    throttle = machine.throttle()
    throttle.pause_between_statements(engine)
    with engine.connect() as connection:
        for _ in range(2):
            machine.work(1.0, waited_s=0.01)
            connection.execute(text("SELECT 1")).all()
    engine.dispose()

    assert len(machine.slept) == 2
