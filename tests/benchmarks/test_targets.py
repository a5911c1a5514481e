"""What the benchmarks promise: a figure on the wrong side of its target is called missed."""

from __future__ import annotations

import pytest

from benchmarks.load.closed_loop import Figures
from benchmarks.load.pairs import alternate
from benchmarks.load.rounds import BULK_CONNECTIONS, MANY, Measured
from benchmarks.results.targets import judge, servers

ROUNDS = 3


def measured(**rates: float) -> Measured:
    """Rounds that keep every promise, but for these rates."""
    found = Measured()
    good = {"floor": 10_000, "plain": 2000, "plumbline": 6000, "forest": 5800, "boosting": 5000, "outcome": 6500}
    whole = {"floor, whole request": 10_000, "whole request": 6000}
    for name, rate in {**good, **whole, "postgresql": 4000, **rates}.items():
        found.loads[name, MANY] = [Figures(rate, 5.0, 10.0, 0)] * ROUNDS
    found.loads["floor", 1] = found.loads["plumbline", 1] = [Figures(3000, 0.3, 1.0, 0)] * ROUNDS
    found.loads["bulk", 1] = found.loads["bulk", BULK_CONNECTIONS] = [
        Figures(rates.get("bulk", 70), 14, 20, 0)
    ] * ROUNDS
    found.fsync_p50_ms, found.fsync_p99_ms = [0.2] * ROUNDS, [1.0] * ROUNDS
    found.executemany, found.start_s = [90_000.0] * ROUNDS, [1.5]
    return found


def missed(found: Measured) -> list[str]:
    """The promises that are broken, by their first words."""
    return [line.what.split(",")[0] for line in judge(found) if line.met is False]


def test_what_keeps_every_promise_misses_none() -> None:
    """Every line has a target, and all are met."""
    lines = judge(measured())

    assert [line.met for line in lines] == [True] * len(lines)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"whole request": 4900}, ["`/predict` with key"]),
        ({"plain": 3100}, ["the same"]),
        ({"forest": 5000}, ["100-tree forest"]),
        ({"boosting": 4400}, ["histogram gradient boosting"]),
        ({"postgresql": 2900}, ["PostgreSQL on the load's core"]),
        ({"outcome": 5900}, ["`/outcome`"]),
        ({"bulk": 35}, ["1", "1"]),
    ],
)
def test_a_rate_below_its_target_is_missed(change: dict[str, float], broken: list[str]) -> None:
    """One figure on the wrong side breaks its own promise and no other."""
    assert missed(measured(**change)) == broken


def test_latency_is_judged_against_the_same_rounds_floor_and_disk() -> None:
    """A slow disk allows for a slow tail; a slow service on a fast one does not."""
    found = measured()
    found.loads["plumbline", MANY] = [Figures(6000, 5.0, 60.0, 0)] * ROUNDS
    assert missed(found) == ["p99"]

    found.fsync_p99_ms = [11.0] * ROUNDS
    assert missed(found) == []


def test_a_failed_request_is_never_hidden() -> None:
    """One request without a good answer breaks a promise, and stands in the table of servers."""
    found = measured()
    found.loads["forest", MANY] = [Figures(5800, 5.0, 10.0, 1)] * ROUNDS

    assert missed(found) == ["requests without a good answer"]
    assert "| forest | 64 | 5,800 | 0.58 | 5.00 | 10.00 | 3 |" in servers(found)


def test_pairs_take_turns_in_coming_first() -> None:
    """Whatever the first run of a pair suffers, both kinds suffer in turn; the ratio is that of the middle pair."""
    order: list[bool] = []

    def run(beside: bool) -> Figures:
        order.append(beside)
        return Figures(100, 1.0, {1: 3.0, 4: 2.0, 5: 8.0}.get(len(order), 1.0), 0)

    assert alternate(3, run).p99_ratio == 3.0
    assert order == [True, False, False, True, True, False]
