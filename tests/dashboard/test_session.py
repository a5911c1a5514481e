"""Sign-in on the page: a session in a cookie, what it opens, and how it ends."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.request_guards import MAX_SESSIONS, SESSION_S, Sessions
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted

KEYS = {"reader": ["read"], "boss": ["admin"], "sender": ["predict", "outcome"]}


@pytest.fixture
def client(tmp_path: Path, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """A service with a key that reads, one that acts, one that only sends, and one that is for another model."""
    keys = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": scopes}
        for name, scopes in KEYS.items()
    ]
    keys.append({"name": "far", "sha256": hashlib.sha256(b"far").hexdigest(), "scopes": ["read"], "model": "other"})
    with client_of(make_config(tmp_path, small_models[0], "mixed", auth={"keys": keys})) as client:
        yield client


def signed_in(client: Client, key: str) -> dict[str, str]:
    """The header of a browser that has signed in."""
    answer = client.post("/dashboard/session", {"key": key})
    assert answer.status_code == 200
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


def test_a_session_stands_for_its_key(client: Client) -> None:
    """It opens what the key opens, acts where the key may, and the cookie is out of reach of scripts and sites."""
    answer = client.post("/dashboard/session", {"key": "reader"})
    reader, boss = signed_in(client, "reader"), signed_in(client, "boss")

    assert answer.json() == {"needs_key": True, "name": "reader", "scopes": ["read"]}
    assert answer.headers["set-cookie"].partition("; ")[2].split("; ") == [
        "HttpOnly", f"Max-Age={SESSION_S}", "Path=/", "SameSite=strict",
    ]  # fmt: skip
    assert client.get("/alerts").status_code == 401
    assert client.get("/alerts", headers=reader).status_code == 200
    assert client.post("/checks", headers=reader).status_code == 403
    assert client.post("/checks", headers=boss).status_code == 200
    assert client.get("/dashboard/session", headers=boss).json()["name"] == "boss"


def test_a_session_goes_beside_the_password_of_a_proxy(client: Client) -> None:
    """A browser sends that along by itself: it is no key, and does not stand for our own page."""
    header = signed_in(client, "boss") | {"authorization": "Basic YTpi"}

    assert client.get("/alerts", headers=header).status_code == 200
    assert client.post("/checks", headers=header | {"origin": "https://evil.example"}).status_code == 403


def test_a_session_ends_with_the_sign_out(client: Client) -> None:
    """The cookie is taken away, and its token opens nothing any more."""
    header = signed_in(client, "reader")
    answer = client.delete("/dashboard/session", headers=header)

    assert answer.json() == {"needs_key": True, "name": None, "scopes": []}
    assert "Max-Age=0" in answer.headers["set-cookie"]
    assert client.get("/alerts", headers=header).status_code == 401


def test_a_revoked_key_ends_its_sessions(client: Client) -> None:
    """A session holds a key's hash and no rights of its own."""
    boss = {"x-api-key": "boss"}
    key = client.post("/keys", {"name": "guest", "scopes": ["read"]}, headers=boss).json()["key"]
    header = signed_in(client, key)
    before = client.get("/alerts", headers=header).status_code
    client.delete("/keys/guest", headers=boss)

    assert (before, client.get("/alerts", headers=header).status_code) == (200, 401)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_another_page_cannot_use_a_session(client: Client, headers: dict[str, str], status: int) -> None:
    """A page of another origin changes nothing, even if a browser sent it the cookie."""
    boss = signed_in(client, "boss")

    assert client.post("/checks", headers=boss | headers).status_code == status


@pytest.mark.parametrize("cookie", ["", "plumbline_session=", "plumbline_session=x", "other=1; plumbline_session=%00"])
def test_a_cookie_of_nobody_opens_nothing(client: Client, cookie: str) -> None:
    """An empty, invented or broken token is no session, before and after somebody has signed in."""
    before = client.get("/alerts", headers={"cookie": cookie}).status_code
    signed_in(client, "boss")

    assert (before, client.get("/alerts", headers={"cookie": cookie}).status_code) == (401, 401)
    assert client.get("/alerts").status_code == 401


