"""``GET /dashboard``: the page, its assets and the playbook.

None of them holds data, so none needs a key.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fastapi import APIRouter, Request, Response
from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse, PlainTextResponse

from app.errors import NotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline script or style runs, whatever a name contains; ``data:`` is for a chart that is saved as a picture."""


def dashboard_router() -> APIRouter:
    """The routes of the dashboard over its files, which are read once."""
    router = APIRouter(include_in_schema=False)
    dashboard = Dashboard()

    @router.get("/dashboard")
    async def page() -> HTMLResponse:
        """The page."""
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "cache-control": "no-cache"}
        return HTMLResponse(dashboard.page, headers=headers)

    @router.get("/dashboard/assets/{version}/{name:path}")
    async def asset(version: str, name: str, request: Request) -> Response:
        """Give one file of the page.

        An address of another version is unknown, since the answer would be cached for ever.
        """
        found = dashboard.assets.get(name)
        if found is None or version != dashboard.version:
            raise NotFound("the dashboard has no such file: load the page again")
        headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(await asyncio.to_thread(lambda: found.body), media_type=found.media_type, headers=headers)
        body = await asyncio.to_thread(lambda: found.gzipped)
        return Response(body, media_type=found.media_type, headers=headers | {"content-encoding": "gzip"})

    @router.get("/docs/playbook.md")
    async def playbook() -> PlainTextResponse:
        """Give the playbook: what to do when an alert fires.

        ``GET /alerts`` names this address.
        """
        text = await asyncio.to_thread(read_playbook)
        if text is None:
            raise NotFound("this installation has no playbook")
        return PlainTextResponse(text, media_type="text/markdown")

    return router


HERE = Path(__file__).parents[2] / "dashboard"
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
        """The file's bytes."""
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
        root = HERE / "static"
        files = [file for file in sorted(root.rglob("*")) if file.suffix in MEDIA_TYPES]
        self.assets = {file.relative_to(root).as_posix(): Asset(file) for file in files}
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
