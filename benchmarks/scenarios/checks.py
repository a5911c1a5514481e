"""What a drift check that never stops does to the tail of `/predict`: pairs of runs at half capacity."""

from __future__ import annotations

import asyncio
from collections import Counter

from benchmarks.load.bodies import bulk_body, live_rows, single_body
from benchmarks.load.closed_loop import Figures
from benchmarks.load.driver import read_answer, request_bytes
from benchmarks.load.pairs import COLUMNS, alternate
from benchmarks.load.rounds import BULK_ROWS
from benchmarks.results.table import Line, promises, table
from benchmarks.scenarios.settings import Setting, keep_rate
from benchmarks.servers.bundles import WIDE_FEATURES, WIDE_ROWS, make_bundles
from benchmarks.servers.processes import plumbline, post

MAX_RATIO = 1.25
SETTINGS = {
    "DRIFT__WINDOW__ROWS": str(WIDE_ROWS),
    "DRIFT__WINDOW__HOURS": "0",
    "DRIFT__EVERY": "1d",
    "PERFORMANCE__EVERY": "1d",
}


def measure(setting: Setting) -> tuple[str, str]:
    """How it was measured, and the tables."""
    models = setting.folder / "models"
    make_bundles(models, "wide")
    bundle = models / "wide" / "1"
    body, rows = single_body(bundle), live_rows(bundle, WIDE_ROWS)
    ended: Counter[int] = Counter()
    with plumbline(setting.folder, models=models, active="wide", settings=SETTINGS) as (service, _):
        port = service.port
        for start in range(0, WIDE_ROWS, BULK_ROWS):
            post(port, "/predict", bulk_body(rows[start : start + BULK_ROWS]))
        rate = setting.half_capacity(port, body)
        post(port, "/checks")

        async def check(over: asyncio.Event) -> None:
            """Run checks one after another until the event is set and the last has ended."""
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while not over.is_set():
                writer.write(request_bytes("/checks", b""))
                ended[await read_answer(reader)] += 1
            writer.close()

        def run(beside: bool) -> Figures:
            return keep_rate(port, body, rate, setting.seconds, check if beside else None)

        pairs = alternate(setting.pairs, run)
    method = (
        f"{setting.pairs} pairs of {setting.seconds:g} s at half capacity, {ended[200]} checks of "
        f"{WIDE_ROWS:,} rows x {WIDE_FEATURES} features one after another, {ended.total() - ended[200]} failed"
    )
    share = pairs.p99_ratio
    line = Line("p99 beside checks, of the p99 without", f"{share:.2f}", f"at most {MAX_RATIO:g}", share <= MAX_RATIO)
    return method, promises([line]) + "\n" + table(COLUMNS, pairs.rows("with checks", "without"))
