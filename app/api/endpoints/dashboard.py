"""``GET /dashboard``: the page, its assets, the playbook, and the sign-in.

None of them holds data, so none needs a key.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, TypeAlias

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from jinja2 import Environment, FileSystemLoader
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from typing_extensions import TypedDict

from app.api.dependencies import ServicesDep
from app.api.http import client_of, json_response
from app.api.request_guards import SESSION_COOKIE, SESSION_S, Grant
from app.errors import Conflict, NotFound

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""No inline script or style runs, whatever a name contains; ``data:`` is for a chart that is saved as a picture."""


VIEWS = (
    "performance", "drift", "quality", "service", "alerts", "predictions", "reports", "models", "playbook", "sign-in",
)  # fmt: skip
"""Paths below ``/dashboard``, each with a view of the page."""
_Text: TypeAlias = Annotated[str | None, Query(max_length=2048)]


async def _address(
    *,
    _range: Annotated[_Text, Query(alias="range")] = None,
    _from: Annotated[_Text, Query(alias="from")] = None,
    _to: Annotated[_Text, Query(alias="to")] = None,
    _zone: Annotated[_Text, Query(alias="zone")] = None,
    _version: Annotated[_Text, Query(alias="version")] = None,
    _segment: Annotated[_Text, Query(alias="segment")] = None,
    _feature: Annotated[_Text, Query(alias="feature")] = None,
    _metric: Annotated[_Text, Query(alias="metric")] = None,
    _id: Annotated[_Text, Query(alias="id")] = None,
    _with: Annotated[_Text, Query(alias="with")] = None,
    _state: Annotated[_Text, Query(alias="state")] = None,
    _kind: Annotated[_Text, Query(alias="kind")] = None,
    _labelled: Annotated[_Text, Query(alias="labelled")] = None,
    _cursor: Annotated[_Text, Query(alias="cursor")] = None,
    _next: Annotated[_Text, Query(alias="next")] = None,
) -> None:
    """Declare what the address of a view may hold: the page's script reads it."""


class SignInBody(BaseModel):
    """The key to sign in with."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(min_length=1, max_length=256)


class Caller(TypedDict):
    """The rights of the page's reader."""

    needs_key: bool
    """Whether there are keys; without any, everybody may do everything."""
    name: str | None
    """The name of the key; null where nobody has signed in."""
    scopes: list[str]


session_router = APIRouter(include_in_schema=False)


@session_router.get("/")
async def start() -> RedirectResponse:
    """The page is what people look for at the root."""
    return RedirectResponse("/dashboard")


@session_router.get("/dashboard/session")
async def session(request: Request, services: ServicesDep) -> Response:
    """Tell who has signed in."""
    return json_response(_caller(services, services.keyring.signed_in(dict(request.scope["headers"]))))


@session_router.post("/dashboard/session")
async def sign_in(body: SignInBody, request: Request, services: ServicesDep) -> Response:
    """Begin a session with a key; the browser gets a cookie that no script can read."""
    if not services.keyring.guards("read"):
        raise Conflict("this service has no keys: there is nothing to sign in to")
    token, grant = services.keyring.sign_in(body.key.encode(), client_of(request.scope))
    structlog.get_logger("audit").info("signed_in", by=grant.name)
    response = json_response(_caller(services, grant))
    is_secure = request.url.scheme == "https" or services.config.server.address.startswith("https:")
    response.set_cookie(
        SESSION_COOKIE, token, max_age=SESSION_S, path="/", secure=is_secure, httponly=True, samesite="strict"
    )
    return response


@session_router.delete("/dashboard/session")
async def sign_out(request: Request, services: ServicesDep) -> Response:
    """End the session."""
    services.keyring.sessions.close(dict(request.scope["headers"]).get(b"cookie", b""))
    response = json_response(_caller(services, None))
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def dashboard_router() -> APIRouter:
    """The routes of the dashboard over its files, which are read once."""
    router = APIRouter(include_in_schema=False)
    dashboard = Dashboard()
    headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "cache-control": "no-cache"}

    @router.get("/dashboard", dependencies=[Depends(_address)])
    async def page() -> HTMLResponse:
        """The page."""
        return HTMLResponse(dashboard.page, headers=headers)

    @router.get("/dashboard/{view}", dependencies=[Depends(_address)])
    async def view(view: str) -> HTMLResponse:
        """The page; its script shows the view that the address names."""
        if view not in VIEWS:
            raise NotFound("the dashboard has no such view")
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
    async def playbook(request: Request) -> Response:
        """Give the playbook: what to do when an alert fires.

        ``GET /alerts`` names this address. A browser that follows a link is sent to the page that shows it; what
        stands behind ``#`` goes along.
        """
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("/dashboard/playbook", headers={"vary": "accept"})
        return PlainTextResponse(await asyncio.to_thread(_require_playbook), media_type="text/markdown")

    return router


def _caller(services: ServicesDep, grant: Grant | None) -> Caller:
    needs_key = services.keyring.guards("read")
    every = ["predict", "outcome", "read", "admin", "metrics"]
    scopes = sorted(grant.scopes) if grant else [] if needs_key else every
    return {"needs_key": needs_key, "name": grant.name if grant else None, "scopes": scopes}


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


def _require_playbook() -> str:
    text = read_playbook()
    if text is None:
        raise NotFound("this installation has no playbook")
    return text
