"""The ASGI application: hot routes first, then FastAPI with its routers and error handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from html import escape
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import openapi
from app.api.coalescing import HotEndpoint, HotRoutes
from app.api.dependencies import Services, refuse_unknown_parameters
from app.api.endpoints import admin, alerts, histories, models, predictions, probes, reports
from app.api.endpoints.dashboard import dashboard_router, session_router
from app.api.endpoints.outcome import OutcomeHandler
from app.api.endpoints.predict import PredictHandler
from app.api.http import JSON, Call, Reply, client_of, internal_error, received_at_of, render_error
from app.api.middleware import HEALTH, AccessLog, BodyGate, Deadlines, TrustedHosts, common_headers, request_id_of
from app.api.request_guards import GRANT, RateLimits
from app.background import BackgroundTask
from app.errors import FieldError, Invalid, PlumblineError, RequestError, Unauthenticated
from app.logging import REQUESTS
from app.metrics import InProgress


class Gateway:
    """Measure and log every request around the framework's middleware stack.

    The hot routes do the same for themselves, at less cost.
    """

    def __init__(
        self, app: ASGIApp, hosts: TrustedHosts, rates: RateLimits, in_progress: InProgress, access_log: AccessLog
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._rates = rates
        self._in_progress = in_progress
        self._access_log = access_log
        self._log = structlog.get_logger("gateway")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that goes wrong inside leaves as anything but an answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        request_id = request_id_of(headers)
        scope["plumbline.request_id"] = request_id
        call = Call(scope["method"], scope["path"], b"", headers, request_id, scope["plumbline.received_at"])
        if self._access_log.spans is not None:
            call.begin_stages()
        REQUESTS.set((call,))  # the server gives each request a task of its own
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_common(message.get("headers", ()), request_id)
            await send(message)

        self._in_progress.requests += 1
        inner = scope
        try:
            self._admit(scope, headers)
            if scope["method"] == "HEAD":
                inner = {**scope, "method": "GET"}
                await self._app(inner, *without_body(receive, sending))
            else:
                await self._app(scope, receive, sending)
        except RequestError as refusal:
            await render_error(refusal, request_id).send(sending)
        except Exception as error:  # noqa: BLE001 - the last resort; it is logged, and answered with its id
            self._log.exception("unexpected_error", error_id=request_id, exc_info=error)
            if not status:
                await internal_error(request_id).send(sending)
        finally:
            self._in_progress.requests -= 1
            # The route's template: a client's text would make a log that cannot be counted.
            call.path = getattr(inner.get("route"), "path", "unmatched")
            grant = inner.get(GRANT)
            # An id that was found: any other text may be a key that somebody put there by mistake.
            id_ = inner.get("path_params", {}).get("prediction_id") if 0 < status < HTTPStatus.BAD_REQUEST else None
            call.notes = {"prediction_id": id_} if id_ else None
            call.key_name = grant.name if grant else None
            self._access_log.note_all([call], [status])

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Check the host, the origin and the address of a caller; health takes any address."""
        self._hosts.check(scope["method"], scope["path"], headers)
        if not scope["path"].startswith(HEALTH):
            self._rates.count_address(client_of(scope), scope["plumbline.received_at"])


