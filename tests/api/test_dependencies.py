"""Long work in other threads is done in turn, by few, and once for all who ask together."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from sqlalchemy import Connection

from app.api.dependencies import MAX_STREAMS, MAX_WAITING, SWITCH_S, SharedRender, Turns
from app.api.endpoints import predictions
from app.api.endpoints.histories import HISTORY_PART
from app.errors import Unavailable
from app.store.queries import labelled
from app.store.queries import reports as stored_reports
from app.types import Json, Micros, Report, new_id
from tests.api.conftest import Start
from tests.support.application import Client
from tests.support.rows import EMPTY_BODY

ROW = {"age": 30, "income": 1.5, "channel": "web", "member": True}


class Stream:
    """Something that has a place among the streams."""


@pytest.mark.anyio
async def test_long_work_gives_python_back_often() -> None:
    """While a part runs, its thread gives Python back ten times as often; after it, also a failed one, as before."""
    turns, usual = Turns(), sys.getswitchinterval()
    seen: list[float] = []

    async def work() -> None:
        seen.append(await asyncio.to_thread(sys.getswitchinterval))
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        await turns.run(work)

    assert seen == [pytest.approx(SWITCH_S)]
    assert sys.getswitchinterval() == usual


@pytest.mark.anyio
async def test_one_part_at_a_time() -> None:
    """Parts that come together are done one behind the other."""
    turns, running, most = Turns(), 0, 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await asyncio.gather(*(turns.run(work) for _ in range(20)))
    assert most == 1


@pytest.mark.anyio
async def test_a_failed_part_gives_the_turn_back() -> None:
    """The next part is done although the one before raised."""
    turns = Turns()

    async def fail() -> int:
        raise ValueError("no good")

    async def work() -> int:
        return 7

    with pytest.raises(ValueError, match="no good"):
        await turns.run(fail)
    assert await turns.run(work) == 7


@pytest.mark.anyio
async def test_a_long_queue_is_refused() -> None:
    """Callers beyond the bound are told to come back."""
    turns, opened = Turns(), asyncio.Event()
    waiting = [asyncio.create_task(turns.run(opened.wait)) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await turns.run(opened.wait)
    opened.set()

    assert len(await asyncio.gather(*waiting)) == MAX_WAITING


def test_a_few_streams_at_once() -> None:
    """One more is refused; it gets the place of one that has ended, or that nobody holds any more."""
    turns, streams = Turns(), [Stream() for _ in range(MAX_STREAMS)]
    for stream in streams:
        turns.begin_stream(stream)
    with pytest.raises(Unavailable, match="exports are under way"):
        turns.begin_stream(Stream())

    turns.end_stream(streams[0])
    turns.begin_stream(streams[0])
    del stream, streams[1:]
    turns.begin_stream(Stream())


@pytest.mark.anyio
async def test_callers_share_the_text_that_is_made_next() -> None:
    """Those that come while a text is made get one that was begun after they came, and all the same."""
    shared, begun, opened, made = SharedRender(), threading.Event(), threading.Event(), []

    def make() -> bytes:
        made.append(threading.get_ident())
        begun.set()
        opened.wait()
        return b"%d" % len(made)

    first = asyncio.create_task(shared.get("key", make))
    await asyncio.to_thread(begun.wait)
    later = [asyncio.create_task(shared.get("key", make)) for _ in range(20)]
    await asyncio.sleep(0)
    opened.set()

    assert await first == b"1"
    assert set(await asyncio.gather(*later)) == {b"2"}
    assert threading.get_ident() not in made


def export(client: Client, form: str) -> bytes:
    """All rows in a format."""
    answer = client.get("/predictions", params={"format": form})
    assert answer.status_code == 200
    return answer.content


def test_exports_are_rendered_off_the_event_loop(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of every format, and of a page, is rendered in another thread, in parts of a bounded size."""
    client, threads, parts = start("mixed"), set(), []
    client.post("/predict", {"instances": [ROW] * 450})
    render = predictions.render

    def noting(*row: object) -> object:
        threads.add(threading.get_ident())
        return render(*row)  # type: ignore[arg-type]  # as it came

    def counting(*asked: object) -> object:
        rows = labelled.read_page(*asked)  # type: ignore[arg-type]  # as it came
        parts.append(len(rows))
        return rows

    monkeypatch.setattr(predictions, "render", noting)
    monkeypatch.setattr(predictions, "read_page", counting)
    lines = {form: export(client, form).count(b"\n") for form in ("jsonl", "csv", "parquet")}
    assert len(client.get("/predictions", params={"limit": 300}).json()["items"]) == 300

    assert (lines["jsonl"], lines["csv"]) == (450, 451)
    assert max(parts[:-1]) == predictions.EXPORT_CHUNK
    assert client.portal.call(threading.get_ident) not in threads


def test_histories_are_read_in_parts_off_the_event_loop(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a page of a history is, a few reports are in memory at once, and none is read in the loop."""
    client, threads, parts = start("mixed"), set(), []
    history = stored_reports.history

    def save(connection: Connection) -> None:
        for number in range(50):
            report_id = new_id((1_000 + number) * 1_000)
            report = Report(report_id, "drift", "mixed", "1", Micros(1_000 + number), "stable", EMPTY_BODY)
            stored_reports.save(connection, report)

    def noting(connection: Connection, *asked: Any, **bounds: Any) -> Any:
        threads.add(threading.get_ident())
        found = history(connection, *asked, **bounds)
        parts.append(len(found))
        return found

    client.wait_for(partial(client.services.journal.run, save))
    monkeypatch.setattr(stored_reports, "history", noting)
    first = client.get("/drift/history", params={"limit": 45}).json()
    second = client.get("/drift/history", params={"cursor": first["next"]}).json()

    assert (len(first["items"]), len(second["items"]), second["next"]) == (45, 5, None)
    assert max(parts) <= HISTORY_PART
    assert client.portal.call(threading.get_ident) not in threads


@pytest.mark.parametrize("limit", [1, 200, 201, 399, 400, 450, 1000])
def test_a_page_is_whole_whatever_its_parts(start: Start, limit: int) -> None:
    """Pages of any size follow each other without a gap or a repetition."""
    client = start("mixed")
    ids = [f"p{number:03}" for number in range(450)]
    client.post("/predict", {"instances": [ROW] * 450, "prediction_ids": ids})
    first = client.get("/predictions", params={"limit": limit}).json()
    rest: Json = {"items": [], "next": None}
    if first["next"] is not None:
        rest = client.get("/predictions", params={"limit": 1000, "cursor": first["next"]}).json()

    assert len(first["items"]) == min(limit, 450)
    assert [item["prediction_id"] for item in (*first["items"], *rest["items"])] == ids
    assert rest["next"] is None


def calls_of(dependant: Dependant) -> Iterator[Any]:
    """What the framework calls for a route: its endpoint and all that this depends on."""
    yield dependant.call
    for inner in dependant.dependencies:
        yield from calls_of(inner)


def test_no_dependency_takes_a_thread(mixed: Client) -> None:
    """Every endpoint and dependency runs in the event loop: a thread for each costs more than they do."""
    routes = [context for context in iter_route_contexts(mixed.app.routes) if hasattr(context, "dependant")]
    calls = [call for route in routes for call in calls_of(route.dependant)]

    assert len(calls) > 50
    assert [call for call in calls if not inspect.iscoroutinefunction(call)] == []
