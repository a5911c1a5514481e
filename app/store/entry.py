"""What waits in the journal, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from app.errors import Unavailable
from app.store.predictions import Taken
from app.store.writer import Write


@dataclass(slots=True, eq=False)
class Entry:
    """One caller's items.

    Attributes:
        rows: how many of them count towards the limit; our own acts do not, since they are few and must not starve.
        ledger: whether the ledger counts them, as it does predictions.
        spool: writes them into the spool while the store is away; None: they are refused then.
    """

    write: Write[Any, Any]
    items: Sequence[Any]
    future: asyncio.Future[list[Any]]
    rows: int
    ledger: bool
    spool: Write[Any, Any] | None = None


Settled: TypeAlias = tuple[Entry, list[Any] | BaseException, bool]
"""What became of one caller's items, and whether they were spooled: a plain tuple, made for every call."""


def reason_of(error: BaseException) -> str:
    """The ledger's word for a failure: a fixed set."""
    if isinstance(error, Unavailable):
        return "store"
    return "taken" if isinstance(error, Taken) else "refused"
