"""Checkpoints beside the writer: SQLite's log goes into the database file without making a commit wait for it.

By itself SQLite checkpoints within a commit: once in a thousand pages somebody waits for a thousand pages to be copied
and synced. Here a thread with its own connection copies them while the writer goes on; the writer adds the few that it
wrote meanwhile, since the log begins anew only once all of it is copied.
"""

from __future__ import annotations

import threading
from contextlib import nullcontext
from queue import SimpleQueue

import structlog
from sqlalchemy import Connection, Engine

COMMIT_PAGES = 4
"""Pages that a commit writes beside those of its rows: the last page of each index."""
LOG_PAGES = 1000
"""About as many pages as SQLite lets its log have before it checkpoints."""


class Checkpoints:
    """Called by the writing thread; what fails is logged, and tried again a log later.

    Args:
        engine: whose connections do not checkpoint by themselves.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pages = 0
        self._copying = False
        self._copied = threading.Event()
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="plumbline-checkpoints", daemon=True)
        self._log = structlog.get_logger("checkpoints")

    def start(self, connection: Connection) -> None:
        """Take over from a new connection of the writer, which checkpoints no more."""
        _execute(connection, "PRAGMA wal_autocheckpoint=0")
        if not self._thread.is_alive():
            self._thread.start()

    def committed(self, connection: Connection, rows: int) -> None:
        """Note a commit of the writer's connection, and checkpoint when it is time."""
        self._pages += COMMIT_PAGES + rows
        if self._copying and self._copied.is_set():
            self._copied.clear()
            self._copying = False
            self._pages = 0
            self._copy(connection)
        elif self._pages >= LOG_PAGES and not self._copying:
            self._copying = True
            self._wanted.put(True)

    def close(self) -> None:
        """End the thread, and its connection."""
        self._wanted.put(False)
        if self._thread.is_alive():
            self._thread.join()
        self._engine.dispose()

    def _run(self) -> None:
        while self._wanted.get():
            self._copy()
            self._copied.set()

    def _copy(self, connection: Connection | None = None) -> None:
        """Copy what no reader needs in the log any more; no reader and no writer waits for it."""
        try:
            with nullcontext(connection) if connection else self._engine.connect() as used:
                _execute(used, "PRAGMA wal_checkpoint(PASSIVE)")
        except Exception as error:  # noqa: BLE001 - the rows are safe in the log; the next checkpoint takes these pages too
            self._log.warning("checkpoint_failed", error=str(error))


def _execute(connection: Connection, pragma: str) -> None:
    """Run a pragma outside of any transaction, where SQLAlchemy would begin one."""
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - an open connection has one
    driver.execute(pragma).fetchall()
