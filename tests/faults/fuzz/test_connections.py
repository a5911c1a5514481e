"""Streams of bytes that are nearly HTTP, against a real service, over the fast path and over ASGI."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.http.exchanges import CLIENTS, CORPUS
from tests.support.http.fuzz import assert_unharmed, examples
from tests.support.http.streams import answers, stream
from tests.support.load import quick_settings
from tests.support.models.tasks import Fitted
from tests.support.processes import Service, resident_bytes, serving

pytestmark = pytest.mark.fault
STREAMS = 2000
AT_ONCE = 16
WARM = 200
"""Streams after which a service has made what it keeps."""
PATHS = {"fast": (), "asgi": (sys.executable, "-m", "tests.support.http.asgi_service")}
ROW = [0.1, 0.2, 0.3]


async def send_all(service: Service, seeds: range) -> tuple[Counter[int], list[str]]:
    """How often each status was answered, and for each stream that was answered wrongly its seed and what was wrong."""
    corpus = [*CORPUS.values(), *CLIENTS.values()]
    free = asyncio.Semaphore(AT_ONCE)
    found: Counter[int] = Counter()
    wrong: list[str] = []

    async def send(seed: int) -> None:
        async with free:
            sent = stream(corpus, seed)
            try:
                told = await answers(service.port, sent) or []
            except (AssertionError, TimeoutError, OSError) as error:
                wrong.append(f"{seed}: {error!r:.500}: {b''.join(sent.pieces)!r:.2000}")
                return
            found.update(told)
            if odd := [status for status in told if not (status == 100 or 200 <= status < 500)]:
                wrong.append(f"{seed}: {odd}: {b''.join(sent.pieces)!r:.2000}")

    await asyncio.gather(*map(send, seeds))
    return found, wrong


@pytest.mark.parametrize("path", PATHS)
def test_every_stream_is_answered_or_ended(
    tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]], path: str
) -> None:
    """Whole answers of 2xx or 4xx, then the end; memory stays, and an honest client is answered."""
    hosts = '["x", "localhost", "127.0.0.1"]'  # those of the corpus, and ours
    settings = quick_settings(SERVING__ACTIVE="text", SERVER__RECEIVE_TIMEOUT="2s", SERVER__TRUSTED_HOSTS=hosts)
    with serving(tmp_path, models=small_models[0], settings=settings, under=PATHS[path]) as service:
        asyncio.run(send_all(service, range(WARM)))
        before = resident_bytes(service)
        found, wrong = asyncio.run(send_all(service, range(WARM, WARM + examples(STREAMS))))
        grown = resident_bytes(service) - before
        assert_unharmed(service, ROW)

    assert wrong == []
    assert grown < 32 * 2**20
    assert min(found[200], found[400], found[422]) > examples(STREAMS) / 20
