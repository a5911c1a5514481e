"""What each part of a usual request costs by itself, and what repeated ids cost: rounds of servers in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.load.bodies import example_body, live_rows, own_id_body
from benchmarks.load.closed_loop import Figures
from benchmarks.load.rounds import KEY, MANY, WARM_S, keyed_settings
from benchmarks.results.table import Line, promises, table
from benchmarks.results.targets import ratio
from benchmarks.scenarios.settings import Setting
from benchmarks.servers.processes import EXAMPLE, MODELS, bare, plumbline

MIN_SHARE, MIN_REPLAYS = 0.6, 0.85


class Request(NamedTuple):
    """One way to ask: its body, whether it sends the key, and what varies."""

    body: bytes
    has_key: bool = False
    varying: Sequence[str] = ()


def requests() -> dict[str, Request]:
    """The ways to ask, each with one ingredient more than the plain array."""
    plain = json_array()
    return {
        "an array": Request(plain),
        "by name": Request(example_body()),
        "with a key": Request(plain, has_key=True),
        "with a traceparent of its own": Request(plain, varying=("trace",)),
        "with its own id, in sequence": Request(own_id_body(), varying=("order",)),
        "with its own id, UUIDv4": Request(own_id_body(), varying=("uuid",)),
    }


REPLAYS = "25 % replays, 1 % conflicts"


def measure(setting: Setting) -> tuple[str, str]:
    """How it was measured, and the tables."""
    ways = requests()
    floor: defaultdict[str, list[Figures]] = defaultdict(list)
    ours: defaultdict[str, list[Figures]] = defaultdict(list)
    for _ in range(setting.pairs):
        for name, request in ways.items():
            with bare("floor") as (port, _):
                floor[name].append(_load(setting, port, request))
            ours[name].append(_served(setting, request))
        ours[REPLAYS].append(_served(setting, Request(own_id_body(), varying=("replays",))))
    fresh = ours["with its own id, in sequence"]
    lines = [_share(name, ours[name], floor[name], MIN_SHARE, "the floor") for name in ways]
    lines.append(_share(REPLAYS, ours[REPLAYS], fresh, MIN_REPLAYS, "the same without"))
    method = f"{setting.pairs} rounds of {setting.seconds:g} s, {MANY} connections, load from {setting.loader.name}"
    rows = [
        (name, f"{median(run.rate for run in runs):,.0f}", f"{median(run.p99_ms for run in runs):.2f}")
        for name, runs in ours.items()
    ]
    return method, promises(lines) + "\n" + table(("request", "requests/s", "p99 ms"), rows)


def json_array() -> bytes:
    """The first live row of the example in the order of its schema."""
    values = live_rows(MODELS / EXAMPLE / "1", 1)[0].values()
    return b'{"features": [' + ", ".join(map(repr, values)).encode() + b"]}"


def _served(setting: Setting, request: Request) -> Figures:
    settings = keyed_settings() if request.has_key else {}
    with plumbline(setting.folder, settings=settings, key=KEY if request.has_key else "") as (service, _):
        return _load(setting, service.port, request)


def _load(setting: Setting, port: int, request: Request) -> Figures:
    """Warm a server up, then measure it."""
    body: Path = setting.folder / "body.json"
    body.write_bytes(request.body)
    key = KEY if request.has_key else ""
    for seconds in (WARM_S, setting.seconds):
        figures = setting.loader.run(port, body, connections=MANY, seconds=seconds, key=key, varying=request.varying)
    return figures


def _share(what: str, above: Sequence[Figures], below: Sequence[Figures], least: float, of: str) -> Line:
    measured = ratio([run.rate for run in above], [run.rate for run in below])
    return Line(f"{what}, of {of}", f"{measured:.2f}", f"at least {least:g}", measured >= least)
