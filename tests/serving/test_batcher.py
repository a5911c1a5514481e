"""Batched answers are single answers, whoever else is in the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as some
from prometheus_client import Histogram

from app.errors import Invalid, ModelFailed, NoAnswer
from app.serving.batcher import Batcher, Cost
from app.serving.bundle.reader import read_bundle
from app.serving.runtimes.base import Runtime
from app.types import Answer, Row
from tests.support.deadlines import DEADLINE_S
from tests.support.models.tasks import Fitted

Fate: TypeAlias = Literal["stays", "leaves early", "leaves late", "is poisoned"]
ROWS = 60
TOLERANCE = {"sklearn": 1e-12, "onnx": 1e-6}


class Caller(NamedTuple):
    """The rows that one caller sends, by number, and what becomes of it."""

    rows: list[int]
    fate: Fate


CALLERS = some.lists(
    some.builds(
        Caller,
        some.lists(some.integers(0, ROWS - 1), min_size=1, max_size=4),
        some.sampled_from(["stays", "stays", "leaves early", "leaves late", "is poisoned"]),
    ),
    min_size=1,
    max_size=12,
)


class Scene:
    """A real model behind a real batcher, and callers that come at one moment."""

    def __init__(self, runtime: Runtime, rows: Sequence[Row], *, slow: bool, most: int) -> None:
        self._runtime = runtime
        self._rows = rows
        self._poison: Row = ["poison"] * len(rows[0])
        cost = Cost(1.0, 0.0) if slow else Cost(0.0, 0.0)
        histogram = Histogram("rows", "rows", registry=None)
        self._batcher = Batcher(self._predict, cost, histogram, max_batch_rows=most, max_queue_rows=1_000)
        self._late: list[asyncio.Task[Any]] = []

    async def play(self, callers: Sequence[Caller]) -> list[list[Answer] | BaseException]:
        """What each caller gets."""
        self._loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(self._batcher.predict(self._sent(caller))) for caller in callers]
        fates = [caller.fate for caller in callers]
        self._late = [task for task, fate in zip(tasks, fates, strict=True) if fate == "leaves late"]
        await asyncio.sleep(0)
        for task, fate in zip(tasks, fates, strict=True):
            if fate == "leaves early":
                task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(await self._batcher.predict(self._rows[:1])) == 1
        self._batcher.close()
        return answers

    def _sent(self, caller: Caller) -> list[Row]:
        rows = [self._rows[number] for number in caller.rows]
        return [*rows, self._poison] if caller.fate == "is poisoned" else rows

    def _predict(self, rows: Sequence[Row]) -> list[Answer]:
        """Let the late ones leave while the model is at work, then let it work."""
        left = Event()
        if current_thread() is main_thread():
            self._leave(left)
        else:
            self._loop.call_soon_threadsafe(self._leave, left)
        assert left.wait(DEADLINE_S)
        return self._runtime.predict(rows)

    def _leave(self, left: Event) -> None:
        for task in self._late:
            task.cancel()
        left.set()


@pytest.mark.parametrize("name", ["mixed", "three", "price"])
@pytest.mark.parametrize("kind", ["sklearn", "onnx"])
def test_batched_is_single(small_models: tuple[Path, dict[str, Fitted]], kind: Any, name: str) -> None:
    """Whoever stays gets, row by row, what the model says to the row alone; the poisoned fail, and nobody else does."""
    estimator, rows, alone = _answered_singly(small_models, kind, name)

    @settings(max_examples=40)
    @given(CALLERS, some.booleans(), some.integers(1, 16))
    def holds(callers: list[Caller], slow: bool, most: int) -> None:
        with structlog.testing.capture_logs():
            results = asyncio.run(Scene(estimator, rows, slow=slow, most=most).play(callers))
        for caller, result in zip(callers, results, strict=True):
            match caller.fate:
                case "stays":
                    assert isinstance(result, list)
                    assert_same(result, [alone[number] for number in caller.rows], TOLERANCE[kind])
                case "is poisoned":
                    assert isinstance(result, ModelFailed)
                case "leaves early" | "leaves late":
                    assert isinstance(result, asyncio.CancelledError | list)

    holds()


def test_a_crowd_without_end_is_answered() -> None:
    """Where more callers come than a call takes, nobody waits for more than a full batch."""
    batches: list[int] = []

    def predict(rows: Sequence[Row]) -> list[Answer]:
        batches.append(len(rows))
        return [Answer(1.0, None)] * len(rows)

    async def crowd() -> None:
        sizes = Histogram("rows", "rows", registry=None)
        batcher = Batcher(predict, Cost(1.0, 0.0), sizes, max_batch_rows=8, max_queue_rows=100)
        await asyncio.gather(*(batcher.predict([[1.0]]) for _ in range(30)))
        batcher.close()

    asyncio.run(crowd())
    assert batches == [8, 8, 8, 6]


def test_a_row_without_an_answer_is_refused() -> None:
    """Where the model's answer is no number, that caller is told so, and its neighbour is answered."""

    def predict(rows: Sequence[Row]) -> list[Answer]:
        if [1e300] in rows:
            raise NoAnswer("the model has no answer to a row")
        return [Answer(1.0, None)] * len(rows)

    async def crowd() -> list[Any]:
        sizes = Histogram("rows", "rows", registry=None)
        batcher = Batcher(predict, Cost(1.0, 0.0), sizes, max_batch_rows=8, max_queue_rows=100)
        found = await asyncio.gather(*(batcher.predict([[value]]) for value in (1.0, 1e300)), return_exceptions=True)
        batcher.close()
        return found

    answered, refused = asyncio.run(crowd())
    assert answered == [Answer(1.0, None)]
    assert isinstance(refused, Invalid)
    assert [error.field for error in refused.fields] == ["features"]


