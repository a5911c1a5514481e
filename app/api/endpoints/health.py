"""``/health/live`` says whether the process is alive, ``/health/ready`` whether it may serve."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response

from app.api.dependencies import Services, ServicesDep
from app.background import dead_tasks
from app.errors import Unavailable
from app.store.queries.replicas import database_now

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live(services: ServicesDep, response: Response) -> dict[str, Any]:
    """200 while the event loop and the writer thread run; the database is not asked."""
    response.status_code = 200 if services.journal.alive else 503
    return {"live": services.journal.alive}


@router.get("/ready")
async def ready(services: ServicesDep, response: Response) -> dict[str, Any]:
    """200 when a model is loaded and the store answers or rows are spooled; else 503.

    ``checks`` says what is missing. Where a background task has ended, ``checks.monitor`` is false and ``dead_tasks``
    names it; the replica stays ready, since predictions go on.
    """
    dead = dead_tasks(services.background)
    checks = {
        "model": services.registry.ready,
        "journal": services.journal.alive,
        "store": await _store(services),
        "monitor": not dead,
    }
    is_ready = bool(checks["model"] and checks["journal"] and checks["store"])
    response.status_code = 200 if is_ready else 503
    spooled = {"spooled": services.spooler.rows} if services.spooler else {}
    return {"ready": is_ready, "checks": checks, **({"dead_tasks": dead} if dead else {}), **spooled}


async def _store(services: Services) -> bool | Literal["spooling"]:
    """Whether the store answers; ``spooling`` while rows are spooled, without asking it."""
    if services.spooler and services.spooler.spooling:
        return "spooling"
    try:
        await services.readers.run(database_now)
    except Unavailable:
        return "spooling" if services.spooler else False
    return True
