"""The one writing connection: several callers' items in one transaction, tried again where that may help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

from app.store.alone import insert_alone
from app.store.predictions import insert

Item = TypeVar("Item")
Result = TypeVar("Result")
Write = Callable[[Connection, Sequence[Item]], list[Result]]
"""Writes the items of several callers at once; one result an item, in order."""
Part: TypeAlias = tuple[Write[Any, Any], Sequence[Any]]
"""One caller's items, and what writes them."""
AWAY = (OperationalError, InterfaceError, InternalError)
"""What the driver raises while the database is down, too slow, going away, or a standby that takes no writes."""
TRIES = 3
"""Tries of one group when another replica got in between or the connection was lost."""


class Writer:
    """Keeps the connection between groups."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def commit(self, parts: Sequence[Part]) -> list[list[Any]]:
        """Write all parts or none; each caller's results.

        Raises:
            Exception: what the database or a caller's items raised in the last try.
        """
        if self._commit_alone(parts):
            return [[None] * len(rows) for _, rows in parts]
        for attempt in range(1, TRIES + 1):
            try:
                return self._transaction(parts)
            except DBAPIError as error:
                if error.connection_invalidated:
                    self.drop()
                if attempt == TRIES or not (error.connection_invalidated or isinstance(error, IntegrityError)):
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    def drop(self) -> None:
        """Give the connection up; the next group opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit_alone(self, parts: Sequence[Part]) -> bool:
        if {write for write, _ in parts} != {insert}:
            return False
        return insert_alone(self._connected(), [row for _, rows in parts for row in rows])

    def _transaction(self, parts: Sequence[Part]) -> list[list[Any]]:
        connection = self._connected()
        with connection.begin():
            return write_together(connection, parts)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection


def attempt(connection: Connection, act: Callable[[], object]) -> Exception | None:
    """Run an act in a savepoint, so that what the transaction wrote before it is kept where it fails; its failure.

    Raises:
        DBAPIError: what the writer tries again, or the store is away.
    """
    try:
        with connection.begin_nested():
            act()
    except (IntegrityError, *AWAY):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's to tell of
        return error
    return None


def write_together(connection: Connection, parts: Sequence[Part]) -> list[list[Any]]:
    """Call each writing function once, for all its callers; each caller's results."""
    by_write: dict[Write[Any, Any], list[Any]] = {}
    for write, items in parts:
        by_write.setdefault(write, []).extend(items)
    written = {write: iter(write(connection, items)) for write, items in by_write.items()}
    return [list(islice(written[write], len(items))) for write, items in parts]
