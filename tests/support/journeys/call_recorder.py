"""Records which functions of the application run between two moments, in every thread and in forked processes."""

from __future__ import annotations

import inspect
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

APP = Path(__file__).parents[3] / "app"
_BEGINNINGS = ("/threading.py", "/asyncio/runners.py", "/multiprocessing/process.py")
"""Files in whose frames a thread, a task or a process begins."""


class Function(NamedTuple):
    """A function of the application; ``file`` is relative to ``app/``."""

    file: str
    name: str


class Call(NamedTuple):
    """A call.

    Attributes:
        section: the number of the section in which it happened.
        process: the id of the process.
        in_task: whether the path begins with a coroutine.
        path: the functions on the stack, from the one where the task or thread began to the one that was called.
    """

    section: int
    process: int
    in_task: bool
    path: tuple[Function, ...]


class CallRecorder:
    """Notes each call once for each section and path.

    Module and class bodies are no functions; neither are lambdas and comprehensions, of which newer versions of Python
    run some in place.

    Args:
        log: the file that all processes write to.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self._section = mmap.mmap(-1, 1)  # shared with forked processes
        self._seen: set[tuple[int, tuple[CodeType, ...]]] = set()
        self._prefix = f"{APP}{os.sep}"

    def install(self) -> None:
        """Watch this thread and all that start later, here and in processes that this thread forks."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def begin(self, section: int) -> None:
        """Begin a section, 1 to 255."""
        self._section[0] = section

    def end(self) -> None:
        """End the section."""
        self._section[0] = 0

    @property
    def section(self) -> int:
        """The section that runs; 0 between sections."""
        return self._section[0]

    @contextmanager
    def recording(self, section: int) -> Iterator[None]:
        """Record the block as a section."""
        self.begin(section)
        try:
            yield
        finally:
            self.end()

    def calls(self) -> list[Call]:
        """All calls so far."""
        found = []
        for line in self._log.read_text(encoding="utf-8").splitlines():
            section, process, in_task, *path = line.split("\t")
            functions = tuple(Function(*each.split(":")) for each in path)
            found.append(Call(int(section), int(process), in_task == "task", functions))
        return found

    def _profile(self, frame: FrameType, event: str, _argument: object) -> None:
        section = self._section[0]
        if not section or event != "call" or not self._counts(frame.f_code):
            return
        path = tuple(self._path_to(frame))[::-1]
        if (section, path) in self._seen:
            return
        self._seen.add((section, path))
        begins = "task" if path[0].co_flags & inspect.CO_COROUTINE else "callback"
        names = [f"{code.co_filename.removeprefix(self._prefix)}:{code.co_qualname}" for code in path]
        os.write(self._file, ("\t".join([str(section), str(os.getpid()), begins, *names]) + "\n").encode())

    def _path_to(self, frame: FrameType | None) -> Iterator[CodeType]:
        while frame is not None and not frame.f_code.co_filename.endswith(_BEGINNINGS):
            if self._counts(frame.f_code):
                yield frame.f_code
            frame = frame.f_back

    def _counts(self, code: CodeType) -> bool:
        if not code.co_filename.startswith(self._prefix) or code.co_name.startswith("<"):
            return False
        return bool(code.co_flags & inspect.CO_OPTIMIZED)
