"""Bodies that are made to become large once they are read: the service grows little, and answers all of them."""

from __future__ import annotations

import gzip
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.load import live_row, quick_settings
from tests.support.processes import Service, serving

pytestmark = pytest.mark.fault
BODY_BYTES = 8 * 2**20 - 100
MOST_GROWTH = 32 * 2**20
LOOK_S = 0.02


def filled(begin: bytes, item: bytes, end: bytes) -> bytes:
    """A body of the largest length, with one item again and again."""
    return begin + b",".join([item] * ((BODY_BYTES - len(begin) - len(end)) // (len(item) + 1))) + end


KEYS = b",".join(b'"k%d":0' % number for number in range(600_000))
PREDICT = {
    "unknown features": b'{"features":{' + KEYS + b"}}",
    "unknown fields": b"{" + KEYS + b"}",
    "values of a context": b'{"features":[1],"context":{' + KEYS + b"}}",
    "empty rows": filled(b'{"instances":[', b"[]", b"]}"),
    "numbers for rows": filled(b'{"instances":[', b"1", b"]}"),
    "rows nested 900 deep": filled(b'{"instances":[', b"[" * 900 + b"]" * 900, b"]}"),
    "numbers for features": filled(b'{"features":[', b"1e5", b"]}"),
    "features twice": filled(b'{"features":[', b"1", b'],"features":[1]}'),
    "ids": filled(b'{"instances":[[1]],"prediction_ids":[', b'"a"', b"]}"),
    "contexts": filled(b'{"instances":[[1]],"contexts":[', b"{}", b"]}"),
    "one text": b'{"features":["' + b"x" * (BODY_BYTES - 100) + '\N{PARTY POPPER}"]}'.encode(),
    "one number": b'{"features":[' + b"1" * (BODY_BYTES - 100) + b"]}",
    "nested objects": b'{"features":' + b'{"a":' * (BODY_BYTES // 7) + b"1" + b"}" * (BODY_BYTES // 7) + b"}",
}
OUTCOME = {
    "no outcomes": filled(b'{"outcomes":[', b"{}", b"]}"),
    "numbers for outcomes": filled(b'{"outcomes":[', b"1", b"]}"),
    "fields of one of many": b'{"outcomes":[{' + KEYS + b"}]}",
    "outcomes twice": filled(b'{"outcomes":[', b"1", b'],"outcomes":[1]}'),
    "a text": b'{"prediction_id":"' + b"x" * (BODY_BYTES - 100) + '\N{PARTY POPPER}","outcome":1}'.encode(),
}
BODIES = {f"{path} {name}": (path, body) for path, bodies in (("/predict", PREDICT), ("/outcome", OUTCOME))
          for name, body in bodies.items()}  # fmt: skip


def memory_bytes(service: Service) -> int:
    """The memory of a service, its share of what it has in common with others included."""
    found = re.search(
        r"^Pss: +(\d+)", Path(f"/proc/{service.process.pid}/smaps_rollup").read_text("ascii"), re.MULTILINE
    )
    assert found is not None
    return int(found[1]) * 1024


@contextmanager
def peak(service: Service) -> Iterator[list[int]]:
    """The growth of a service at its largest while the block runs, once it has ended."""
    before, ended, seen = memory_bytes(service), threading.Event(), [0]

    def look() -> None:
        while not ended.wait(LOOK_S):
            seen[0] = max(seen[0], memory_bytes(service) - before)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield seen
    finally:
        ended.set()
        watch.join()


def send(service: Service, path: str, body: bytes, headers: dict[str, str]) -> int:
    """The status of one answer."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=DEADLINE_S)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_large_body_costs_little_more_than_its_bytes(tmp_path: Path, example_models: Path, encoding: str) -> None:
    """Where nobody needs a key, no body of eight megabytes makes the service grow by 32 MiB, and none is a 5xx."""
    grown: dict[str, int] = {}
    statuses: dict[str, int] = {}
    with serving(tmp_path, models=example_models, settings=quick_settings()) as service:
        for _ in range(100):
            assert service.call("POST", "/predict", {"features": live_row(example_models)})[0] == 200
        for name, (path, body) in BODIES.items():
            sent = gzip.compress(body, 1) if encoding == "gzip" else body
            with peak(service) as seen:
                statuses[name] = send(service, path, sent, {"Content-Encoding": encoding})
            grown[name] = seen[0]
        assert service.call("POST", "/predict", {"features": live_row(example_models)})[0] == 200

    assert {name: size // 2**20 for name, size in grown.items() if size >= MOST_GROWTH} == {}
    assert {name: status for name, status in statuses.items() if status not in {200, 413, 422}} == {}
