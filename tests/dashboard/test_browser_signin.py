"""Sign-in, and the story of an incident from its message to its end, in a browser."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser

from tests.support.browser import Reader, chromium, reading
from tests.support.models.versions import NAME, ROW, build_versions
from tests.support.processes import Service, free_port, launch
from tests.support.receivers import Webhook, webhook

pytestmark = pytest.mark.fault

KEYS = {"boss": ["admin"], "reader": ["read"]}
ROWS = 300


def call(service: Service, method: str, path: str, body: Any) -> Any:
    """One request with the administrator's key."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=600)
    headers = {"content-type": "application/json", "x-api-key": "key-of-boss"}
    connection.request(method, path, json.dumps(body), headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, found
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for all tests of this file."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Webhook]]:
    """A service with keys whose version 2 is always wrong, and the receiver of its messages."""
    folder = tmp_path_factory.mktemp("story")
    build_versions(folder / "models")
    with webhook() as receiver:
        port = free_port()
        keys = [
            {"name": name, "sha256": hashlib.sha256(f"key-of-{name}".encode()).hexdigest(), "scopes": scopes}
            for name, scopes in KEYS.items()
        ]
        settings = {
            "SERVING__ACTIVE": f"{NAME}/1",
            "SERVER__PUBLIC_URL": f"http://127.0.0.1:{port}",
            "AUTH__KEYS": json.dumps(keys),
            "ALERTS__NOTIFY": json.dumps([receiver.url]),
            "DRIFT__EVERY": "1d",
            "PERFORMANCE__EVERY": "1d",
        }
        service = launch(folder, models=folder / "models", port=port, settings=settings)
        try:
            service.wait_ready()
            call(service, "POST", f"/models/{NAME}/activate", {"version": "2"})
            answer = call(service, "POST", "/predict", {"instances": [ROW] * ROWS})
            outcomes = [{"prediction_id": each["prediction_id"], "outcome": "yes"} for each in answer["predictions"]]
            call(service, "POST", "/outcome", {"outcomes": outcomes})
            call(service, "POST", "/checks", {})
            receiver.wait_for(1)
            yield service, receiver
        finally:
            service.process.kill()
            service.process.wait()


def sign_in(reader: Reader, key: str) -> None:
    """Fill in the form and send it."""
    reader.page.get_by_label("API key").fill(key)
    reader.page.get_by_role("button", name="Sign in").click()


def link_of(receiver: Webhook, name: str) -> str:
    """The link with this name in the message about accuracy."""
    text = next(body["message"] for body in receiver.taken if "accuracy_drop" in body["title"])
    found = re.search(rf"^{name}: http://127\.0\.0\.1:\d+(\S+)$", text, flags=re.MULTILINE)
    assert found is not None
    return found[1]


def test_a_wrong_key_is_told_so(browser: Browser, told: tuple[Service, Webhook]) -> None:
    """The form stays and says what was wrong; no cookie is set."""
    with reading(browser, told[0].port) as reader:
        reader.page.goto(f"{reader.origin}/")
        reader.page.get_by_label("API key").wait_for()
        sign_in(reader, "nonsense")
        reader.page.get_by_text("unknown API key").wait_for()

        assert reader.page.context.cookies() == []
        assert "/dashboard/sign-in?next=" in reader.page.url


def test_no_link_leads_elsewhere(browser: Browser, told: tuple[Service, Webhook]) -> None:
    """Whatever ``next`` names, a reader who signs in, or has signed in, stays with this service."""
    hostile = ["//evil.example", "/.//evil.example", "/x/..//evil.example", "/%2e//evil.example", "//["]
    with reading(browser, told[0].port) as reader:
        for place, target in enumerate(hostile):
            reader.page.goto(f"{reader.origin}/dashboard/sign-in?next={quote(target)}")
            if place == 0:
                sign_in(reader, "key-of-reader")
            reader.page.wait_for_url(f"{reader.origin}/dashboard")
            reader.page.wait_for_selector("body[data-ready=overview]")


def test_a_reader_lands_on_the_report_and_may_not_act(browser: Browser, told: tuple[Service, Webhook]) -> None:
    """After the sign-in the report's link shows the report; a key without admin sees no button that acts."""
    service, receiver = told
    with reading(browser, service.port) as reader:
        reader.page.goto(reader.origin + link_of(receiver, "Report"))
        sign_in(reader, "key-of-reader")
        reader.page.wait_for_url(re.compile(r":\d+/reports/[^?]+\.html$"))
        headline = reader.text("h1")
        cookie = next(iter(reader.page.context.cookies()))
        reader.open("/dashboard/models")
        shown = reader.text("main")
        reader.page.get_by_role("button", name="Sign out").click()
        reader.page.get_by_label("API key").wait_for()

        assert reader.page.context.cookies() == []
    assert headline.startswith("accuracy has degraded")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert "Activate" not in re.sub("To activate a version, sign in.*", "", shown)


def test_the_story_of_an_incident(browser: Browser, told: tuple[Service, Webhook]) -> None:
    """A message's link opens the alert after the sign-in; acknowledged, an earlier version ends it."""
    service, receiver = told
    with reading(browser, service.port) as reader:
        reader.page.goto(reader.origin + link_of(receiver, "Alert"))
        sign_in(reader, "key-of-boss")
        reader.page.get_by_role("heading", name="Accuracy dropped").wait_for()
        evidence = reader.text("main")
        reader.page.get_by_role("button", name="I am on it").click()
        reader.page.locator("dialog").get_by_role("button", name="Acknowledge").click()
        reader.page.get_by_text("acknowledged by boss").first.wait_for()
        reader.page.get_by_role("button", name="Roll back").click()
        reader.page.locator("dialog").get_by_role("button", name="Roll back").click()
        reader.page.get_by_text("accuracy_drop, resolved").wait_for()
        faults = [fault for fault in reader.faults if "401" not in fault]

    assert "Likely causes" in evidence
    assert "baseline" in evidence
    assert faults == []


def test_the_playbook_of_a_message_is_a_page(browser: Browser, told: tuple[Service, Webhook]) -> None:
    """The link leads a browser to the section, rendered; it needs no key."""
    service, receiver = told
    with reading(browser, service.port) as reader:
        reader.page.goto(reader.origin + link_of(receiver, "Playbook"))
        reader.page.get_by_role("heading", name="accuracy drop").wait_for()

        assert reader.page.url.endswith("/dashboard/playbook#accuracy-drop")
        assert reader.page.locator("#accuracy-drop").is_visible()
    assert reader.faults == []
