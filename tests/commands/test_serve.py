"""The banner of ``plumbline serve`` on a terminal: what it shows works as it stands."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.commands.serve import banner
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT, free_port

Small = tuple[Path, dict[str, Fitted]]


def send(client: Client, command: str, key: str = "") -> Any:
    """Send what a curl command would send."""
    words = shlex.split(command)
    headers = dict(words[place + 1].split(": ") for place, word in enumerate(words) if word == "-H")
    headers = {name: key if value == "YOUR_KEY" else value for name, value in headers.items()}
    path = words[2].partition(":8123")[2]
    return client.post(path, content=words[words.index("-d") + 1].encode(), headers=headers)


@pytest.mark.parametrize("name", ["mixed", "zero_one", "blank", "three", "price", "text"])
def test_the_request_is_answered(tmp_path: Path, small_models: Small, name: str) -> None:
    """The one request that the banner shows is answered by the model that is loaded."""
    with client_of(make_config(tmp_path, small_models[0], name)) as client:
        shown = banner(client.services, 8123)
        (command,) = re.findall(r"^  (curl .*)$", shown, re.MULTILINE)

        assert send(client, command).status_code == 200
        assert "http://127.0.0.1:8123/dashboard" in shown
        assert client.get("/dashboard").status_code == client.get("/docs").status_code == 200
        assert f"{name} 1" in shown


def test_keys_have_a_place(tmp_path: Path, small_models: Small) -> None:
    """Where keys are needed, each command has a place for one; with a key in it, the request is answered."""
    keys = [{"name": "ci", "sha256": hashlib.sha256(b"secret").hexdigest(), "scopes": ["predict"]}]
    config = make_config(tmp_path, small_models[0], "mixed", auth={"keys": keys}, server={"host": "0.0.0.0"})  # noqa: S104
    with client_of(config) as client:
        shown = banner(client.services, 8123)
        (command,) = re.findall(r"^  (curl .*)$", shown, re.MULTILINE)

        assert send(client, command, "secret").status_code == 200
        assert send(client, command, "wrong").status_code == 401
        assert shown.count("YOUR_KEY") >= 4
        assert "http://127.0.0.1:8123" in shown


def test_a_terminal_has_a_banner_and_a_pipe_has_json(tmp_path: Path, small_models: Small) -> None:
    """On a terminal there are lines for people and a banner, and none for a request; elsewhere each line is JSON."""
    port = free_port()
    settings = {
        "SERVER__PORT": str(port),
        "SERVING__MODELS": str(small_models[0]),
        "SERVING__ACTIVE": "text",
        "STORE__URL": f"sqlite:///{tmp_path}/store.db",
    }
    environ = os.environ | {f"PLUMBLINE__{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "app", "serve"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while b"Ctrl-C here stops the service." not in shown:
            shown += os.read(ours, 4096)
        (request,) = re.findall(r"^  (curl .*)$", shown.decode().replace("\r", ""), re.MULTILINE)
        answer = subprocess.run(["bash", "-c", request], check=True, capture_output=True).stdout
        process.send_signal(signal.SIGINT)
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:
            pass  # the terminal has no writer any more
    os.close(ours)

    assert json.loads(answer)["model_name"] == "text"
    assert process.returncode == 0
    assert "/predict 200" not in shown.decode()
    assert '{"time"' not in shown.decode()
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline())]
        while "Uvicorn running" not in lines[-1]["event"]:
            lines.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().decode().splitlines()

    assert all(json.loads(line)["level"] for line in rest)
