"""Figures over time are sums of slots, whoever added them and in which order they are read."""

from __future__ import annotations

from app.store.database import Database
from app.store.queries import reports
from app.store.queries.reports import SLOT_S, Figure
from app.types import SECOND, Micros

START = reports.slot_of(Micros(1_790_000_000 * SECOND))


def at(slot: int, second: int = 0) -> Micros:
    """A second of a slot."""
    return Micros(START + (slot * SLOT_S + second) * SECOND)


def test_a_slot_adds_up(database: Database) -> None:
    """Values of one slot give their count, sum, least, largest and latest, like values of several slots."""
    with database.writer.begin() as connection:
        for slot, second, value in ((0, 0, 0.9), (0, 299, 0.7), (1, 0, 0.8), (3, 0, 0.1)):
            reports.add_figures(connection, "m", "1", {"accuracy": Figure.of(value)}, at=at(slot, second))
        reports.add_figures(connection, "m", "2", {"accuracy": Figure.of(0.5)}, at=at(0))
        found = [
            reports.read_figures(connection, "m", "1", start=at(0), end=end)["accuracy"]
            for end in (at(1), at(2), at(9))
        ]

    assert [(each.count, each.low, each.high, each.last) for each in found] == [
        (2, 0.7, 0.9, 0.7),
        (3, 0.7, 0.9, 0.8),
        (4, 0.1, 0.9, 0.1),
    ]
    assert [round(each.total, 9) for each in found] == [1.6, 2.4, 2.5]


def test_many_names_at_once(database: Database) -> None:
    """A model of a thousand features has a thousand figures in one slot."""
    names = {f"drift.{number}": Figure(1) for number in range(1_200)}
    with database.writer.begin() as connection:
        for _ in range(2):
            reports.add_figures(connection, "m", "1", names, at=at(0))
        found = reports.read_figures(connection, "m", "1", start=at(0), end=at(1))

    assert found.keys() == names.keys()
    assert {each.count for each in found.values()} == {2}


def test_old_figures_go(database: Database) -> None:
    """Slots before a moment are deleted, one after the other, and no later one is."""
    with database.writer.begin() as connection:
        for slot in range(4):
            reports.add_figures(connection, "m", "1", {"a": Figure(1), "b": Figure(1)}, at=at(slot))
        gone = [reports.purge_figures(connection, before=at(2), limit=200) for _ in range(3)]
        left = reports.read_figures(connection, "m", "1", start=at(0), end=at(9))

    assert gone == [2, 2, 0]
    assert left["a"].count == 2
