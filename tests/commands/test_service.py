"""Commands against a running service, and what they say where there is none, or another one."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from app.cli import main
from tests.support.models.versions import build_versions
from tests.support.processes import Service, free_port, serving

COMMANDS = [
    ["status"],
    ["alerts"],
    ["ack", "some"],
    ["silence", "--reason", "known"],
    ["activate", "2"],
    ["activate", "text/2"],
    ["rollback"],
    ["predict", "[1]"],
    ["keys", "list"],
    ["simulate", "--rows", "1"],
    ["export", "--out", "OUT"],
    ["outcomes", "FILE"],
]
"""Every command that asks a service."""


class Shell:
    """Runs commands in this process.

    Attributes:
        code: the exit code of the last one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.folder = folder
        self.code = 0
        (folder / "FILE").write_text("prediction_id,outcome\na,yes\n")
        monkeypatch.chdir(folder)
        for name in ("PLUMBLINE_URL", "PLUMBLINE_API_KEY"):
            monkeypatch.delenv(name, raising=False)

    def run(self, *words: str) -> tuple[str, str]:
        """What a command prints, and its errors."""
        self._monkeypatch.setattr(sys, "argv", ["plumbline", *words])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        self.code = int(ended.value.code or 0)
        printed = self._capsys.readouterr()
        return printed.out, printed.err


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """Commands in an empty folder."""
    return Shell(monkeypatch, capsys, tmp_path)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service with several versions."""
    folder, settings = tmp_path_factory.mktemp("service"), {"SERVING__ACTIVE": "switch/1"}
    build_versions(folder / "models")
    with serving(folder, models=folder / "models", settings=settings) as running:
        yield running


@contextmanager
def other(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """The address of a server that is no Plumbline."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def only_line(errors: str) -> str:
    """The one line on standard error."""
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_nobody_answers(shell: Shell, words: list[str]) -> None:
    """A refused connection is one line that names the address and says what to do."""
    address = f"http://127.0.0.1:{free_port()}"
    _, errors = shell.run(*words, "--url", address)

    assert shell.code == 1
    assert f"no service answers at {address}" in only_line(errors)
    assert "plumbline serve" in errors


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("url", ["nonsense", "http://", "http://[", "ftp://127.0.0.1", "http://127.0.0.1:99999", ""])
def test_an_address_that_is_none(shell: Shell, words: list[str], url: str) -> None:
    """A wrong address is one line, whatever is wrong with it."""
    _, errors = shell.run(*words, "--url", url)

    assert shell.code in (1, 2)
    assert "Traceback" not in errors
    only_line(errors)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("status", "body", "location"),
    [
        (200, b"<html>", ""),
        (404, b"<html>not here</html>\n<p>", ""),
        (500, b'{"detail": "internal error; error id 7"}', ""),
        (401, b'{"detail": "send an API key"}', ""),
        (403, b'{"detail": "this key lacks the scope"}', ""),
        (302, b"", "http://127.0.0.1:1/"),
    ],
)
def test_another_answer(shell: Shell, words: list[str], status: int, body: bytes, location: str) -> None:
    """An error, a redirect and the answer of another server are one line each, without the server's page."""
    with other(status, body, **({"location": location} if location else {})) as address:
        _, errors = shell.run(*words, "--url", address)

    assert shell.code == 1
    assert "<" not in only_line(errors)
    assert address in errors


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_key_that_is_none(shell: Shell, key: str) -> None:
    """Its characters are said to be wrong, and not the address."""
    _, errors = shell.run("status", "--url", f"http://127.0.0.1:{free_port()}", "--api-key", key)

    assert shell.code == 2
    assert "--api-key" in only_line(errors)
    assert key not in errors


def test_no_text_of_a_client_reaches_the_terminal_as_it_is(shell: Shell) -> None:
    """A message may name a class that came with an outcome: it breaks no line, and moves no cursor."""
    evil = "a class\x1b]2;evil\x07\nlow  \u202efake"
    alert = {"alert_id": "a", "severity": "high", "state": "firing", "rule": "unknown_class", "since": "2026-12-01"}
    with other(200, json.dumps({"items": [{**alert, "message": evil}]}).encode()) as address:
        printed, _ = shell.run("alerts", "--url", address)
    with other(404, json.dumps({"detail": evil}).encode()) as address:
        _, errors = shell.run("ack", "a", "--url", address)

    assert len(printed.splitlines()) == 2
    assert all(line.isprintable() for line in printed.splitlines())
    assert only_line(errors).isprintable()


def test_a_day_with_a_service(shell: Shell, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status, a prediction, a silence, an activation and a rollback, each said in a line or two."""
    monkeypatch.setenv("PLUMBLINE_URL", f"http://127.0.0.1:{service.port}")
    models = service.call("GET", "/models/switch")[1]
    row = {feature["name"]: 1.0 for feature in models["versions"][0]["features"]}
    (shell.folder / "row.json").write_text(json.dumps(row))
    first, _ = shell.run("status")
    answer, _ = shell.run("predict", json.dumps(row), "--id", "mine")
    again, _ = shell.run("predict", "@row.json", "--id", "mine")
    listed, _ = shell.run("predict", json.dumps(list(row.values())), "--model-version", "1")
    after, _ = shell.run("status")
    quiet, _ = shell.run("alerts")
    silence, _ = shell.run("silence", "--for", "1h", "--rule", "latency", "--reason", "known")
    activated, _ = shell.run("activate", "2")
    back, _ = shell.run("rollback")
    whole, _ = shell.run("status", "--json")

    assert re.search(r"^service +ready$", first, re.MULTILINE)
    assert re.search(r"^model +switch 1$", first, re.MULTILINE)
    assert "no requests" in first
    assert json.loads(answer) == json.loads(again)
    assert json.loads(answer)["prediction_id"] == "mine"
    assert json.loads(listed)["prediction"] == json.loads(answer)["prediction"]
    assert "3 requests, 100.0% answered" in after
    assert quiet == "no alerts\n"
    assert re.fullmatch(r"silence \S+ until \S+Z\n", silence)
    assert (activated, back) == ("switch 2 answers now\n", "switch 1 answers now\n")
    assert json.loads(whole)["summary"]["requests"] == 3
    assert json.loads(whole)["ready"]["ready"] is True


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ack", "nobody"], "no alert has this id"),
        (["activate", "nobody"], "no such version"),
        (["activate", "other/1"], "no model of this name"),
        (["predict", '{"nothing": 1}'], "features.nothing"),
        (["predict", "{"], "the row is no JSON"),
        (["predict", "@nowhere.json"], "nowhere.json: cannot be read"),
        (["silence", "--rule", "nobody", "--reason", "x"], "no rule has this name"),
        (["alerts", "--state", "done"], "state"),
        (["rollback", "--model", "other"], "no model of this name"),
    ],
)
def test_a_refusal_is_one_line(shell: Shell, service: Service, words: list[str], said: str) -> None:
    """What the service refuses is said in its own words, in one line."""
    _, errors = shell.run(*words, *([] if words[0] == "keys" else ["--url", f"http://127.0.0.1:{service.port}"]))

    assert shell.code in (1, 2)
    assert said in only_line(errors)
