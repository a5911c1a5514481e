"""Assemble the HTTP room: routes, errors, documentation, and the gateway around them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import alerts, docs, health, metrics, models, predictions, reports, silences
from app.api.access import AccessLog
from app.api.batch import Batch
from app.api.dashboard import dashboard_router
from app.api.deadlines import Deadlines
from app.api.gateway import Gateway
from app.api.hot import HotEndpoint
from app.api.outcome import OutcomeBatch, outcome_handler
from app.api.predict import PredictBatch, predict_handler
from app.api.services import Services
from app.api.together import Lane, Together
from app.api.wire import Reply, internal_error, render_error
from app.errors import FieldError, Invalid, PlumblineError, RequestError

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Application(FastAPI):
    """FastAPI with the gateway around its whole middleware stack, and a description generated from the loaded model."""

    def __init__(self, services: Services, lifespan: Lifespan) -> None:
        super().__init__(title="Plumbline", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
        self.state.services = services
        self._access_log = AccessLog()
        around = (Deadlines(services.config.server.deadline), services.metrics.in_progress, self._access_log)
        self._hot = {
            ("POST", "/predict"): HotEndpoint(predict_handler(services), services.keyring, "predict", *around),
            ("POST", "/outcome"): HotEndpoint(outcome_handler(services), services.keyring, "outcome", *around),
        }

    @property
    def lane(self) -> Lane:
        """The hot endpoints by method and target, for a server that can do without ASGI."""
        services = self.state.services
        batches: dict[str, Batch[Any, Any]] = {"/predict": PredictBatch(services), "/outcome": OutcomeBatch(services)}
        return {
            (method.encode(), path.encode()): Together(path, endpoint, batches[path])
            for (method, path), endpoint in self._hot.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the hot routes at once, and everything else through the framework."""
        hot = self._hot.get((scope.get("method", ""), scope.get("path", "")))
        await (hot or super().__call__)(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's stack, inside the gateway."""
        in_progress = self.state.services.metrics.in_progress
        return Gateway(super().build_middleware_stack(), in_progress, self._access_log)

    def add_hot_routes(self) -> None:
        """Register the hot routes with the framework too, which answers 405 to other methods on their paths."""
        self.router.routes.extend(
            Route(path, endpoint, methods=[method]) for (method, path), endpoint in self._hot.items()
        )

    def openapi(self) -> dict[str, Any]:
        """The description, with the hot routes in the terms of the model that is loaded."""
        return docs.describe(self)


def build_api(services: Services, lifespan: Lifespan) -> Application:
    """The application over finished parts."""
    app = Application(services, lifespan)
    app.add_hot_routes()
    parts = (health, metrics, models, predictions, reports, alerts, silences, docs)
    for part in parts:
        app.include_router(part.router)
    app.include_router(dashboard_router())
    docs.mount_assets(app)
    app.add_exception_handler(PlumblineError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(Exception, _fail)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlumblineError)  # noqa: S101 - registered for this type alone
    return _response(render_error(error, request.scope["plumbline.request_id"]))


async def _fail(request: Request, _error: Exception) -> Response:
    """The unexpected; the framework raises it once more after this answer, and the gateway logs it."""
    return _response(internal_error(request.scope["plumbline.request_id"]))


async def _refuse_parameters(_request: Request, error: Exception) -> Response:
    """FastAPI's own handler repeats the input, and answers 500 where that is NaN."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type alone
    fields = [
        FieldError(".".join(map(str, item["loc"][1:])) or "body", item["msg"], item["type"]) for item in error.errors()
    ]
    return _response(render_error(Invalid(fields), ""))


async def _refuse_route(_request: Request, error: Exception) -> Response:
    """404 and 405 of the router, in the form of every other error."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type alone
    refusal = RequestError(error.detail)
    refusal.status = error.status_code
    reply = render_error(refusal, "")
    response = _response(reply)
    response.headers.update(error.headers or {})
    return response


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    response.raw_headers.extend(reply.headers)
    return response
