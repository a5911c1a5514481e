"""A key or an address that asks more often than it may is told so, and nobody else is."""

from __future__ import annotations

import hashlib

import pytest

from app.api.request_guards import RateLimits, TokenBuckets
from app.config.fields import Limits
from app.errors import TooManyRequests
from tests.api.conftest import Run, Start

NAMES = ("one", "two")
KEYS = {"keys": [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in NAMES]}
BODY = {"prediction_id": "nobody", "outcome": "good"}


@pytest.mark.parametrize("rate", [0.5, 3.0, 100.0])
def test_a_caller_gets_its_rate_over_time(rate: float) -> None:
    """Whoever asks without end gets what a second allows at first, and then the rate."""
    buckets = TokenBuckets(rate)
    taken = [buckets.take("a", number / (10 * rate)) == 0.0 for number in range(1_000)]

    burst = max(1.0, rate)
    assert sum(taken) == pytest.approx(burst + 100, abs=2)


def test_a_bucket_forgotten_was_full() -> None:
    """Callers of long ago are forgotten, and a caller that comes back is as one that never left."""
    buckets = TokenBuckets(2.0)
    for caller in range(1_000):
        buckets.take(str(caller), now=0.0)
    for number in range(4):
        buckets.take("late", now=1.5 + number)

    assert len(buckets) < 5
    assert [buckets.take("7", now=9.0) for _ in range(3)] == [0.0, 0.0, 0.5]


def test_a_wait_survives_the_end_of_a_period() -> None:
    """An empty bucket is still empty just behind the moment at which old buckets are put aside."""
    buckets = TokenBuckets(1.0)
    buckets.take("first", now=0.0)
    buckets.take("a", now=0.95)

    assert buckets.take("a", now=1.01) > 0.9


def test_callers_beyond_the_bound_share_a_bucket() -> None:
    """A crowd of addresses takes no more memory than the bound."""
    buckets = TokenBuckets(1.0, most=100)
    for caller in range(100_000):
        buckets.take(str(caller), now=0.0)

    assert len(buckets) <= 101


def test_an_ipv6_site_is_one_caller() -> None:
    """The half of an address that its owner chooses makes no new caller."""
    limits = RateLimits(Limits(requests_per_second_per_address=1.0))
    limits.count_address("2001:db8::1", now=0.0)

    with pytest.raises(TooManyRequests, match="this address"):
        limits.count_address("2001:db8::2", now=0.0)
    limits.count_address("2001:db8:1::1", now=0.0)


def test_too_many_requests_of_a_key(start: Start) -> None:
    """One key's requests beyond its rate are 429 on every route, with a time to wait; another key's are not."""
    client = start("mixed", auth=KEYS, limits={"requests_per_second_per_key": 0.01})

    assert client.post("/outcome", BODY, headers={"x-api-key": "one"}).status_code == 404
    for answer in (
        client.post("/outcome", BODY, headers={"x-api-key": "one"}),
        client.get("/predictions", headers={"x-api-key": "one"}),
    ):
        assert answer.status_code == 429
        assert answer.json() == {"detail": "this key asks more often than limits.requests_per_second_per_key allows"}
        assert 90 <= int(answer.headers["retry-after"]) <= 100
    assert client.get("/predictions", headers={"x-api-key": "two"}).status_code == 200


def test_too_many_requests_of_an_address(start: Start) -> None:
    """An address's requests count with a wrong key and without one, on every route but health."""
    client = start("mixed", limits={"requests_per_second_per_address": 0.01})

    assert client.get("/nowhere").status_code == 404
    paths = ("/predictions", "/metrics", "/dashboard", "/nowhere", "/health/live")
    assert [client.get(path).status_code for path in paths] == [429, 429, 429, 429, 200]
    assert client.post("/predict", {}).status_code == 429


def test_no_limit_is_the_default(start: Start) -> None:
    """Without a setting, nobody is counted."""
    client = start("mixed")

    assert {client.post("/outcome", BODY).status_code for _ in range(50)} == {404}


@pytest.mark.parametrize("by_uvicorn", [False, True])
def test_both_paths_count(gather: Run, *, by_uvicorn: bool) -> None:
    """The fast path limits as ASGI does, and a limited caller keeps its connection."""
    scene = gather(limits={"requests_per_second_per_address": 0.01})

    async def act() -> list[int]:
        wire = scene.connect(by_uvicorn=by_uvicorn)
        body = b'{"features": {"a": 0.1, "b": 0.2, "c": 0.3}}'
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        found = []
        for _ in range(3):
            await wire.packets([head % len(body) + body])
            found += [reply.status for reply in await wire.replies(1)]
        return found

    assert scene.run(act()) == [200, 429, 429]