def _answered_singly(
    small_models: tuple[Path, dict[str, Fitted]], kind: Any, name: str
) -> tuple[Runtime, list[Row], list[Answer]]:
    """A model, rows for it, and what it says to each of them alone."""
    models, fitted = small_models
    bundle = read_bundle(models / name / "1", runtime=kind)
    order = [feature.name for feature in bundle.schema.features]
    rows: list[Row] = [[row[column] for column in order] for row in fitted[name].rows[:ROWS]]
    return bundle.estimator, rows, [bundle.estimator.predict([row])[0] for row in rows]


def assert_same(batched: Sequence[Answer], alone: Sequence[Answer], tolerance: float) -> None:
    """The same labels, and probabilities within the tolerance; a regression's numbers too."""
    for one, other in zip(batched, alone, strict=True):
        assert (one.probabilities is None) == (other.probabilities is None)
        if one.probabilities is not None:
            assert one.prediction == other.prediction
            assert one.probabilities == pytest.approx(other.probabilities, rel=0, abs=tolerance)
        else:
            assert one.prediction == pytest.approx(other.prediction, rel=tolerance)


@pytest.mark.parametrize(
    ("cost", "rows", "inline"),
    [
        (Cost(0.0, 0.0), 8, True),
        (Cost(0.0, 0.0), 9, False),
        (Cost(0.0, 0.0005), 4, True),
        (Cost(0.0, 0.0005), 5, False),
        (Cost(0.0021, 0.0), 1, False),
        (Cost(0.0, 0.003), 1, False),
    ],
)
def test_what_is_over_in_a_moment_runs_in_the_event_loop(cost: Cost, rows: int, inline: bool) -> None:
    """Rows that fit into two milliseconds and a batch are answered in the event loop, others in the model's thread."""
    threads = []

    def predict(part: Sequence[Row]) -> list[Answer]:
        threads.append(current_thread())
        return [Answer(1.0, None)] * len(part)

    async def ask() -> None:
        sizes = Histogram("rows", "rows", registry=None)
        batcher = Batcher(predict, cost, sizes, max_batch_rows=8, max_queue_rows=100)
        assert len(await batcher.predict([[1.0]] * rows)) == rows
        batcher.close()

    asyncio.run(ask())
    assert {thread is main_thread() for thread in threads} == {inline}
