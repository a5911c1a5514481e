"""``GET /metrics``: Prometheus text or OpenMetrics, by content negotiation."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client.exposition import choose_encoder

from app.api.services import ServicesDep, require

router = APIRouter(tags=["metrics"])


@router.get("/metrics", dependencies=[Depends(require("metrics"))])
async def metrics(request: Request, services: ServicesDep) -> Response:
    """Every series; the reports' figures are those of the latest stored report, the same on every replica."""
    await services.refresh()
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    body = await asyncio.to_thread(encode, services.series)  # thousands of series would hold the event loop up
    return Response(body, media_type=content_type)
