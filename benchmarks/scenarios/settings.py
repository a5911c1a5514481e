"""What the long scenarios share: how long they run, half of a server's capacity, and a rate kept for some seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load.closed_loop import Figures, Loader
from benchmarks.load.driver import request_bytes
from benchmarks.load.open_loop import pace, run_punctually
from benchmarks.load.rounds import MANY

CAPACITY_S = 4.0
WARM_S = 2.0


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and how long to measure."""

    folder: Path
    loader: Loader
    seconds: float
    pairs: int = 5
    predictions: int = 1_000_000

    def half_capacity(self, port: int, body: bytes) -> float:
        """Half the rate at which a server answers as fast as it can."""
        file = self.folder / "body.json"
        file.write_bytes(body)
        self.loader.run(port, file, connections=MANY, seconds=WARM_S)
        return self.loader.run(port, file, connections=MANY, seconds=CAPACITY_S).rate / 2


def keep_rate(
    port: int,
    body: bytes,
    rate: float,
    seconds: float,
    beside: Callable[[asyncio.Event], Awaitable[None]] | None = None,
) -> Figures:
    """Ask for predictions at a fixed rate, with something beside it that ends soon after its event is set."""

    async def both() -> Figures:
        over = asyncio.Event()
        other = asyncio.ensure_future(beside(over)) if beside else None
        load = await pace(port, request_bytes("/predict", body), rate=rate, connections=MANY, seconds=seconds)
        over.set()
        if other:
            await other
        return Figures.of(load)

    return run_punctually(both())
