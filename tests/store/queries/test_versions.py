"""The activated version in the store: who chose it, what was before, and no choice over one that was not seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.errors import Conflict
from app.store.database import Connection, Database
from app.store.queries.versions import KEPT, Activation, read_activation, save_activation

FIRST = Activation("1", "aa")


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    """A transaction on an empty store."""
    with database.writer.begin() as opened:
        yield opened


def test_a_choice_is_read_as_it_was_saved(connection: Connection) -> None:
    """The choice comes back, its history longer by who made it; other models have none."""
    save_activation(connection, "m", FIRST.change("2", "bb"), seen=None, act="activate", by="boss")
    found = read_activation(connection, "m")

    assert found is not None
    assert (found.version, found.sha256, found.earlier) == ("2", "bb", ("1",))
    assert [(item["act"], item["version"], item["by"]) for item in found.history] == [("activate", "2", "boss")]
    assert read_activation(connection, "other") is None


def test_a_choice_over_another_is_refused(connection: Connection) -> None:
    """Who has not seen the latest choice, or any, must look again; the latest stands."""
    for version in ("2", "3"):
        seen = read_activation(connection, "m")
        save_activation(connection, "m", (seen or FIRST).change(version, "bb"), seen=seen, act="activate", by=None)

    for stale in (None, seen):
        with pytest.raises(Conflict, match="meanwhile"):
            save_activation(connection, "m", FIRST.change("4", "cc"), seen=stale, act="activate", by=None)
    found = read_activation(connection, "m")
    assert found is not None
    assert found.version == "3"


def test_the_history_is_bounded(connection: Connection) -> None:
    """A model that is switched for years keeps a row of bounded size."""
    seen: Activation | None = None
    for number in range(KEPT + 5):
        chosen = (seen or FIRST).change(str(number % 2), "aa")
        save_activation(connection, "m", chosen, seen=seen, act="activate", by=None)
        seen = read_activation(connection, "m")

    assert seen is not None
    assert len(seen.history) == KEPT
    assert len(seen.earlier) <= KEPT
