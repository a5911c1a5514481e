"""What the disk and SQLite can do by themselves, to measure the service against."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from sqlalchemy import func, select, text

from app.store.database import open_database, open_readers
from app.store.migrate import upgrade
from app.store.tables import PREDICTIONS
from app.types import new_id

PAGE = bytes(4096)
GROUP = 1000
"""Rows in a transaction of the bare executemany: as many as there are in a body."""


def fsync_ms(folder: Path, times: int = 500) -> tuple[float, float]:
    """p50 and p99 of a 4 kB append with its fdatasync, in milliseconds."""
    seconds = []
    file = folder / "fsync"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(times):
            started = time.perf_counter()
            os.write(descriptor, PAGE)
            os.fdatasync(descriptor)
            seconds.append(time.perf_counter() - started)
    finally:
        os.close(descriptor)
        file.unlink()
    p50, p99 = np.quantile(seconds, (0.5, 0.99)) * 1e3
    return float(p50), float(p99)


def executemany_rate(store: str, folder: Path, groups: int) -> float:
    """Rows a second of the driver's ``executemany`` alone, with the rows of a store, into a store of the same make.

    The same table, indexes and ``synchronous=FULL``; new ids that rise as the service's do; making rows is not counted.
    """
    source = open_readers(store)
    with source.connect() as connection:
        rows = [tuple(row) for row in connection.execute(select(PREDICTIONS).limit(GROUP))]
    source.dispose()
    prepared = [[(new_id(), *row[1:]) for row in rows] for _ in range(groups)]
    insertion = f"INSERT INTO predictions VALUES ({', '.join('?' * len(PREDICTIONS.columns))})"  # noqa: S608 - no input
    database = open_database(f"sqlite:///{folder / 'executemany.db'}")
    try:
        upgrade(database.writer)
        with database.writer.connect() as connection:
            started = time.perf_counter()
            for group in prepared:
                with connection.begin():
                    connection.exec_driver_sql(insertion, group)
            return groups * len(rows) / (time.perf_counter() - started)
    finally:
        database.close()


def stored(url: str) -> tuple[int, float]:
    """Rows in a store's ``predictions``, and the bytes that one takes, indexes included."""
    engine = open_readers(url)
    size = "SELECT pg_total_relation_size('predictions')"
    if engine.dialect.name == "sqlite":
        size = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    with engine.connect() as connection:
        rows = connection.execute(select(func.count()).select_from(PREDICTIONS)).scalar_one()
        held = connection.execute(text(size)).scalar_one()
    engine.dispose()
    return rows, held / max(rows, 1)
