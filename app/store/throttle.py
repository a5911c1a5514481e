"""Pauses of a check.

Where it had to wait for the processor, the service is busy beside it, and comes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from sqlalchemy import Engine, event

PAUSE_PER_WAIT = 4.0
"""Seconds of pause for each second that the check was ready to run and had to wait."""
MIN_PAUSE_S, MAX_PAUSE_S = 0.001, 0.25
MAX_PAUSES_PER_CPU_S = 2.0
"""Seconds of pause for each second of processor time: a machine that is always busy must not keep a check for long."""
MAX_PAUSES_S = 3.0
"""Seconds of pause in one check."""

Pause: TypeAlias = Callable[[], None]
"""What a check calls between two of its steps, each of which takes some milliseconds."""


def no_pause() -> None:
    """Go on at once: for a check that nobody is disturbed by."""


class Throttle:
    """Decides after each step of a check how long the check pauses.

    A low priority alone lets a check take every moment in which the service waits for its disk. The service then finds
    its caches cold, and has no moment left to catch up in. On an idle processor a check does not wait, and so it does
    not pause.

    A pause is a plain sleep that the code of the check asks for, with no transaction open: while a reader holds a
    snapshot, SQLite's log cannot start anew, and the writer pays for its length.

    Attributes:
        paused_s: length of all pauses since the check began.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.process_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._sleep = sleep
        self.start()

    def start(self) -> None:
        """Begin a check, which may pause as long as any other."""
        self.paused_s = 0.0
        self._check_cpu_s = self._cpu_clock()
        self._start_step()

    def pause(self) -> None:
        """End a step: sleep in proportion to the time that it waited for the processor."""
        cpu_s = self._cpu_clock()
        waited_s = self._clock() - self._step_began_s - (cpu_s - self._step_cpu_s)
        most_s = min(MAX_PAUSES_PER_CPU_S * (cpu_s - self._check_cpu_s), MAX_PAUSES_S)
        seconds = min(PAUSE_PER_WAIT * waited_s, MAX_PAUSE_S, most_s - self.paused_s)
        if seconds >= MIN_PAUSE_S:
            self._sleep(seconds)
            self.paused_s += seconds
            self._start_step()

    def pause_between_statements(self, engine: Engine) -> None:
        """Pause before each statement on this engine.

        Its connections must hold no transaction between two statements.
        """
        event.listen(engine, "before_cursor_execute", self._before_statement)

    def _before_statement(self, *_: object) -> None:
        self.pause()

    def _start_step(self) -> None:
        self._step_began_s, self._step_cpu_s = self._clock(), self._cpu_clock()
