"""Run a shadow's model in a process of its own.

What it raises, how long it takes and how it ends cannot harm the service.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import TypeAlias

from app.config.settings import Serving
from app.serving.bundle.reader import read_bundle
from app.subprocess_worker import Child, stand_back
from app.types import Answer, Row

NICENESS = 10
MAX_LOAD_S = 300.0
MAX_CALL_S = 60.0
"""On a busy machine a shadow waits for its turn."""
REASON = 300
"""Characters of a reason that are kept."""
Answered: TypeAlias = Answer | str
"""An answer, or the reason why there is none."""


class ShadowRefused(Exception):
    """The bundle cannot be loaded, or cannot serve."""


class ShadowProcess:
    """The parent's side; call it from one thread."""

    def __init__(self, version: str, folder: Path, settings: Serving, *, longest_call_s: float = MAX_CALL_S) -> None:
        self._longest_call_s = longest_call_s
        self._child = Child(f"plumbline-shadow-{version}", serve_answers, folder, settings)

    def predict(self, rows: Sequence[Row]) -> list[Answered]:
        """An answer to each row, or the reason why there is none.

        Raises:
            ShadowRefused: the version does not load.
            ChildFailed: the process died or hung; the next call begins with a new one.
        """
        if self._child.process is None:
            self._ask((), MAX_LOAD_S)
        return self._ask(rows, self._longest_call_s)

    def kill(self) -> None:
        """End the process, also in the midst of a call."""
        self._child.kill()

    def close(self) -> None:
        """Give the process up; only where nobody calls."""
        self._child.end()

    def _ask(self, rows: Sequence[Row], seconds: float) -> list[Answered]:
        answered: list[Answered] | str = self._child.ask(rows, seconds)
        if isinstance(answered, str):
            self._child.end()
            raise ShadowRefused(answered)
        return answered


def serve_answers(pipe: Pipe, folder: Path, settings: Serving) -> None:
    """The child's side: load the version, then answer rows until the pipe ends."""
    stand_back(NICENESS)
    refusal, predict = None, None
    try:
        predict = read_bundle(
            folder,
            allow_pickle=settings.allow_pickle,
            trusted_types=settings.trusted_types,
            runtime=settings.runtime,
        ).estimator.predict
    except Exception as error:  # noqa: BLE001 - whatever loading foreign code raises is the reason why there is no shadow
        refusal = _reason(error)
    while True:
        try:
            rows: Sequence[Row] = pipe.recv()
        except EOFError:
            return
        pipe.send(refusal if predict is None else answer(predict, rows, settings.max_batch_rows))


def answer(predict: Callable[[Sequence[Row]], list[Answer]], rows: Sequence[Row], most: int) -> list[Answered]:
    """Answer each row.

    Where a call fails, its rows are tried singly, so that only the guilty row has no answer.
    """
    answered: list[Answered] = []
    for start in range(0, len(rows), most):
        part = rows[start : start + most]
        try:
            found = predict(part)
            if len(found) != len(part):
                raise ValueError(f"the model gave {len(found)} answers to {len(part)} rows")
        except Exception as error:  # noqa: BLE001 - as above
            single = len(part) == 1
            answered += [_reason(error)] if single else [each for row in part for each in answer(predict, [row], 1)]
        else:
            answered += found
    return answered


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:REASON]
