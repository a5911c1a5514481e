"""Requests of real HTTP clients, as recorded from a socket, and the clients themselves where they are installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.models.tasks import Fitted
from tests.support.processes import Service, serving
from tests.support.raw_client import LIVE, connect, replies

FOLDER = Path(__file__).parent / "corpus" / "clients"
RECORDED = {path.stem: path.read_bytes() for path in sorted(FOLDER.glob("*.http"))}
"""Java's HttpClient and ``curl --http2`` offer an upgrade to HTTP/2 by default, with the body behind the head."""
ROW = {"features": [0.1, 0.2, 0.3]}
JAVA = """
import java.net.URI; import java.net.http.*;
public class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newHttpClient();
        for (int turn = 0; turn < 2; turn++) {
            var request = HttpRequest.newBuilder(URI.create(arguments[0])).header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(arguments[1])).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        }
    }
}
"""
NODE = """
const [url, body] = process.argv.slice(-2);
for (let turn = 0; turn < 2; turn++) {
    const answer = await fetch(url, {method: "POST", headers: {"content-type": "application/json"}, body});
    console.log(await answer.text());
}
"""


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]
) -> Iterator[Service]:
    """A service that knows the prediction ``known``."""
    settings = {"SERVING__ACTIVE": "text"}
    with serving(tmp_path_factory.mktemp("clients"), models=small_models[0], settings=settings) as running:
        assert running.call("POST", "/predict", {**ROW, "prediction_id": "known"})[0] == 200
        yield running


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_request_has_one_answer(service: Service, name: str) -> None:
    """Its body is read, and the connection goes on behind it, also with what comes in the same packet."""
    with connect(service) as connection:
        for packet in (RECORDED[name], RECORDED[name] + LIVE):
            connection.sendall(packet)
            answer, *more = replies(connection, 2 if packet.endswith(LIVE) else 1)
            assert (answer.status, answer.headers.get("connection")) == (200, None)
            assert json.loads(answer.body)["prediction_id"]
            assert [reply.body for reply in more] == [b'{"live":true}'] * len(more)


def test_recorded_clients_offer_an_upgrade() -> None:
    """The recordings have the case that they are kept for, with each endpoint."""
    upgrades = {name for name, data in RECORDED.items() if b"upgrade: h2c\r\n" in data.lower()}
    assert upgrades == {f"{client}-{path}" for client in ("curl-http2", "java") for path in ("predict", "outcome")}
    assert len(RECORDED) == 14


def commands(url: str, folder: Path) -> dict[str, list[str]]:
    """The command of each installed client that asks twice."""
    body = json.dumps(ROW)
    (folder / "Client.java").write_text(JAVA, encoding="utf-8")
    (folder / "client.mjs").write_text(NODE, encoding="utf-8")
    curl = ["curl", "--silent", "--http2", "--header", "content-type: application/json", "--data", body, url]
    found = {
        "curl": [*curl, "--next", *curl[1:]],
        "java": ["java", str(folder / "Client.java"), url, body],
        "node": ["node", str(folder / "client.mjs"), url, body],
    }
    return {name: command for name, command in found.items() if shutil.which(name)}


@pytest.mark.fault
def test_installed_clients_get_both_answers(service: Service, tmp_path: Path) -> None:
    """curl, Java and Node, as far as they are installed, ask twice on one connection and are answered twice."""
    for name, command in commands(f"http://127.0.0.1:{service.port}/predict", tmp_path).items():
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, (name, done.stderr)
        assert done.stdout.count('"prediction_id"') == 2, (name, done.stdout)
