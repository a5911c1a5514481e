"""Whether something stays flat: growth after the warm-up is seen, growth during it is not held against anybody."""

from __future__ import annotations

from benchmarks.scenarios.memory import slope
from benchmarks.servers.kernel import Usage
from benchmarks.soak import Minute, judge


def minutes(*, growth_mib: float = 0.0, files: int = 0, p99_ms: float = 0.0) -> list[Minute]:
    """A soak of 15 minutes with growth per minute after a warm-up of three."""
    return [
        Minute(
            sent=minute * 100_000,
            p99_ms=10 + max(minute - 3, 0) * p99_ms,
            failed=0,
            held=Usage(100 + 20 * min(minute, 3) + growth_mib * minute, 140, 200, 90 + files * minute, 11),
            wal_mib=4.0,
        )
        for minute in range(1, 16)
    ]


def missed(found: list[Minute]) -> list[str]:
    """What is not flat."""
    return [line.what for line in judge(found) if not line.met]


def test_a_steady_service_is_flat() -> None:
    """Growth in the first fifth alone is a warm-up."""
    assert missed(minutes()) == []


def test_what_grows_is_named() -> None:
    """Memory, open files and the tail are seen to grow, each by itself."""
    assert missed(minutes(growth_mib=1.5)) == ["memory"]
    assert missed(minutes(files=1)) == ["open files"]
    assert missed(minutes(p99_ms=2.0)) == ["p99"]


def test_the_slope_is_per_hundred_thousand() -> None:
    """Half a MiB for every 50,000 predictions is one for 100,000."""
    assert slope([(number * 50_000, 100 + number / 2) for number in range(1, 21)]) == 1.0
