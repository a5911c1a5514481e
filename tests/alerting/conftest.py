"""An open, migrated database of each kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.store.database import Database, open_database
from app.store.migrate import upgrade


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """An empty, migrated store."""
    opened = open_database(store_url)
    upgrade(opened.writer)
    yield opened
    opened.close()
