"""What the simulator counts and says."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from app.commands.simulate import Verdicts, describe_traffic, describe_verdicts, simulate
from app.commands.simulation.drift import Sample
from app.commands.simulation.traffic import Pace, Tally, Traffic
from app.errors import PlumblineError
from tests.support.processes import free_port


def test_a_service_that_is_not_there_is_one_clear_line() -> None:
    """Without a service the command says so, names the address and what to do."""
    port = free_port()

    with pytest.raises(PlumblineError) as refusal:
        simulate(url=f"http://127.0.0.1:{port}")

    assert str(refusal.value) == (
        f"no service answers at http://127.0.0.1:{port}: start one with `plumbline serve`, or name it with --url"
    )


def test_rows_without_an_answer_are_counted() -> None:
    """When the service is gone, every row is counted as refused and none is waited for."""

    async def send() -> Tally:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port()}") as client:
            traffic = Traffic(client, Pace(batch=2), "test", lambda: True)
            await traffic.send([Sample({"a": 1.0}, 1)] * 5, lambda _: None)
            return traffic.tally

    tally = asyncio.run(send())

    assert (tally.sent, tally.stored, tally.refused) == (5, 0, Counter({"no answer": 5}))


def test_the_summary_adds_up() -> None:
    """The summary tells what was stored, what was refused and why, and how long it took."""
    tally = Tally(10, 7, Counter({"503": 2, "422": 1}), Counter(matched=6, unknown=0), [0.001] * 9 + [0.5])

    assert describe_traffic(tally) == {
        "rows sent": "10",
        "rows stored": "7",
        "rows refused": "1 422, 2 503",
        "outcomes": "6 matched",
        "latency of a request": "p50 1.0 ms, p99 500.0 ms",
    }


def test_the_verdicts_are_named() -> None:
    """The summary names the drifted features, and the accuracy beside its baseline."""
    drift: Any = {"status": "drift", "drifted_features": ["age", "income"]}
    performance: Any = {"status": "ok", "realised": {"metrics": {"accuracy": {"value": 0.91, "baseline": 0.95}}}}

    assert describe_verdicts(Verdicts(drift, performance)) == {
        "drift": "drift: age, income",
        "performance": "ok: accuracy 0.910 against 0.950 at the reference",
    }
    missing: Any = {"status": "insufficient_data"}
    assert describe_verdicts(Verdicts(None, missing)) == {
        "drift": "not available",
        "performance": "insufficient_data",
    }
