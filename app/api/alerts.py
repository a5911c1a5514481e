"""``GET /alerts``: what fires, what was resolved lately, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends

from app.alerting.evaluation import recommend
from app.api.services import ModelDep, ServicesDep, require
from app.store import alerts as stored
from app.store import reports
from app.types import Json, to_rfc3339

router = APIRouter(tags=["monitoring"])
PLAYBOOK = "docs/playbook.md"


@router.get("/alerts", dependencies=[Depends(require("read"))])
async def alerts(services: ServicesDep, model: ModelDep) -> dict[str, Any]:
    """Firing alerts, the worst first, then those resolved in the last week; each with its section of the playbook."""
    version = (model.schema.name, model.schema.version)
    shown: Sequence[stored.Alert] = await services.readers.run(stored.shown, *version)
    latest = await services.readers.run(reports.latest_of_each, *version)
    advice = recommend(latest, retrain_share=services.config.drift.retrain_share)
    return {"alerts": [_item(alert) for alert in shown], "recommendations": advice}


def _item(alert: stored.Alert) -> Json:
    finding = alert.finding
    return {
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "severity": finding.severity,
        "state": "firing" if alert.resolved_at is None else "resolved",
        "value": finding.value,
        "limit": finding.limit,
        "since": to_rfc3339(alert.since),
        "resolved_at": None if alert.resolved_at is None else to_rfc3339(alert.resolved_at),
        "message": finding.message,
        "causes": list(finding.causes),
        "playbook": f"{PLAYBOOK}#{alert.rule.replace('_', '-')}",
        "report_id": alert.report_id,
    }
