"""The process that checks run in ends when it is told to, whatever it is doing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.monitoring.worker import CheckFailed, Worker


def test_closing_in_the_midst_of_a_check_is_clean(tmp_path: Path) -> None:
    """A check that runs at the end fails in one piece, and no process stays behind."""

    async def scenario() -> tuple[object, Any]:
        worker, check = Worker(f"sqlite:///{tmp_path / 'store.db'}"), None
        asked = asyncio.ensure_future(worker.run(check))  # type: ignore[arg-type]  # it never gets as far as looking at it
        while worker.process is None:  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0)
        process = worker.process
        await worker.close()
        with pytest.raises(CheckFailed):
            await asked
        return worker.process, process.exitcode

    left, exit_code = asyncio.run(scenario())

    assert left is None
    assert exit_code == -9
