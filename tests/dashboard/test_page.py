"""The dashboard over HTTP: the page, its assets and the playbook."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from app.api.endpoints.dashboard import Dashboard
from tests.support.application import Client, client_of, make_config
from tests.support.models.tasks import Fitted
from tests.support.processes import ROOT


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, small_models: tuple[Path, dict[str, Fitted]]) -> Iterator[Client]:
    """A service that wants a key for its data."""
    keys = [{"name": "reader", "sha256": "0" * 64, "scopes": ["read"]}]
    config = make_config(tmp_path_factory.mktemp("page"), small_models[0], "text", auth={"keys": keys})
    with client_of(config) as client:
        yield client


def addresses(page: str) -> list[str]:
    """What the page loads, apart from its data."""
    return re.findall(r'(?:src|href)="(/[^"]+)"', page)


def test_the_page_needs_no_key_and_allows_no_inline_script(client: Client) -> None:
    """The page itself holds no data; its policy lets only our own files run."""
    answer = client.get("/dashboard")

    assert answer.status_code == 200
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert re.findall(r"<script(?![^>]* src=)", answer.text) == []
    assert re.findall(r"https?://", answer.text) == []


def test_every_asset_is_there_and_kept_for_ever(client: Client) -> None:
    """Whatever page and scripts load is served compressed, under an address whose content never changes."""
    loaded = addresses(client.get("/dashboard").text)
    folder = loaded[0].rsplit("/", 1)[0]
    modules = {name for file in (files("app.dashboard") / "static").iterdir() for name in _imported(file.read_text())}

    names = {path.rsplit("/", 1)[1] for path in loaded} | modules
    assert names >= {"plotly.min.js", "dashboard.js", "dashboard.css", "charts.js"}
    for name in names:
        answer = client.get(f"{folder}/{name}", headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200, name
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].startswith("text/css" if name.endswith(".css") else "text/javascript")


def test_an_asset_without_compression_is_the_same(client: Client) -> None:
    """A client that takes no gzip gets the file itself."""
    address = next(path for path in addresses(client.get("/dashboard").text) if path.endswith(".css"))
    answer = client.get(address, headers={"accept-encoding": "identity"})

    assert "content-encoding" not in answer.headers
    assert answer.text == (ROOT / "app" / "dashboard" / "static" / "dashboard.css").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", ["0000/dashboard.js", "{version}/page.html", "{version}/..%2fpage.html"])
def test_other_addresses_are_unknown(client: Client, path: str) -> None:
    """Another version's address, and files that are no assets, are 404: nothing wrong is cached for a year."""
    version = Dashboard().version

    assert client.get(f"/dashboard/assets/{path.format(version=version)}").status_code == 404


def test_plotly_is_the_installed_one() -> None:
    """Plotly's script comes out of the installed package, whole, and is compressed once."""
    asset = Dashboard().assets["plotly.min.js"]

    assert gzip.decompress(asset.gzipped) == asset.body
    assert asset.gzipped is asset.gzipped
    assert asset.body.startswith(b"/**\n* plotly.js v")


def test_plotly_is_not_imported() -> None:
    """The script is found without Python's side of Plotly, which would cost every start time and memory."""
    code = (
        "import sys; from app.api.endpoints.dashboard import Dashboard; Dashboard(); sys.exit('plotly' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_playbook_is_where_alerts_point(client: Client) -> None:
    """``docs/playbook.md`` of the repository is served at the address that every alert names, without a key."""
    answer = client.get("/docs/playbook.md")

    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text == (ROOT / "docs" / "playbook.md").read_text(encoding="utf-8")


def _imported(script: str) -> list[str]:
    return re.findall(r'from "\./([\w.]+)"', script)
