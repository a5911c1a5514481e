"""A page of another site neither reads nor changes anything through the browser of somebody on this machine."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc

import pytest

from app.api.middleware import MAX_KNOWN_HOSTS, TrustedHosts
from app.api.request_guards import Keyring
from app.config.settings import Key, Server
from app.errors import Forbidden, UntrustedHost
from tests.api.conftest import Run
from tests.support.application import Client

KEY = Key(name="k", sha256=hashlib.sha256(b"secret").hexdigest(), scopes=("admin",))
BODY = b'{"features": {"a": 0.1, "b": 0.2, "c": 0.3}}'


def accepts(server: Server, host: bytes, *keys: Key, path: str = "/predictions", **headers: bytes) -> bool:
    """Whether a GET for this host is taken."""
    sent = {b"host": host} | {name.replace("_", "-").encode(): value for name, value in headers.items()}
    try:
        TrustedHosts(server, Keyring(keys)).check("GET", path, sent)
    except UntrustedHost:
        return False
    return True


@pytest.mark.parametrize(
    "host",
    [b"localhost", b"LOCALHOST:8000", b"127.0.0.1:1", b"127.8.8.8", b"[::1]:8000", b"a.localhost", b"localhost."],
)
def test_loopback_is_trusted(host: bytes) -> None:
    """Without keys, every name and address of loopback will do, with any port."""
    assert accepts(Server(), host)


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8000",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example",
        b"10.0.0.7",
        b"[::2]",
    ],
)
def test_other_hosts_are_refused_without_keys(host: bytes) -> None:
    """Without keys, a name that somebody else may own is refused, whatever it begins with."""
    assert not accepts(Server(), host)
    assert not accepts(Server(), host, x_api_key=b"any")


def test_configured_hosts_are_trusted() -> None:
    """The address that is listened on, that of links, and those of the list are trusted, in any case."""
    server = Server(public_url="https://ml.example/x", trusted_hosts=("Models.example", "*.corp.example"))

    assert all(accepts(server, host) for host in (b"ml.example", b"models.example:80", b"a.b.corp.example"))
    assert not accepts(server, b"evilcorp.example")
    assert accepts(Server(trusted_hosts=("*",)), b"evil.example")


def test_with_keys_any_host_will_do_unless_some_are_named() -> None:
    """A probe asks by the address of a container; a list binds the requests without a key, but for health."""
    named = Server(trusted_hosts=("ml.example",))

    assert accepts(Server(), b"10.0.0.7", KEY, path="/metrics")
    assert not accepts(named, b"10.0.0.7", KEY, path="/metrics")
    assert accepts(named, b"10.0.0.7", KEY, path="/health/ready")
    assert accepts(named, b"10.0.0.7", KEY, x_api_key=b"secret")


def test_hosts_are_remembered_up_to_a_bound() -> None:
    """Trusted hosts with ever new ports take no more memory than a few hundred of them."""
    hosts = TrustedHosts(Server(), Keyring(()))

    def ask(ports: range) -> int:
        for port in ports:
            hosts.check("GET", "/", {b"host": b"localhost:%d" % port})
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        full = ask(range(MAX_KNOWN_HOSTS))
        later = ask(range(MAX_KNOWN_HOSTS, 60 * MAX_KNOWN_HOSTS))
    finally:
        tracemalloc.stop()

    assert later - full < 50 * MAX_KNOWN_HOSTS  # each of the others would take as many bytes, if it were kept


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({b"origin": b"http://127.0.0.1:8000"}, True),
        ({b"origin": b"http://127.0.0.1:8000", b"sec-fetch-site": b"same-origin"}, True),
        ({b"sec-fetch-site": b"none"}, True),
        ({b"origin": b"https://ml.example", b"sec-fetch-site": b"cross-site"}, True),
        ({b"origin": b"http://evil.example"}, False),
        ({b"origin": b"http://127.0.0.1:9000"}, False),
        ({b"origin": b"null"}, False),
        ({b"sec-fetch-site": b"cross-site"}, False),
        ({b"sec-fetch-site": b"same-site"}, False),
        ({b"origin": b"http://evil.example", b"x-api-key": b"k"}, True),
        ({b"origin": b"http://evil.example", b"authorization": b"Bearer k"}, True),
        ({b"origin": b"http://evil.example", b"authorization": b"Basic YTpi"}, False),
        ({b"origin": b"http://evil.example", b"x-api-key": b""}, False),
    ],
)
def test_unsafe_requests_come_from_the_same_origin(headers: dict[bytes, bytes], allowed: bool) -> None:
    """A browser's request that changes something comes from our own pages, or with a key, which no page can send."""
    hosts = TrustedHosts(Server(public_url="https://ml.example"), Keyring(()))
    hosts.check("GET", "/alerts", {b"host": b"127.0.0.1:8000", **headers})
    try:
        hosts.check("POST", "/models/m/rollback", {b"host": b"127.0.0.1:8000", **headers})
    except Forbidden:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize("path", ["/predictions", "/metrics", "/docs", "/dashboard", "/health/live", "/nowhere"])
def test_no_route_answers_a_foreign_host(mixed: Client, path: str) -> None:
    """Pages, data, errors and health are all refused in one form, with an id, and say what to do."""
    answer = mixed.get(path, headers={"host": "evil.example"})

    assert answer.status_code == 400
    assert "server.trusted_hosts" in answer.json()["detail"]
    assert answer.headers["x-request-id"]


def test_a_foreign_page_changes_nothing(mixed: Client) -> None:
    """A rollback, a silence and a prediction that another page posts are refused before they begin."""
    for path in ("/models/mixed/rollback", "/alerts/x/acknowledge", "/checks", "/predict", "/outcome"):
        answer = mixed.post(path, {}, headers={"origin": "http://evil.example"})
        assert (path, answer.status_code) == (path, 403)


@pytest.mark.parametrize("header", [b"host: evil.example", b"host: 127.0.0.1\r\norigin: http://evil.example"])
def test_both_paths_refuse(gather: Run, header: bytes) -> None:
    """The fast path refuses as ASGI does."""
    scene = gather()

    async def act() -> list[int]:
        statuses = []
        for by_uvicorn in (False, True):
            wire = scene.connect(by_uvicorn=by_uvicorn)
            request = b"POST /predict HTTP/1.1\r\n%b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            await wire.packets([request % (header, len(BODY), BODY)])
            statuses += [reply.status for reply in await wire.replies(1)]
        return statuses

    expected = 403 if b"origin" in header else 400
    assert scene.run(act()) == [expected, expected]


def test_every_answer_has_a_policy(mixed: Client) -> None:
    """Data, errors and pages say what a browser may do with them; data are not kept."""
    for path in ("/predictions", "/nowhere", "/docs", "/dashboard", "/predict", "/openapi.json"):
        headers = mixed.get(path).headers
        assert len(headers.get_list("content-security-policy")) == 1
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cache-control"] == ("no-cache" if path in ("/docs", "/dashboard") else "no-store")
        assert headers["x-content-type-options"] == "nosniff"


def test_bodies_of_small_routes_are_bounded(mixed: Client) -> None:
    """A silence or a version is short: a body that is not, or that unpacks to more, is 413."""
    body = b'{"version": "1", ' + b",".join(b'"k%d": 1' % number for number in range(20_000)) + b"}"
    for content, headers in ((body, {}), (gzip.compress(body), {"content-encoding": "gzip"})):
        answer = mixed.raw("/alerts/silences", content, **headers)
        assert answer.status_code == 413
        assert "a bound of this path" in answer.json()["detail"]
