"""Whether memory is flat: the service's and its checks' process, at every 100,000 predictions."""

from __future__ import annotations

from statistics import linear_regression

from benchmarks.load.bodies import example_body
from benchmarks.load.rounds import MANY
from benchmarks.results.table import Line, promises, table
from benchmarks.scenarios.settings import WARM_S, Setting
from benchmarks.servers.kernel import Usage, usage
from benchmarks.servers.processes import plumbline, post

STEP = 100_000
MAX_SLOPE, MAX_MIB = 1.0, 250.0
WARM_SHARE = 0.2
"""The share of the run in which caches and pools may still grow."""


def measure(setting: Setting) -> tuple[str, str]:
    """How it was measured, and the tables."""
    body = setting.folder / "body.json"
    body.write_bytes(example_body())
    found: list[tuple[int, Usage]] = []
    step = min(STEP, setting.predictions // 10)
    with plumbline(setting.folder) as (service, _):
        seconds = WARM_S
        sent = 0
        while sent < setting.predictions:
            figures = setting.loader.run(service.port, body, connections=MANY, seconds=seconds)
            sent += round(figures.rate * round(seconds))
            post(service.port, "/checks")
            found.append((sent, usage(service.process.pid)))
            print(f"{sent:9,} predictions  {found[-1][1]}", flush=True)
            seconds = max(step / figures.rate, 1.0)
    method = f"{sent:,} predictions by {setting.loader.name}, {MANY} connections, checks after each step"
    rows = [(f"{sent:,}", f"{now.rss_mib:.1f}", f"{now.checks_mib:.1f}", f"{now.once_mib:.1f}") for sent, now in found]
    shown = table(("predictions", "service MiB", "checks MiB", "both MiB, shared pages once"), rows, left=0)
    return method, promises(_judge(found)) + "\n" + shown


def _judge(found: list[tuple[int, Usage]]) -> list[Line]:
    service = slope([(sent, now.rss_mib) for sent, now in found])
    checks = slope([(sent, now.checks_mib) for sent, now in found])
    largest = max(now.rss_mib + now.checks_mib for _, now in found)
    once = max(now.once_mib for _, now in found)
    target, limit = f"less than {MAX_SLOPE:g} MiB per 100,000", f"less than {MAX_MIB:g} MiB"
    return [
        Line("growth of the service after warm-up", f"{service:+.2f} MiB per 100,000", target, service < MAX_SLOPE),
        Line(
            "growth of the checks' process after warm-up", f"{checks:+.2f} MiB per 100,000", target, checks < MAX_SLOPE
        ),
        Line("resident sizes of both, added", f"{largest:.0f} MiB", limit, largest < MAX_MIB),
        Line("both, pages that they share counted once", f"{once:.0f} MiB", limit, once < MAX_MIB),
    ]


def slope(points: list[tuple[int, float]]) -> float:
    """Growth per 100,000 predictions, by least squares over what comes after the warm-up.

    >>> slope([(number * 100_000, 90.0 if number < 3 else 100.0 + number / 2) for number in range(1, 11)])
    0.5
    """
    warm = [(sent, value) for sent, value in points if sent > WARM_SHARE * points[-1][0]]
    return linear_regression(*zip(*warm, strict=True)).slope * STEP
