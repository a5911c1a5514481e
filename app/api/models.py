"""``/models``: versions, roles, schema, reference summary, baseline metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Depends

from app.api.paging import page
from app.api.services import ServicesDep, require

router = APIRouter(prefix="/models", tags=["models"], dependencies=[Depends(require("read"))])


@router.get("")
async def models(services: ServicesDep) -> dict[str, Any]:
    """The served model with its versions."""
    model = await asyncio.to_thread(services.registry.describe, services.registry.active.schema.name)
    return page([model], 1, lambda item: item, lambda item: str(item["name"]))


@router.get("/{name}")
async def model(name: str, services: ServicesDep) -> dict[str, Any]:
    """One model with its versions; loaded ones in full."""
    return await asyncio.to_thread(services.registry.describe, name)
