"""Background work: periodic tasks that are watched, and processes beside the service."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

import structlog
from structlog.typing import FilteringBoundLogger

from app.errors import Unavailable

TASK_PREFIX = "plumbline-"
"""Before the name of every periodic task, as asyncio shows it."""
WORK_PREFIX = "plumbline-work-"
"""Before the name of a task that ends by itself."""
STOP_S = 1.0
"""How long a stop waits for a turn that has begun."""
AT_ONCE = 0.0
"""A turn returns it where there may be more to do."""
StoreAway: TypeAlias = Literal["warn", "wait"]
"""The policy for a turn that raised Unavailable: log a warning, or wait for the next turn."""


class BackgroundTask(Protocol):
    """Work that must go on as long as the service runs; ``/health/ready`` asks whether it does."""

    @property
    def name(self) -> str:
        """Its name in the log and at ``/health/ready``, which everybody may read."""

    @property
    def alive(self) -> bool:
        """False once it has ended."""


def dead_tasks(tasks: Iterable[BackgroundTask]) -> list[str]:
    """The names of the tasks that have ended, each once, in order."""
    return sorted({task.name for task in tasks if not task.alive})


async def wait_for_event(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, and at most for so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


class PeriodicTask:
    """Repeats a turn until it is stopped. Start and stop it in one event loop.

    A turn that raises ends nothing: it is logged, and the next turn comes after the interval. A task that ends although
    nobody stopped it is logged at once as ``task_died``.

    Args:
        name: in the log and at ``/health/ready``, which everybody may read: no secret, no channel.
        turn: does the work once. It returns the seconds until the next turn, or None for the interval.
        interval_s: the time between two turns, unless :meth:`wake` is called.
        store_away: what follows a turn that raised Unavailable; the next turn comes in both cases.
        log: where the task reports its own failures.
        wait: waits for an event, at most for so many seconds. A test passes one that needs no time.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], Awaitable[float | None]],
        *,
        interval_s: float,
        store_away: StoreAway,
        log: FilteringBoundLogger | None = None,
        wait: Callable[[asyncio.Event, float], Awaitable[None]] = wait_for_event,
    ) -> None:
        self.name = name
        self._turn = turn
        self._interval_s = interval_s
        self._store_away = store_away
        self._log: FilteringBoundLogger = log or structlog.get_logger(name)
        self._wait = wait
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """True from the start on, also after the end."""
        return self._task is not None

    @property
    def alive(self) -> bool:
        """False before the start, and once the task has ended."""
        return self._task is not None and not self._task.done()

    def start(self, after_s: float = 0.0) -> None:
        """Start; the first turn begins after so many seconds."""
        apart = Context()  # it outlives the request that may have started it, and its lines name none
        self._task = asyncio.create_task(self._run(after_s), name=f"{TASK_PREFIX}{self.name}", context=apart)
        self._task.add_done_callback(self._report_death)

    def wake(self) -> None:
        """Take the next turn now; during a turn, take another one right behind it."""
        self._woken.set()

    async def stop(self, grace_s: float = STOP_S) -> None:
        """Take no more turns; one that has begun is cancelled after so many seconds."""
        if self._task is None:
            return
        self._stopping = True
        self.wake()
        if grace_s:
            await asyncio.wait([self._task], timeout=grace_s)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self, after_s: float) -> None:
        pause_s = after_s
        while True:
            if pause_s:
                await self._wait(self._woken, pause_s)
            if self._stopping:
                return
            self._woken.clear()
            pause_s = await self._take_turn()

    async def _take_turn(self) -> float:
        """Take one turn; the seconds until the next one."""
        pause_s = None
        try:
            pause_s = await self._turn()
        except Unavailable as error:
            if self._store_away == "warn":
                self._log.warning("turn_skipped", task=self.name, reason=str(error))
        except asyncio.CancelledError as error:
            if self._task is not None and self._task.cancelling():
                raise
            # The turn awaited something that was cancelled: nobody wants this task to end.
            self._log.exception("turn_failed", task=self.name, exc_info=error)
        except Exception as error:  # noqa: BLE001 - a turn that fails is logged, and the next one comes
            self._log.exception("turn_failed", task=self.name, exc_info=error)
        return self._interval_s if pause_s is None else pause_s

    def _report_death(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None or not self._stopping:
            self._log.critical("task_died", task=self.name, exc_info=error)


def start_work(name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task that ends by itself or is cancelled; a failure is logged at once."""

    def report_failure(task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            structlog.get_logger("background").error("work_failed", task=name, exc_info=error)

    task = asyncio.create_task(work, name=f"{WORK_PREFIX}{name}")
    task.add_done_callback(report_failure)
    return task


Result = TypeVar("Result")
LEAVE_S = 5.0
"""How long the end of the process waits for a call that has begun."""


async def run_in_daemon_thread(call: Callable[[], Result]) -> Result:
    """Run a call in a daemon thread of its own and return its result.

    The process could not end before a thread of asyncio's own pool does.
    """
    result: Future[Result] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            result.set_exception(error)

    Thread(target=run, name="plumbline-loading", daemon=True).start()
    waiting = asyncio.wrap_future(result)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await asyncio.wait([waiting], timeout=LEAVE_S)
        raise


class ChildFailed(Exception):
    """The process died, took too long, or was told to end."""


class Child:
    """The parent's side of the process.

    The process starts with the first question, and anew with the first one after its end.

    Args:
        target: what the process runs, with the pipe and ``arguments``; it ends when the pipe does.
    """

    start_method: ClassVar[Literal["spawn", "forkserver"]] = "spawn"
    """How a process starts that shares nothing with this one.

    A run of the tests starts hundreds, and sets ``forkserver``: a copy of a third process, which has imported already.
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
        self._start(multiprocessing.get_context(self.start_method))

    def ask(self, question: object, seconds: float) -> Any:
        """The answer.

        Raises:
            ChildFailed: there is none; the next question gets a new process.
        """
        if self._process is None or self._pipe is None or not self._process.is_alive():
            process = self._start(multiprocessing.get_context(self.start_method))
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
