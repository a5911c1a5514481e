"""Alerts and silences over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from app.alerting.channels.webhook import NAME as RETRAIN
from app.alerting.retraining import Advice, recommend
from app.alerting.rules.drift import playbook_section
from app.api.dependencies import ModelDep, Moment, ServicesDep, require
from app.config.fields import Duration
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.store.database import Connection
from app.store.queries import alerts as stored
from app.store.queries import outbox, reports
from app.store.queries.alerts import Matcher, Silence, planned_silences
from app.store.queries.replicas import database_now
from app.types import SECOND, Json, Micros, Severity, from_datetime, new_id, to_rfc3339

router = APIRouter(tags=["monitoring"])
ByAdmin = Annotated[str | None, Depends(require("admin"))]
LONGEST_S = 365 * 86_400
"""How long a silence may last, and how far ahead it may be planned."""


def _bounded(duration: Duration) -> Duration:
    if duration > LONGEST_S:
        raise ValueError(f"must not be longer than {Duration(LONGEST_S)}")
    return duration


class MatcherBody(BaseModel):
    """Which alerts: those that fit everything that is named; without a name, all."""

    model_config = ConfigDict(extra="forbid", title="Matcher")

    rule: str | None = None
    severity: Severity | None = None
    feature: str | None = Field(None, description="an alert that is about this feature alone")


class SilenceBody(BaseModel):
    """A silence, from now on or from a planned moment on."""

    model_config = ConfigDict(extra="forbid", title="Silence")

    matcher: MatcherBody
    duration: Annotated[
        Duration, AfterValidator(_bounded), WithJsonSchema({"type": "string", "examples": ["30m", "2h", "7d"]})
    ]
    reason: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00]*$", description="why, for those who wonder")
    starts_at: Moment | None = Field(None, description="by default now; RFC 3339 with its zone")


@router.post("/alerts/silences")
async def silence(body: SilenceBody, services: ServicesDep, model: ModelDep, by: ByAdmin) -> dict[str, Any]:
    """Tell nobody of the alerts that fit, for a while."""
    matcher = Matcher(**body.matcher.model_dump())
    known = sorted({name for name, _ in services.rules.severities(model.schema.task)})
    if matcher.rule is not None and matcher.rule not in known:
        raise Invalid([FieldError("matcher.rule", f"one of {', '.join(known)}", "no rule has this name")])
    if matcher.feature is not None and matcher.feature not in model.schema.feature_names:
        raise Invalid([FieldError("matcher.feature", "a feature of the model", "the model has no such feature")])
    made = await services.journal.run(partial(_make, body=body, matcher=matcher, by=by))
    structlog.get_logger("audit").info("alerts_silenced", silence_id=made.silence_id, by=by, **asdict(matcher))
    return render_silence(made)


@router.delete("/alerts/silences/{silence_id}")
async def unsilence(silence_id: str, services: ServicesDep, by: ByAdmin) -> dict[str, Any]:
    """End a silence now; one that has ended stays as it is."""
    ended = (
        None if "\0" in silence_id else await services.journal.run(partial(stored.end_silence, silence_id=silence_id))
    )
    if ended is None:
        raise NotFound("no silence has this id")
    structlog.get_logger("audit").info("silence_ended", silence_id=silence_id, by=by)
    return render_silence(ended)


def render_silence(silence: Silence) -> Json:
    """A silence as the API shows it."""
    return {
        "silence_id": silence.silence_id,
        "matcher": asdict(silence.matcher),
        "starts_at": to_rfc3339(silence.starts_at),
        "ends_at": to_rfc3339(silence.ends_at if silence.ended_at is None else silence.ended_at),
        "reason": silence.reason,
        "created_by": silence.created_by,
        "created_at": to_rfc3339(silence.created_at),
    }


def _make(connection: Connection, body: SilenceBody, matcher: Matcher, by: str | None) -> Silence:
    now = database_now(connection)
    starts = now if body.starts_at is None else from_datetime(body.starts_at)
    ends = Micros(starts + round(body.duration * SECOND))
    if ends <= now or starts > now + LONGEST_S * SECOND:
        expected = f"a time within the next {Duration(LONGEST_S)}"
        raise Invalid([FieldError("starts_at", expected, "the silence is over by now, or too far ahead")])
    made = Silence(new_id(now * 1000), matcher, starts, ends, body.reason, by, now)
    stored.add_silence(connection, made)
    return made


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
    asked = await services.readers.run(outbox.asked, RETRAIN)
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
    return now, planned_silences(connection, at=now)


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


def _action(action: outbox.Action) -> Json:
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
