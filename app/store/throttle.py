"""A check that had to wait for the processor has somebody busy beside it: it rests for several times as long."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

_BURST_S = 0.002
"""Processor time after which a rest may be due; the system looks at its next tick."""
_RESTS_PER_WAIT = 4.0
_SHORTEST_S, _LONGEST_S = 0.001, 0.25
_MOST_S = 60.0
"""Rest in one check: a machine that is always busy must not keep it from its end."""


class Pacing:
    """Rests of this process, which may use up idle moments of a busy processor, but not all of them.

    The lowest priority alone takes every moment in which the service waits for its disk: the service then finds its
    caches cold, and has no moment left to catch up in. On an idle processor there is no wait, and so no rest.

    Attributes:
        rested_s: time spent at rest in the latest check.
    """

    def __init__(self, engine: Engine) -> None:
        self.rested_s = 0.0
        self._held, self._resting = True, False
        self._used = self._began = 0.0
        event.listen(engine, "begin", self._hold)
        event.listen(engine, "before_cursor_execute", self._between_statements)
        event.listen(engine, "rollback", self._let_go)

    @contextmanager
    def check(self) -> Iterator[None]:
        """Rest from time to time within the block, which must be in the main thread."""
        signal.signal(signal.SIGPROF, self._after_burst)  # for good: unhandled, one more would end the process
        signal.siginterrupt(signal.SIGPROF, False)
        self.rested_s, self._held = 0.0, False
        self._start_burst()
        signal.setitimer(signal.ITIMER_PROF, _BURST_S, _BURST_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            self._held = True

    def _rest(self) -> None:
        if self._resting:  # the signal may come amid a rest that a statement has brought
            return
        self._resting = True
        used = time.process_time() - self._used
        if used >= _BURST_S:
            waited = time.monotonic() - self._began - used
            pause = min(waited * _RESTS_PER_WAIT, _LONGEST_S, _MOST_S - self.rested_s)
            if pause > _SHORTEST_S:
                time.sleep(pause)
                self.rested_s += pause
            self._start_burst()
        self._resting = False

    def _start_burst(self) -> None:
        self._used, self._began = time.process_time(), time.monotonic()

    def _after_burst(self, *_: object) -> None:
        if not self._held:  # amid a statement a rest would hold a snapshot, for which the writer pays
            self._rest()

    def _hold(self, *_: object) -> None:
        self._held = True

    def _between_statements(self, *_: object) -> None:
        self._rest()

    def _let_go(self, *_: object) -> None:
        self._held = False
