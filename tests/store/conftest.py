"""An open, migrated database of each kind, and rows to put into it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.store.database import Database, open_database
from app.store.migrate import upgrade


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """An empty, migrated store; at the end no connection may be left checked out."""
    opened = open_database(store_url)
    upgrade(opened.writer)
    yield opened
    left = [opened.writer.pool.checkedout(), opened.readers.pool.checkedout()]  # type: ignore[attr-defined]  # both are QueuePools
    opened.close()
    assert left == [0, 0]
