"""The closed-loop load, by every driver that is installed: prepared ids go out once each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from benchmarks.load.bodies import OUTCOME
from benchmarks.load.closed_loop import NO_ID_LEFT, Loader
from tests.support.deadlines import DEADLINE_S

LOADERS = [Loader(found) for found in (None, shutil.which("wrk")) if found or found is None]


@contextmanager
def listening() -> Iterator[tuple[int, list[str]]]:
    """A server on a port, and the ids that it has been told; an id that is none is refused."""
    told: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.append(json.loads(body)["prediction_id"])
            self.send_response(404 if told[-1] == NO_ID_LEFT else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1], told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)
def test_each_id_is_used_once_and_their_end_is_a_failure(loader: Loader, tmp_path: Path) -> None:
    """No outcome is a repetition, and a run with too few ids cannot look like a good one."""
    body, ids = tmp_path / "body", tmp_path / "ids"
    body.write_bytes(OUTCOME)
    ids.write_text("".join(f"id-{number}\n" for number in range(20)), encoding="ascii")
    told: list[str] = []
    seconds = 1
    while NO_ID_LEFT not in told:  # a slow machine needs longer to come to the end of the ids
        assert seconds < DEADLINE_S
        with listening() as (port, told):
            figures = loader.run(port, body, connections=2, seconds=seconds, path="/outcome", ids=ids)
        seconds *= 4

    used = [name for name in told if name != NO_ID_LEFT]
    assert len(used) == len(set(used))
    assert set(used) >= {f"id-{number}" for number in range(2, 20)}
    assert figures.failed > 0
