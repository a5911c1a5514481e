"""The dashboard's files, and Plotly's script out of the installed wheel."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

HERE = Path(__file__).parent
MEDIA_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


@dataclass(frozen=True)
class Asset:
    """Hold one file; its compressed bytes are made once, when first asked for."""

    file: Path

    @property
    def media_type(self) -> str:
        """The ``Content-Type``."""
        return MEDIA_TYPES[self.file.suffix]

    @property
    def body(self) -> bytes:
        """The file's bytes, up to 5 MB that are not worth keeping."""
        return self.file.read_bytes()

    @cached_property
    def gzipped(self) -> bytes:
        """The file's bytes, compressed."""
        return gzip.compress(self.body, mtime=0)


class Dashboard:
    """Hold the page and its assets.

    Their URLs carry ``version``, a hash of all of them, so that browsers may keep them for ever.
    """

    def __init__(self) -> None:
        # Importing the package, or reading its list of 3,000 files, would cost time and memory for nothing.
        plotly = Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js")))
        files = [*sorted((HERE / "static").iterdir()), plotly]
        self.assets = {file.name: Asset(file) for file in files if file.suffix in MEDIA_TYPES}
        digest = hashlib.sha256()
        for asset in self.assets.values():
            with asset.file.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        self.version = digest.hexdigest()[:16]
        templates = Environment(loader=FileSystemLoader(HERE), autoescape=True)
        self.page = templates.get_template("page.html").render(assets=f"/dashboard/assets/{self.version}")


def read_playbook() -> str | None:
    """Read the playbook in Markdown.

    It is inside an installed package or in the checkout; None means neither has it.
    """
    places = (HERE / "playbook.md", HERE.parents[1] / "docs" / "playbook.md")
    return next((place.read_text(encoding="utf-8") for place in places if place.exists()), None)
