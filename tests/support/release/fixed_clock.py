"""A clock that stands still: the process and the SQLite database both read it.

The service takes its own time from ``time.time_ns`` and the time of leases and checks from the database
(``julianday('now')``), so both are replaced. Lengths of time (``time.monotonic``) run as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from sqlalchemy import event
from sqlalchemy.pool import Pool

from app.types import SECOND, Micros

STEP_S = 675
"""1/128 of a day. SQLite's Julian days are binary fractions, so a multiple of this is exact to the microsecond."""
_DAY = 86_400 * SECOND
_JULIAN_DAY_OF_1970 = 2_440_587.5


class FixedClock:
    """Says the same moment until it is set.

    Attributes:
        now: the moment.
    """

    def __init__(self, now: Micros) -> None:
        self.now = now

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Let this process and the SQLite connections that it opens read this clock."""
        event.listen(Pool, "connect", self._install_in_database)
        try:
            with patch("time.time_ns", lambda: self.now * 1000):
                yield
        finally:
            event.remove(Pool, "connect", self._install_in_database)

    def _install_in_database(self, connection: Any, _record: object) -> None:
        connection.create_function("julianday", 1, self._julian_day)

    def _julian_day(self, moment: str) -> float:
        if moment != "now":
            raise ValueError("this clock only says what time it is now")
        return self.now / _DAY + _JULIAN_DAY_OF_1970
