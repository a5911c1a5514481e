"""Where the microseconds of a request go: processor time by thread, and the event loop's own time by place."""

from __future__ import annotations

import argparse
import pstats
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.load.bodies import example_body
from benchmarks.load.closed_loop import Loader
from benchmarks.load.rounds import MANY
from benchmarks.results.table import Cells, environment, publish, table
from benchmarks.servers.kernel import thread_seconds
from benchmarks.servers.processes import LOAD_CORE, bare, pin, plumbline
from benchmarks.servers.profiled import BEGIN, END
from tests.support.processes import ROOT

WARM_S = 2.0
MIN_US = 0.3
"""Processor time of a request below which a thread is left out."""
PLACES = 20
LIBRARIES = "site-packages/"


def main() -> None:
    """Profile the floor and the service, and publish both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of one measurement")
    parser.add_argument("--print", action="store_true", help="print the results and leave README.md as it is")
    chosen = parser.parse_args()
    pin(LOAD_CORE)
    loader = Loader(shutil.which("wrk"))
    with tempfile.TemporaryDirectory(prefix="plumbline-profile-") as name:
        folder = Path(name)
        (folder / "body.json").write_bytes(example_body())
        with bare("floor") as (port, pid):
            rows = by_thread("floor", port, pid, loader, folder, chosen.seconds)
        with plumbline(folder) as (service, _):
            rows += by_thread("plumbline", service.port, service.process.pid, loader, folder, chosen.seconds)
        places = by_place(loader, folder, chosen.seconds)
    method = f"{MANY} connections for {chosen.seconds:g} s, load from {loader.name}"
    text = table(("server", "thread", "user µs", "kernel µs", "of a request µs"), rows, left=2)
    text += "\n" + table(("event loop, by place (cProfile)", "share"), places)
    publish("profile", environment("make profile", method) + text, write=not chosen.print)


def by_thread(server: str, port: int, pid: int, loader: Loader, folder: Path, seconds: float) -> list[Cells]:
    """Microseconds a request of each thread, the event loop's first."""
    body = folder / "body.json"
    loader.run(port, body, connections=MANY, seconds=WARM_S)
    before = thread_seconds(pid)
    figures = loader.run(port, body, connections=MANY, seconds=seconds)
    after = thread_seconds(pid)
    number = figures.rate * round(seconds)
    spent = [
        tuple((now - then) / number * 1e6 for now, then in zip(after[thread], before.get(thread, (0, 0)), strict=True))
        for thread in sorted(after, key=lambda thread: thread != pid)
    ]
    rows = [
        ("event loop" if place == 0 else "another", user, kernel)
        for place, (user, kernel) in enumerate(spent)
        if user + kernel >= MIN_US
    ]
    rows.append(("all", *(sum(column) for column in zip(*spent, strict=True))))
    return [(server, name, f"{user:.1f}", f"{kernel:.1f}", f"{user + kernel:.1f}") for name, user, kernel in rows]


def by_place(loader: Loader, folder: Path, seconds: float) -> list[Cells]:
    """Shares of the event loop's own time, with that of built-in functions counted where they were called."""
    file = folder / "profile"
    with plumbline(folder, under=(sys.executable, "-m", "benchmarks.servers.profiled", str(file))) as (service, _):
        body = folder / "body.json"
        loader.run(service.port, body, connections=MANY, seconds=WARM_S)
        service.process.send_signal(BEGIN)
        loader.run(service.port, body, connections=MANY, seconds=seconds)
        service.process.send_signal(END)
        while not file.exists() or not file.stat().st_size:
            time.sleep(0.1)
    return shares(pstats.Stats(str(file)))


def shares(stats: pstats.Stats) -> list[Cells]:
    """The largest shares of own time by file or package."""
    own: Counter[str] = Counter()
    for (path, _, _), (_, _, seconds, _, callers) in stats.stats.items():  # type: ignore[attr-defined]  # typeshed leaves it out
        if path == "~":
            for (caller, _, _), (_, _, part, _) in callers.items():
                own[place_of(caller)] += part
        else:
            own[place_of(path)] += seconds
    whole = sum(own.values())
    return [(place, f"{100 * seconds / whole:.1f} %") for place, seconds in own.most_common(PLACES)]


def place_of(path: str) -> str:
    """A file of ours, a library's package, or a module of Python.

    >>> place_of("/somewhere/site-packages/uvicorn/protocols/http.py")
    'uvicorn'
    """
    if LIBRARIES in path:
        return path.partition(LIBRARIES)[2].partition("/")[0].removesuffix(".py")
    return path.removeprefix(f"{ROOT}/") if path.startswith(str(ROOT)) else Path(path).name


if __name__ == "__main__":
    main()
