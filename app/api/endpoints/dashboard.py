"""``GET /dashboard``: the page, its assets and the playbook.

None of them holds data, so none needs a key.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, PlainTextResponse

from app.dashboard.assets import Dashboard, read_playbook
from app.errors import NotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Plotly writes styles inline, hence ``'unsafe-inline'`` for them; no inline script runs, whatever a name contains."""


def dashboard_router() -> APIRouter:
    """The routes of the dashboard over its files, which are read once."""
    router = APIRouter(include_in_schema=False)
    dashboard = Dashboard()

    @router.get("/dashboard")
    async def page() -> HTMLResponse:
        """The page."""
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "cache-control": "no-cache"}
        return HTMLResponse(dashboard.page, headers=headers)

    @router.get("/dashboard/assets/{version}/{name}")
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
        body = await asyncio.to_thread(lambda: found.gzipped)  # the first time, 5 MB take a third of a second
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
