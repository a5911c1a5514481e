"""The process that checks run in: niced, reading only, and gone as soon as its parent is."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from importlib.abc import MetaPathFinder
from multiprocessing.connection import Connection as Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.monitoring.check import Check
from app.store.engine import Engine, open_readers
from app.types import Json, ModelSchema

if TYPE_CHECKING:
    from app.monitoring.reference import Reference

NICENESS = 10
LONGEST_CHECK_S = 300.0


class CheckFailed(Exception):
    """A check raised, or its process died; the text is for the report's error entry."""


class Worker:
    """The parent's side: one check at a time, off the event loop. The process starts with the first check."""

    def __init__(self, store_url: str) -> None:
        self._store_url = store_url
        self._process: BaseProcess | None = None
        self._pipe: Pipe | None = None
        self._closing = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plumbline-checks")
        self._log = structlog.get_logger("worker")

    async def run(self, check: Check) -> Json:
        """The body of the report.

        Raises:
            CheckFailed: the check raised, took too long, or its process died; the next check gets a new process.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, check)

    async def close(self) -> None:
        """End the process, also in the midst of a check. The pipe is left to the thread that reads it."""
        self._closing = True
        if self._process is not None:
            self._process.kill()
        await asyncio.to_thread(self._thread.shutdown)
        self._end()

    def _ask(self, check: Check) -> Json:
        if self._process is None or self._pipe is None or not self._process.is_alive():
            self._start()
        assert self._pipe is not None  # noqa: S101 - _start has just made it
        try:
            if self._closing:
                raise CheckFailed("the service is shutting down")
            self._pipe.send(check)
            if not self._pipe.poll(LONGEST_CHECK_S):
                raise CheckFailed(f"the check took longer than {LONGEST_CHECK_S:g} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._end()
            raise CheckFailed("the process of the checks died") from error
        except CheckFailed:
            self._end()
            raise
        if isinstance(answer, str):
            raise CheckFailed(answer)
        body: Json = answer
        return body

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        process = context.Process(
            target=serve_checks, args=(theirs, self._store_url), name="plumbline-checks", daemon=True
        )
        process.start()
        self._process = process
        theirs.close()  # so that the child reads the end of the pipe when this process dies, however it dies
        self._log.info("check_process_started", pid=process.pid)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None


def serve_checks(pipe: Pipe, store_url: str) -> None:
    """The child's side: answer checks until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    sys.meta_path.insert(0, _WithoutPandas())
    gc.disable()  # it would look through the rows of a large window again and again, in two fifths of the time to read
    engine = open_readers(store_url, snapshots=False)
    while True:
        try:
            check: Check = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(_answer(check, engine))
        except Exception as error:  # noqa: BLE001 - whatever a check raises becomes the report's error, and the process lives
            pipe.send(f"{type(error).__name__}: {error}")
        gc.collect()


class _WithoutPandas(MetaPathFinder):
    """Hides pandas from scikit-learn, which would load it where it is installed: 60 MiB for no use in a check."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Refuse pandas; leave every other module to the finders behind."""
        del path, target
        if fullname == "pandas":
            raise ModuleNotFoundError(name=fullname)


def _answer(check: Check, engine: Engine) -> Json:
    from app.monitoring.checks import run_check  # SciPy: a second that the serving process need not spend

    with engine.connect() as connection:
        return run_check(check, connection, _reference(check.folder, check.schema))


@lru_cache(maxsize=4)
def _reference(folder: Path, schema: ModelSchema) -> Reference:
    """A version's reference, read and sorted once."""
    from app.monitoring.reference import load_reference

    return load_reference(folder, schema)
