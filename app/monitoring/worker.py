"""The process that checks run in: niced, reading only, and gone as soon as its parent is."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from app.background import Child, ChildFailed, stand_back
from app.errors import describe_error
from app.monitoring.check_request import Check
from app.reports.drift import DriftReport
from app.reports.performance import PerformanceReport
from app.store.database import Engine, Pause, Throttle, open_readers
from app.types import ModelSchema

if TYPE_CHECKING:
    from app.monitoring.reference.reference import Reference

MAX_CHECK_S = 300.0
_WHOLE_COLLECTION = 100
"""Checks from one collection of all garbage to the next; between them, that of the latest check is collected."""
NICENESS = 5
"""A quarter of the processor beside one process that never waits; at 19 a check would get a hundredth, and not end."""

SHARED = ("numpy", "sqlalchemy.dialects.sqlite", "app.store.queries.windows", "app.store.queries.labelled")
"""What the service and its checks both load, and share where it is loaded before :meth:`Worker.fork`."""


class CheckFailed(Exception):
    """A check raised, or its process died; the text is for the report's error entry."""


class Worker:
    """The parent's side: one check at a time, off the event loop.

    The process starts with the first check, unless :meth:`fork` has started it before.
    """

    def __init__(self, store_url: str) -> None:
        self._child = Child("plumbline-checks", serve_checks, store_url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-checks")

    @property
    def process(self) -> BaseProcess | None:
        """The process that checks run in; None while there is none."""
        return self._child.process

    def fork(self) -> None:
        """Start the process now, so that it shares what this one has imported.

        See :meth:`Child.fork`.
        """
        self._child.fork()

    async def run(self, check: Check) -> DriftReport | PerformanceReport:
        """The body of the report.

        Raises:
            CheckFailed: the check raised, took too long, or its process died; the next check gets a new process.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, check)

    async def close(self) -> None:
        """End the process, also in the midst of a check."""
        self._child.kill()
        await asyncio.to_thread(self._thread.shutdown)
        self._child.end()

    def _ask(self, check: Check) -> DriftReport | PerformanceReport:
        try:
            answer = self._child.ask(check, MAX_CHECK_S)
        except ChildFailed as error:
            raise CheckFailed(f"the check: {error}") from error
        if isinstance(answer, str):
            raise CheckFailed(answer)
        body: DriftReport | PerformanceReport = answer
        return body


def serve_checks(pipe: Pipe, store_url: str) -> None:
    """The child's side: answer checks until the pipe ends."""
    stand_back(NICENESS)
    gc.disable()  # it would look through the rows of a large window again and again, in two fifths of the time to read
    engine = open_readers(store_url, snapshots=False)
    throttle = Throttle()
    throttle.pause_between_statements(engine)
    for number in count(1):
        try:
            check: Check = pipe.recv()
        except EOFError:
            return
        try:
            throttle.start()
            pipe.send(_answer(check, engine, throttle.pause))
        except Exception as error:  # noqa: BLE001 - whatever a check raises becomes the report's error, and the process lives
            pipe.send(describe_error(error))
        # What earlier checks have left alive is looked at again now and then only: that takes a tenth of a second.
        gc.collect(2 if number % _WHOLE_COLLECTION == 0 else 0)


def _answer(check: Check, engine: Engine, pause: Pause) -> DriftReport | PerformanceReport:
    from app.monitoring.checks import run_check  # SciPy: a second that the serving process need not spend

    with engine.connect() as connection:
        return run_check(check, connection, _reference(check.folder, check.schema), pause)


@lru_cache(maxsize=4)
def _reference(folder: Path, schema: ModelSchema) -> Reference:
    """A version's reference, read and sorted once."""
    from app.monitoring.reference.reference import load_reference

    return load_reference(folder, schema)
