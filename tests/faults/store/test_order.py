"""The order of events at the kernel's door."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.support.load import live_row, quick_settings, stored_in_sqlite
from tests.support.processes import serving

IDENTITY = "traced-prediction"


@pytest.mark.fault
def test_the_row_is_synced_before_the_answer_leaves(tmp_path: Path, example_models: Path) -> None:
    """The row goes to the write-ahead log, the log is synced, and only then the first byte of the 200 is written."""
    trace = tmp_path / "trace"
    calls = "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg"
    # -D leaves the service the child of this process, so that signals reach it; -y names the files.
    tracer = ["strace", "-D", "-f", "-y", "-s", "8192", "-e", calls, "-o", str(trace)]
    with serving(tmp_path, models=example_models, settings=quick_settings(), under=tracer) as service:
        body = {"features": live_row(example_models), "prediction_id": IDENTITY}
        status = service.call("POST", "/predict", body)[0]
        service.end(signal.SIGTERM)
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    row = positions(lines, rf"pwrite64\(\d+<[^>]*-wal>.*{IDENTITY}")[0]
    thread = lines[row].split()[0]
    syncs = positions(lines, rf"^{thread} +(f(data)?sync\(.*-wal>\)|<\.\.\. f(data)?sync resumed>\)) += 0")
    synced = next(sync for sync in syncs if sync > row)
    answered = positions(lines, r"\(\d+<(socket|TCP).*HTTP/1\.1 200")[-1]

    assert status == 200
    assert row < synced < answered
    assert IDENTITY in stored_in_sqlite(tmp_path / "plumbline.db")


def positions(lines: list[str], pattern: str) -> list[int]:
    """The indexes of the lines that match."""
    expression = re.compile(pattern)
    return [index for index, line in enumerate(lines) if expression.search(line)]
