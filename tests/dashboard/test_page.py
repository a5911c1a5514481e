"""The dashboard over HTTP: the page, its assets and the playbook."""

from __future__ import annotations

import gzip
import posixpath
import re
from collections.abc import Iterator
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
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on\w+=", answer.text) == []
    assert re.findall(r"https?://", answer.text) == []


def test_every_asset_is_there_and_kept_for_ever(client: Client) -> None:
    """Whatever page and scripts load is served compressed, under an address whose content never changes."""
    loaded = addresses(client.get("/dashboard").text)
    root = "/".join(loaded[0].split("/")[:4])
    names = {path.removeprefix(f"{root}/") for path in loaded}
    waiting = [name for name in names if name.endswith(".js")]
    while waiting:
        name = waiting.pop()
        found = {
            posixpath.normpath(posixpath.join(posixpath.dirname(name), each)) for each in _imported(_source(name))
        } - names
        names |= found
        waiting += found

    assert names == set(Dashboard().assets)
    for name in names:
        answer = client.get(f"{root}/{name}", headers={"accept-encoding": "gzip"})
        assert answer.status_code == 200, name
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"].startswith("text/css" if name.endswith(".css") else "text/javascript")


def test_an_asset_without_compression_is_the_same(client: Client) -> None:
    """A client that takes no gzip gets the file itself."""
    address = next(path for path in addresses(client.get("/dashboard").text) if path.endswith(".css"))
    answer = client.get(address, headers={"accept-encoding": "identity"})

    assert "content-encoding" not in answer.headers
    assert answer.text == _source(address.split("/", 4)[4])


@pytest.mark.parametrize("path", ["0000/dashboard.js", "{version}/page.html", "{version}/..%2fpage.html"])
def test_other_addresses_are_unknown(client: Client, path: str) -> None:
    """Another version's address, and files that are no assets, are 404: nothing wrong is cached for a year."""
    version = Dashboard().version

    assert client.get(f"/dashboard/assets/{path.format(version=version)}").status_code == 404


def test_all_scripts_together_are_light() -> None:
    """Every script of the page takes less than 300 kB on the wire, and each is compressed once."""
    scripts = [asset for name, asset in Dashboard().assets.items() if name.endswith(".js")]

    assert all(gzip.decompress(asset.gzipped) == asset.body for asset in scripts)
    assert scripts[0].gzipped is scripts[0].gzipped
    assert sum(len(asset.gzipped) for asset in scripts) < 300_000


def test_the_playbook_is_where_alerts_point(client: Client) -> None:
    """``docs/playbook.md`` of the repository is served at the address that every alert names, without a key."""
    answer = client.get("/docs/playbook.md")

    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    assert answer.text == (ROOT / "docs" / "playbook.md").read_text(encoding="utf-8")


STATIC = ROOT / "app" / "dashboard" / "static"


def _source(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def _imported(script: str) -> list[str]:
    return re.findall(r'(?:from |import\()"(\.[\w./]+)"', script)
