"""``/models``: versions, roles, schema, reference summary, baseline metrics; which of the versions answers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from app.api.dependencies import ServicesDep, page, require
from app.errors import NotFound
from app.store.queries.versions import Activation
from app.types import Json

router = APIRouter(prefix="/models", tags=["models"])
Caller = Annotated[str | None, Depends(require("admin"))]


class ActivateBody(BaseModel):
    """Which version shall answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    version: str = Field(min_length=1, max_length=128, description="A version on disk, as `GET /models/{name}` lists.")


@router.get("", dependencies=[Depends(require("read"))])
async def models(services: ServicesDep) -> dict[str, Any]:
    """The served model with its versions."""
    model = await asyncio.to_thread(services.registry.describe, services.registry.active.schema.name)
    return page([model], 1, lambda item: item, lambda item: str(item["name"]))


@router.get("/{name}", dependencies=[Depends(require("read"))])
async def model(name: str, services: ServicesDep) -> dict[str, Any]:
    """One model with its versions; loaded ones in full."""
    return await asyncio.to_thread(services.registry.describe, name)


@router.post("/{name}/activate")
async def activate(name: str, body: ActivateBody, services: ServicesDep, caller: Caller) -> dict[str, Any]:
    """Load, verify and warm a version, then let it answer, here and on every replica; where it fails, nothing changes.

    409 when the bundle is refused, with the reason.
    """
    _check(name, services.registry.active.schema.name)
    return _told(name, await services.activator.activate(body.version, by=caller))


@router.post("/{name}/rollback")
async def rollback(name: str, services: ServicesDep, caller: Caller) -> dict[str, Any]:
    """Let the version answer again that did before the active one was activated; 409 when there is none."""
    _check(name, services.registry.active.schema.name)
    return _told(name, await services.activator.rollback(by=caller))


def _check(name: str, served: str) -> None:
    if name != served:
        raise NotFound("no model of this name is served")


def _told(name: str, activation: Activation) -> Json:
    return {
        "name": name,
        "version": activation.version,
        "earlier": list(activation.earlier),
    }
