"""The one writing connection: several callers' items in one transaction, tried again where that may help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

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

    def _transaction(self, parts: Sequence[Part]) -> list[list[Any]]:
        if self._connection is None:
            self._connection = self._engine.connect()
        with self._connection.begin():
            return write_together(self._connection, parts)


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
    by_write: dict[Write[Any, Any], list[int]] = {}
    for place, (write, _) in enumerate(parts):
        by_write.setdefault(write, []).append(place)
    results: list[list[Any]] = [[]] * len(parts)
    for write, places in by_write.items():
        written = iter(write(connection, [item for place in places for item in parts[place][1]]))
        for place in places:
            results[place] = list(islice(written, len(parts[place][1])))
    return results