def _with_common(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers of an answer with those of every answer that it does not set itself.

    A file with an ``ETag`` may be kept.
    """
    own = list(headers)
    set_already = {name.lower() for name, _ in own}
    if b"etag" in set_already:
        set_already.add(b"cache-control")
    return [*own, *(header for header in common_headers(request_id) if header[0] not in set_already)]


def without_body(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """The channels of a GET endpoint that answers HEAD.

    Its headers are sent, its body is not.

    A stream is told that its reader has gone, so that an export does not run for nobody.
    """
    ended = False

    async def receiving() -> Message:
        return {"type": "http.disconnect"} if ended else await receive()

    async def sending(message: Message) -> None:
        nonlocal ended
        if message["type"] != "http.response.body":
            await send(message)
        elif not ended:
            ended = True
            await send({"type": "http.response.body", "body": b""})

    return receiving, sending


Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Application(FastAPI):
    """Serve hot routes directly and all others through FastAPI.

    The OpenAPI document is generated from the loaded model.
    """

    def __init__(self, services: Services, lifespan: Lifespan) -> None:
        strict = [Depends(refuse_unknown_parameters)]
        super().__init__(
            title="Plumbline", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, dependencies=strict
        )
        self.state.services = services
        self._requests = probes.RequestCounts(services.series)
        self._access_log = AccessLog.of(services.config.logging, self._requests.count)
        self._access_log.spans = services.spans
        self._described: tuple[tuple[str, str], asyncio.Task[bytes]] | None = None
        around: dict[str, Any] = {
            "hosts": services.hosts,
            "rates": services.rates,
            "keyring": services.keyring,
            "limits": services.body_limits,
            "deadlines": Deadlines(services.config.server.deadline),
            "in_progress": services.metrics.in_progress,
            "access_log": self._access_log,
            "large_bodies": services.large_bodies,
        }
        self._hot = {
            ("POST", "/predict"): HotEndpoint("/predict", PredictHandler(services), key_scope="predict", **around),
            ("POST", "/outcome"): HotEndpoint("/outcome", OutcomeHandler(services), key_scope="outcome", **around),
        }

    @property
    def hot_routes(self) -> HotRoutes:
        """The hot endpoints by method and target, for a server that can do without ASGI."""
        return {(method.encode(), path.encode()): endpoint for (method, path), endpoint in self._hot.items()}

    def add_background_task(self, task: BackgroundTask) -> None:
        """Let ``/health/ready`` ask one more task: the server has one of its own."""
        self.state.services.background.append(task)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the hot routes at once, and everything else through the framework."""
        if scope["type"] == "http":
            scope["plumbline.received_at"] = received_at_of(scope)
        hot = self._hot.get((scope.get("method", ""), scope.get("path", "")))
        await (hot or super().__call__)(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's stack, inside the gateway."""
        services: Services = self.state.services
        stack = BodyGate(super().build_middleware_stack(), self.routes, services.keyring, services.body_limits)
        return Gateway(stack, services.hosts, services.rates, services.metrics.in_progress, self._access_log)

    def add_hot_routes(self) -> None:
        """Register the hot routes with the framework too.

        It answers 405 to other methods on their paths.
        """
        self.router.routes.extend(
            Route(path, endpoint, methods=[method]) for (method, path), endpoint in self._hot.items()
        )

    def count_requests(self) -> None:
        """Show the series of requests of every route from the start."""
        routes = [
            (method, context.path or "")
            for context in iter_route_contexts(self.routes)
            for method in sorted(context.methods or ())
            if method != "HEAD"
        ]
        self._requests.add_routes(routes, hot=[path for _, path in self._hot])

    def openapi(self) -> dict[str, Any]:
        """The description in the terms of the loaded model, made anew."""
        return openapi.describe(self)

    async def openapi_document(self) -> bytes:
        """The description as JSON.

        It takes half a second, so it is made in another thread, once for each version; whoever asks meanwhile waits
        for the same one.
        """
        bundle = self.state.services.registry.active.bundle
        version = (bundle.schema.version, bundle.sha256)
        if self._described is None or self._described[0] != version or _has_failed(self._described[1]):
            self._described = version, asyncio.create_task(asyncio.to_thread(self._render_openapi))
        return await asyncio.shield(self._described[1])

    def _render_openapi(self) -> bytes:
        return orjson.dumps(self.openapi())


def _has_failed(task: asyncio.Task[bytes]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def build_api(services: Services, lifespan: Lifespan) -> Application:
    """The application over finished parts."""
    app = Application(services, lifespan)
    app.add_hot_routes()
    parts = (probes, models, predictions, reports, histories, alerts, admin, openapi)
    for part in parts:
        app.include_router(part.router)
    app.include_router(session_router)
    app.include_router(dashboard_router())
    openapi.mount_assets(app)
    app.count_requests()
    app.add_exception_handler(PlumblineError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(Exception, _fail)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer an expected failure.

    A browser without a key that asks for a page is sent to the sign-in.
    """
    assert isinstance(error, PlumblineError)  # noqa: S101 - registered for this type alone
    if isinstance(error, Unauthenticated) and _is_page(request):
        return RedirectResponse(f"/dashboard/sign-in?next={quote(request.url.path)}", HTTPStatus.SEE_OTHER)
    return _response(request, render_error(error, request.scope["plumbline.request_id"]))


def _is_page(request: Request) -> bool:
    """Whether a browser follows a link to a page that people read."""
    path = request.url.path
    is_report = path.startswith("/reports/") and path.endswith(".html")
    is_shown = path in ("/", "/docs", "/dashboard") or path.startswith("/dashboard/") or is_report
    return is_shown and request.method == "GET" and "text/html" in request.headers.get("accept", "")


async def _fail(request: Request, _error: Exception) -> Response:
    """Answer 500 to an unexpected error.

    The framework raises it again after this answer, and the gateway logs it.
    """
    return _response(request, internal_error(request.scope["plumbline.request_id"]))


async def _refuse_parameters(request: Request, error: Exception) -> Response:
    """FastAPI's own handler repeats the input, and answers 500 where that is NaN."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type alone
    found = error.errors()
    fields = (FieldError(".".join(map(str, item["loc"][1:])) or "body", item["msg"], item["type"]) for item in found)
    return _response(request, render_error(Invalid(fields, str(found[0]["loc"][0]) if found else "body"), ""))


async def _refuse_route(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of every other error."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type alone
    refusal = RequestError(error.detail)
    refusal.status = error.status_code
    response = _response(request, render_error(refusal, ""))
    response.headers.update(error.headers or {})
    if "allow" in response.headers:
        response.headers["allow"] = ", ".join(_methods_at(request))
    return response


def _methods_at(request: Request) -> list[str]:
    """The methods that a path takes, over all its routes.

    The router itself names those of the first one alone.
    """
    routes = [route for route in iter_route_contexts(request.app.routes) if route.methods]
    methods = {
        name for route in routes if route.path_regex.match(request.scope["path"]) for name in route.methods or ()
    }
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


def _response(request: Request, reply: Reply) -> Response:
    """An error, as JSON for a program and as a page for a person."""
    if _is_page(request):
        response: Response = HTMLResponse(_error_page(reply), reply.status, headers={"vary": "accept"})
        response.raw_headers.extend(header for header in reply.headers if header != JSON)
        return response
    response = Response(reply.body, reply.status)
    response.raw_headers.extend(reply.headers)
    return response


def _error_page(reply: Reply) -> str:
    detail = orjson.loads(reply.body)["detail"]
    lines = [detail] if isinstance(detail, str) else [f"{item['field']}: {item['msg']}" for item in detail]
    title = escape(HTTPStatus(reply.status).phrase)
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    return f'{head}<h1>{title}</h1>{text}<p><a href="/dashboard">To the page</a></p></html>'
