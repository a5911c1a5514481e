"""A process beside the service that answers one question at a time.

It is asked over a pipe, and is gone as soon as its parent is.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

import structlog


class ChildFailed(Exception):
    """The process died, took too long, or was told to end."""


class Child:
    """The parent's side of the process.

    The process starts with the first question, and anew with the first one after its end.

    Args:
        target: what the process runs, with the pipe and ``arguments``; it ends when the pipe does.
    """

    def __init__(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        self._name = name
        self._target = target
        self._arguments = arguments
        self._process: BaseProcess | None = None
        self._pipe: Pipe | None = None
        self._killed = False
        self._log = structlog.get_logger("child")

    @property
    def process(self) -> BaseProcess | None:
        """The process; None while there is none."""
        return self._process

    def fork(self) -> None:
        """Start the process now.

        It is a copy that shares this one's memory until one of the two writes.

        Only while no other thread runs and no file is open that the copy may not hold. On Linux alone: elsewhere the
        system's own libraries do not bear it, and the first question starts the process.
        """
        if sys.platform == "linux":
            self._start(multiprocessing.get_context("fork"))

    def spawn(self) -> None:
        """Start the process now, as one that shares nothing with this one."""
        self._start(multiprocessing.get_context("spawn"))

    def ask(self, question: object, seconds: float) -> Any:
        """The answer.

        Raises:
            ChildFailed: there is none; the next question gets a new process.
        """
        if self._process is None or self._pipe is None or not self._process.is_alive():
            process = self._start(multiprocessing.get_context("spawn"))
            self._log.info("process_started", process=self._name, pid=process.pid)
        assert self._pipe is not None  # noqa: S101 - _start has just made it
        try:
            if self._killed:
                raise ChildFailed("the service is shutting down")
            self._pipe.send(question)
            if not self._pipe.poll(seconds):
                raise ChildFailed(f"took longer than {seconds:g} s")
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise ChildFailed("the process died") from error
        except ChildFailed:
            self.end()
            raise

    def kill(self) -> None:
        """End the process for good, also in the midst of a question.

        The pipe is left to the thread that reads it.
        """
        self._killed = True
        process = self._process  # the thread that asks may drop it meanwhile
        if process is not None:
            process.kill()

    def end(self) -> None:
        """End the process and the pipe; only where nobody asks."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _start(self, context: BaseContext) -> BaseProcess:
        self._pipe, theirs = context.Pipe()
        ours = self._pipe if context.get_start_method() == "fork" else None
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # every concrete context has one
            target=_run, args=(ours, self._target, theirs, *self._arguments), name=self._name, daemon=True
        )
        process.start()
        self._process = process
        theirs.close()  # so that the child reads the end of the pipe when this process dies, however it dies
        return process


def _run(inherited: Pipe | None, target: Callable[..., None], *arguments: object) -> None:
    if inherited:
        inherited.close()  # a copy that held the parent's end too would never read the end of the pipe
    target(*arguments)


def stand_back(niceness: int) -> None:
    """In the process itself: leave the processor to the service, and the end to it too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(niceness)
