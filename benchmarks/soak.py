"""Half capacity for many minutes, with scrapes and checks, and whether all stays flat."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load.bodies import example_body
from benchmarks.load.closed_loop import Loader
from benchmarks.load.driver import read_answer
from benchmarks.results.table import Line, environment, promises, publish, table
from benchmarks.scenarios.memory import MAX_SLOPE, slope
from benchmarks.scenarios.settings import Setting, keep_rate
from benchmarks.servers.kernel import MIB, Usage, usage
from benchmarks.servers.processes import LOAD_CORE, pin, plumbline

SCRAPE_EVERY_S = 5.0
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
COLUMNS = ("minute", "p99 ms", "failed", "service MiB", "checks MiB", "files", "threads", "WAL MiB")


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute of the soak saw; what the process holds is that of the minute's last scrape."""

    sent: int
    p99_ms: float
    failed: int
    held: Usage
    wal_mib: float


def main() -> None:
    """Soak a service and publish a line a minute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=15, help="how many minutes")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a minute, for a rehearsal")
    parser.add_argument("--print", action="store_true", help="print the results and leave README.md as it is")
    chosen = parser.parse_args()
    pin(LOAD_CORE)
    with tempfile.TemporaryDirectory(prefix="plumbline-soak-") as folder:
        setting = Setting(Path(folder), Loader(shutil.which("wrk")), chosen.seconds)
        rate, minutes = soak(setting, chosen.minutes)
    method = f"{rate:,.0f} requests/s, half capacity, a scrape every {SCRAPE_EVERY_S:g} s, checks every 60 s"
    text = (
        promises(judge(minutes))
        + "\n"
        + table(COLUMNS, [_row(number, minute) for number, minute in enumerate(minutes, 1)], left=0)
    )
    publish("soak", environment("make soak", method) + text, write=not chosen.print)


def soak(setting: Setting, number: int) -> tuple[float, list[Minute]]:
    """The rate, and so many minutes at it."""
    body = example_body()
    minutes: list[Minute] = []
    with plumbline(setting.folder) as (service, url):
        wal = Path(url.removeprefix("sqlite:///") + "-wal")
        rate = setting.half_capacity(service.port, body)
        held: list[Usage] = []

        async def scrape(over: asyncio.Event) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
            while not over.is_set():
                writer.write(SCRAPE)
                await read_answer(reader)
                held.append(usage(service.process.pid))
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), SCRAPE_EVERY_S)
            writer.close()

        for each in range(1, number + 1):
            figures = keep_rate(service.port, body, rate, setting.seconds, scrape)
            sent = round(each * rate * setting.seconds)
            minutes.append(Minute(sent, figures.p99_ms, figures.failed, held[-1], wal.stat().st_size / MIB))
            print(minutes[-1], flush=True)
    return rate, minutes


def judge(minutes: list[Minute]) -> list[Line]:
    """Memory by its slope after the warm-up; all else by its last third against the third before."""
    growth = slope([(minute.sent, minute.held.rss_mib) for minute in minutes])
    failed = sum(minute.failed for minute in minutes)
    return [
        Line("memory", f"{growth:+.2f} MiB per 100,000", f"less than {MAX_SLOPE:g}", growth < MAX_SLOPE),
        _flat("memory of the checks", minutes, lambda minute: minute.held.checks_mib, 1.1),
        _flat("open files", minutes, lambda minute: minute.held.files, 1.0),
        _flat("threads", minutes, lambda minute: minute.held.threads, 1.0),
        _flat("write-ahead log", minutes, lambda minute: minute.wal_mib, 1.1),
        _flat("p99", minutes, lambda minute: minute.p99_ms, 1.25),
        Line("requests without a good answer", str(failed), "0", failed == 0),
    ]


def _flat(what: str, minutes: list[Minute], value: Callable[[Minute], float], most: float) -> Line:
    third = max(len(minutes) // 3, 1)
    last, before = (median(map(value, part)) for part in (minutes[-third:], minutes[-2 * third : -third] or minutes))
    share = last / before if before else 1.0
    return Line(what, f"{before:.4g} then {last:.4g}, x {share:.2f}", f"at most x {most:g}", share <= most)


def _row(number: int, minute: Minute) -> tuple[object, ...]:
    held = minute.held
    return (
        number,
        f"{minute.p99_ms:.2f}",
        minute.failed,
        f"{held.rss_mib:.1f}",
        f"{held.checks_mib:.1f}",
        held.files,
        held.threads,
        f"{minute.wal_mib:.1f}",
    )


if __name__ == "__main__":
    main()
