"""Health: ``/health/live`` is the process, ``/health/ready`` the service."""

from __future__ import annotations

from typing import Literal, NotRequired

from fastapi import APIRouter, Response
from typing_extensions import TypedDict

from app.api.dependencies import Services, ServicesDep
from app.api.documentation import answers
from app.api.http import json_response
from app.background import dead_tasks
from app.errors import Unavailable
from app.store.queries.replicas import database_now

router = APIRouter(prefix="/health", tags=["health"])


class Live(TypedDict):
    """Whether the process is alive."""

    live: bool


class ReadyChecks(TypedDict):
    """The parts of readiness; the monitor is shown and not needed."""

    model: bool
    journal: bool
    store: bool | Literal["spooling"]
    monitor: bool


class Ready(TypedDict):
    """Whether the service may get traffic."""

    ready: bool
    checks: ReadyChecks
    dead_tasks: NotRequired[list[str]]
    """Background tasks that have ended, where there are any."""
    spooled: NotRequired[int]
    """Rows that wait for the store; where a spool is configured."""


READY: Ready = {"ready": True, "checks": {"model": True, "journal": True, "store": True, "monitor": True}}


@router.get("/live")
@answers(Live, {"live": True}, also={503: ("The process must be restarted", Live, {"live": False})})
async def live(services: ServicesDep) -> Response:
    """200 while the event loop and the writer thread run; the database is not asked."""
    body: Live = {"live": services.journal.alive}
    return json_response(body, 200 if body["live"] else 503)


@router.get("/ready")
@answers(Ready, READY, also={503: ("What is missing", Ready, READY | {"ready": False})})
async def ready(services: ServicesDep) -> Response:
    """Answer 200 when the service can predict and store; else 503 with what is missing.

    A model must be loaded and warmed, and the store must answer or be spooled for.

    ``checks`` says what is missing. Where a background task has ended, ``checks.monitor`` is false and ``dead_tasks``
    names it; the replica stays ready, since predictions go on.
    """
    dead = dead_tasks(services.background)
    checks: ReadyChecks = {
        "model": services.registry.ready,
        "journal": services.journal.alive,
        "store": await _store(services),
        "monitor": not dead,
    }
    is_ready = bool(checks["model"] and checks["journal"] and checks["store"])
    body: Ready = {"ready": is_ready, "checks": checks}
    if dead:
        body["dead_tasks"] = dead
    if services.spooler:
        body["spooled"] = services.spooler.rows
    return json_response(body, 200 if is_ready else 503)


async def _store(services: Services) -> bool | Literal["spooling"]:
    """Tell whether the store answers.

    It is ``spooling``, and not asked, while the spool stands in for it.
    """
    if services.spooler and services.spooler.spooling:
        return "spooling"
    try:
        await services.readers.run(database_now)
    except Unavailable:
        return "spooling" if services.spooler else False
    return True