@pytest.mark.parametrize("body", [{"key": "wrong"}, {"key": ""}, {"key": 7}, {}])
def test_a_wrong_key_begins_no_session(client: Client, body: dict[str, Any]) -> None:
    """It is refused like a wrong key on any other path, and counts as one."""
    answer = client.post("/dashboard/session", body)

    assert answer.status_code in (401, 422)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("key", "status", "reason"),
    [("sender", 403, "lacks the scope read"), ("far", 404, "no model that this key is for")],
)
def test_a_key_that_cannot_read_here_begins_no_session(client: Client, key: str, status: int, reason: str) -> None:
    """The form says why, where the page would be empty without a word."""
    answer = client.post("/dashboard/session", {"key": key})

    assert (answer.status_code, reason in answer.json()["detail"]) == (status, True)
    assert "set-cookie" not in answer.headers


def test_sessions_end_by_time_and_by_number() -> None:
    """After twelve hours, or where too many others came, the oldest is forgotten."""
    now = [0.0]
    sessions = Sessions(lambda: now[0])
    keys = [f"key {number}".encode() for number in range(MAX_SESSIONS + 1)]
    cookies = [f"plumbline_session={sessions.open(key)}".encode() for key in keys]

    assert [sessions.find(cookie) is None for cookie in (cookies[0], cookies[1])] == [True, False]
    now[0] = SESSION_S
    assert sessions.find(cookies[1]) is None


def test_a_key_ends_its_own_sessions_alone() -> None:
    """Who signs in again and again with one key pushes out that key's oldest session, and nobody else's."""
    sessions = Sessions(lambda: 0.0)
    other, first = (f"plumbline_session={sessions.open(key)}".encode() for key in (b"other", b"key"))
    for _ in range(MAX_SESSIONS):
        sessions.open(b"key")

    assert sessions.find(other) is not None
    assert sessions.find(first) is None


def test_a_browser_without_a_key_is_sent_to_the_sign_in(client: Client) -> None:
    """A link to a report leads to the form, and from there to the report; a program gets the 401."""
    browser = {"accept": "text/html,*/*;q=0.8"}
    sent = client.get("/reports/r1.html", headers=browser, follow_redirects=False)

    assert (sent.status_code, sent.headers["location"]) == (303, "/dashboard/sign-in?next=/reports/r1.html")
    assert client.get("/reports/r1.html").status_code == 401
    assert client.get("/alerts", headers=browser).status_code == 401


def test_the_root_and_the_playbook_lead_to_the_page(client: Client) -> None:
    """The root is the page; the playbook is Markdown for programs and a page for browsers."""
    browser = {"accept": "text/html"}
    root = client.get("/", follow_redirects=False)
    playbook = client.get("/docs/playbook.md", headers=browser, follow_redirects=False)

    assert (root.status_code, root.headers["location"]) == (307, "/dashboard")
    assert playbook.headers["location"] == "/dashboard/playbook"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/dashboard/drift?feature=age&range=7d&zone=local&version=1", 200),
        ("/dashboard/nowhere", 404),
        ("/dashboard/drift?featrue=age", 422),
    ],
)
def test_every_view_has_an_address(client: Client, path: str, status: int) -> None:
    """The page is served for each view with what it was opened with; others are refused."""
    assert client.get(path).status_code == status


@pytest.mark.parametrize("path", ["/?<b>=1", "/dashboard?<b>=1", "/dashboard/<b>", "/docs?<b>=1"])
def test_a_person_reads_an_error_as_a_page(client: Client, path: str) -> None:
    """A browser that follows a bad link shows what is wrong and a way back, as text; a program gets JSON."""
    shown = client.get(path, headers={"accept": "text/html,*/*;q=0.8"})
    told = client.get(path)

    assert shown.status_code == told.status_code >= 400
    assert shown.headers["content-type"] == "text/html; charset=utf-8"
    assert 'href="/dashboard"' in shown.text
    assert "<b>" not in shown.text
    assert "detail" in told.json()
