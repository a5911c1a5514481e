"""``GET /alerts``: what fires, what was resolved lately, and what to do about it; and who is on it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends

from app.alerting.advice import Advice, recommend
from app.alerting.rules import playbook_section
from app.alerting.webhook import NAME as RETRAIN
from app.api.services import ModelDep, ServicesDep, require
from app.api.silences import render_silence
from app.errors import Conflict, NotFound
from app.store import actions, reports
from app.store import alerts as stored
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.silences import Silence, planned
from app.types import Json, Micros, to_rfc3339

router = APIRouter(tags=["monitoring"])
PLAYBOOK = "docs/playbook.md"


@router.get("/alerts", dependencies=[Depends(require("read"))])
async def alerts(services: ServicesDep, model: ModelDep) -> dict[str, Any]:
    """Firing alerts, the worst first, pending ones, then those resolved in the last week; silences, advice, requests.

    Each alert names its section of the playbook.
    """
    version = (model.schema.name, model.schema.version)
    shown: Sequence[stored.Alert] = await services.readers.run(stored.shown, *version)
    now, silences = await services.readers.run(_silences)
    latest = await services.readers.run(reports.latest_of_each, *version)
    firing = [alert for alert in shown if alert.state == "firing"]
    advice = recommend(model.schema.task, latest, firing, retrain_share=services.config.drift.retrain_share)
    asked = await services.readers.run(actions.asked, RETRAIN)
    active = [silence for silence in silences if silence.starts_at <= now]
    return {
        "alerts": [_item(alert, active) for alert in shown],
        "silences": list(map(render_silence, silences)),
        "recommendations": list(map(_advice, advice)),
        "actions": list(map(_action, asked)),
    }


@router.post("/alerts/{alert_id}/acknowledge")
async def acknowledge(
    alert_id: str, services: ServicesDep, by: Annotated[str | None, Depends(require("admin"))]
) -> dict[str, Any]:
    """Say that somebody is on a firing alert; who said so first stays."""
    if "\0" in alert_id:
        raise NotFound("no alert has this id")
    alert = await services.journal.run(partial(stored.acknowledge, alert_id=alert_id, by=by))
    if alert is None:
        raise NotFound("no alert has this id")
    if alert.state != "firing":
        raise Conflict(f"only a firing alert can be acknowledged, this one is {alert.state}")
    structlog.get_logger("audit").info("alert_acknowledged", alert_id=alert_id, rule=alert.rule, by=by)
    now, silences = await services.readers.run(_silences)
    return _item(alert, [silence for silence in silences if silence.starts_at <= now])


def _silences(connection: Connection) -> tuple[Micros, Sequence[Silence]]:
    now = database_now(connection)
    return now, planned(connection, at=now)


def _item(alert: stored.Alert, silences: Sequence[Silence]) -> Json:
    """An alert as the API shows it; ``silences`` are those that last."""
    finding = alert.finding
    return {
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "severity": finding.severity,
        "state": _state(alert, silences),
        "value": finding.value,
        "limit": finding.limit,
        "since": to_rfc3339(alert.since),
        "resolved_at": _time(alert.resolved_at),
        "acknowledged_at": _time(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "silenced_until": _time(max((silence.ends_at for silence in silences if silence.covers(alert)), default=None)),
        "message": finding.message,
        "causes": list(finding.causes),
        "playbook": f"{PLAYBOOK}#{playbook_section(alert.rule)}",
        "report_id": alert.report_id,
    }


def _advice(advice: Advice) -> Json:
    return {"action": advice.action, "because": advice.because, "evidence": list(advice.evidence)}


def _action(action: actions.Action) -> Json:
    """What a pipeline was asked for, why, and whether the request has arrived."""
    kept = ("model_version", "because", "evidence", "report_id")
    return {
        "action": RETRAIN,
        **{key: action.body[key] for key in kept},
        "asked_at": to_rfc3339(action.asked_at),
        "state": action.state,
        "delivered_at": _time(action.delivered_at),
        "tries": action.tries,
        "error": action.error,
    }


def _state(alert: stored.Alert, silences: Sequence[Silence]) -> str:
    if alert.state != "firing":
        return alert.state
    if any(silence.covers(alert) for silence in silences):
        return "silenced"
    return "firing" if alert.acknowledged_at is None else "acknowledged"


def _time(moment: Micros | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)
