"""Alerts and silences over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Literal, TypeAlias

import orjson
import structlog
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from app.alerting.retraining import NAME as RETRAIN
from app.alerting.retraining import Advice, Evidence, recommend
from app.alerting.rules.drift import playbook_section
from app.api.dependencies import BoundModel, Cursor, Limit, ModelDep, Moment, Reason, ServicesDep, micros, page, require
from app.api.documentation import answers
from app.api.examples import ACTION, ADVICE, ALERT, SILENCE
from app.api.http import bytes_response, json_response
from app.config.fields import Duration
from app.errors import Conflict, FieldError, Invalid, NotFound
from app.store.database import Connection
from app.store.queries import alerts as stored
from app.store.queries import outbox, reports
from app.store.queries.alerts import Matcher, Silence, planned_silences
from app.store.queries.replicas import database_now
from app.store.queries.reports import Acceptance, acceptances_of_alerts
from app.types import SECOND, Micros, Severity, from_datetime, new_id, to_rfc3339

router = APIRouter(tags=["alerts"])
ByAdmin = Annotated[str | None, Depends(require("admin"))]
MAX_SILENCE_S = 365 * 86_400
"""How long a silence may last, and how far ahead it may be planned."""


def _bounded(duration: Duration) -> Duration:
    if duration > MAX_SILENCE_S:
        raise ValueError(f"must not be longer than {Duration(MAX_SILENCE_S)}")
    return duration


class MatcherBody(BaseModel):
    """Say which alerts a silence covers: those that fit every field that is set."""

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
    reason: Reason
    starts_at: Moment | None = Field(None, description="by default now; RFC 3339 with its zone")


AlertState: TypeAlias = Literal["firing", "pending", "acknowledged", "silenced", "accepted", "resolved", "passed"]


class SilenceMatcher(TypedDict):
    """The alerts that a silence covers: those that fit everything that is not null."""

    rule: str | None
    severity: Severity | None
    feature: str | None


class PlannedSilence(TypedDict):
    """A silence: nobody is told of the alerts that it covers."""

    silence_id: str
    matcher: SilenceMatcher
    starts_at: str
    ends_at: str
    reason: str
    created_by: str | None
    created_at: str


class ShownAlert(TypedDict):
    """An alert with its figures, its causes and its section of the playbook."""

    alert_id: str
    rule: str
    severity: Severity
    state: AlertState
    value: float | None
    limit: float | None
    since: str
    resolved_at: str | None
    acknowledged_at: str | None
    acknowledged_by: str | None
    silenced_until: str | None
    accepted_at: str | None
    """When its state was accepted as the new normal, by whom, and why; its own state is then ``accepted``."""
    accepted_by: str | None
    accepted_reason: str | None
    message: str
    causes: list[str]
    playbook: str
    report_id: str


class Recommendation(TypedDict):
    """One thing to do, and the figures behind it."""

    action: Literal["fix_input", "retrain"]
    because: str
    evidence: list[Evidence]


class RequestedAction(TypedDict):
    """Describe a request to a pipeline: why, when, and whether it was delivered."""

    action: str
    model_version: str
    because: str
    evidence: list[Evidence]
    report_id: str
    asked_at: str
    state: Literal["waiting", "delivered", "failed"]
    delivered_at: str | None
    tries: int
    error: str | None


class SilencePage(TypedDict):
    """Silences that have not ended, the first to end first."""

    items: list[PlannedSilence]
    next: str | None


class Alerts(TypedDict):
    """Alerts, silences, recommendations and requested actions."""

    items: list[ShownAlert]
    next: str | None
    """The ``cursor`` of the next page of alerts; null at the end."""
    alerts: list[ShownAlert]
    """The same as ``items``, until version 1.0."""
    silences: list[PlannedSilence]
    """The first of them to end; ``GET /alerts/silences`` has them all."""
    recommendations: list[Recommendation]
    actions: list[RequestedAction]


@router.post("/alerts/silences")
@answers(PlannedSilence, SILENCE, scope="admin", errors=(404, 422, 503))
async def silence(body: SilenceBody, services: ServicesDep, model: ModelDep, by: ByAdmin) -> Response:
    """Tell nobody of the alerts that fit, for a while."""
    matcher = Matcher(**body.matcher.model_dump())
    known = sorted({name for name, _ in services.rules.severities(model.schema.task)})
    if matcher.rule is not None and matcher.rule not in known:
        raise Invalid([FieldError("matcher.rule", f"one of {', '.join(known)}", "no rule has this name")])
    if matcher.feature is not None and matcher.feature not in model.schema.feature_names:
        raise Invalid([FieldError("matcher.feature", "a feature of the model", "the model has no such feature")])
    made = await services.journal.run(partial(_make, body=body, matcher=matcher, by=by))
    structlog.get_logger("audit").info("alerts_silenced", silence_id=made.silence_id, by=by, **asdict(matcher))
    return json_response(render_silence(made))


@router.delete("/alerts/silences/{silence_id}")
@answers(PlannedSilence, SILENCE, scope="admin", errors=(404, 503))
async def unsilence(silence_id: str, services: ServicesDep, by: ByAdmin) -> Response:
    """End a silence now; one that has ended stays as it is."""
    ended = (
        None if "\0" in silence_id else await services.journal.run(partial(stored.end_silence, silence_id=silence_id))
    )
    if ended is None:
        raise NotFound("no silence has this id")
    structlog.get_logger("audit").info("silence_ended", silence_id=silence_id, by=by)
    return json_response(render_silence(ended))


def render_silence(silence: Silence) -> PlannedSilence:
    """A silence as the API shows it."""
    return {
        "silence_id": silence.silence_id,
        "matcher": {
            "rule": silence.matcher.rule,
            "severity": silence.matcher.severity,
            "feature": silence.matcher.feature,
        },
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
    if ends <= now or starts > now + MAX_SILENCE_S * SECOND:
        expected = f"a time within the next {Duration(MAX_SILENCE_S)}"
        raise Invalid([FieldError("starts_at", expected, "the silence is over by now, or too far ahead")])
    made = Silence(new_id(now * 1000), matcher, starts, ends, body.reason, by, now)
    if not stored.add_silence(connection, made):
        most = f"at most {stored.MAX_SILENCES} planned silences"
        raise Invalid([FieldError("matcher", most, "so many are planned already: end one first")])
    return made


PLAYBOOK = "docs/playbook.md"


@dataclass(frozen=True)
class Wanted:
    """The alerts that a caller asks for."""

    state: AlertState | None
    rule: str | None
    severity: Severity | None
    start: Micros | None

    def has(self, alert: ShownAlert) -> bool:
        """Tell whether an alert fits every parameter that is set."""
        return (
            self.state in (None, alert["state"])
            and self.rule in (None, alert["rule"])
            and self.severity in (None, alert["severity"])
        )


async def get_wanted(
    state: AlertState | None = None,
    rule: Annotated[str | None, Query(max_length=64)] = None,
    severity: Severity | None = None,
    start: Annotated[Moment | None, Query(alias="from", description="Alerts that began at this time or later.")] = None,
) -> Wanted:
    """The alerts that the query asks for."""
    return Wanted(state, rule, severity, micros(start))


MAX_SILENCES_SHOWN = 100


@router.get("/alerts/silences", dependencies=[Depends(require("read"))])
@answers(SilencePage, {"items": [SILENCE], "next": None}, scope="read", errors=(422, 503))
async def silences(services: ServicesDep, limit: Limit = 100, cursor: Cursor = "") -> Response:
    """Show the silences that have not ended."""

    def read(connection: Connection) -> bytes:
        at = database_now(connection)
        found = planned_silences(connection, at=at, limit=limit + 1, after=cursor)
        return orjson.dumps(page(found, limit, render_silence, lambda silence: silence.silence_id))

    return bytes_response(await services.readers.run(read))


@router.get("/alerts", dependencies=[Depends(require("read"))])
@answers(
    Alerts,
    {
        "items": [ALERT],
        "next": None,
        "alerts": [ALERT],
        "silences": [SILENCE],
        "recommendations": [ADVICE],
        "actions": [ACTION],
    },
    scope="read",
    errors=(404, 422, 503),
)
async def alerts(
    services: ServicesDep,
    model: ModelDep,
    wanted: Annotated[Wanted, Depends(get_wanted)],
    limit: Limit = 100,
    cursor: Cursor = "",
) -> Response:
    """Show the alerts, with silences, advice and requests.

    Firing alerts come first, the worst at the top, then pending ones, then those resolved in the last week; with
    ``from``, all that began since then.

    Each alert names its section of the playbook.
    """

    def read(connection: Connection) -> bytes:
        schema, now = model.schema, database_now(connection)
        found = stored.shown(connection, schema.name, schema.version, start=wanted.start)
        known = planned_silences(connection, at=now)
        active = [silence for silence in known if silence.starts_at <= now]
        accepted = acceptances_of_alerts(connection, [alert.alert_id for alert in found])
        shown = (render_alert(alert, active, accepted.get(alert.alert_id)) for alert in found)
        items = [item for item in shown if wanted.has(item)]
        behind = next((place + 1 for place, item in enumerate(items) if item["alert_id"] == cursor), 0)
        part = page(items[behind : behind + limit + 1], limit, lambda item: item, lambda item: str(item["alert_id"]))
        latest = reports.latest_of_each(connection, model.schema.name, model.schema.version)
        firing = stored.firing(connection, schema.name, schema.version)
        advice = recommend(model.schema.task, latest, firing, retrain_share=services.config.drift.retrain_share)
        body: Alerts = {
            "items": part["items"],
            "next": part["next"],
            "alerts": part["items"],
            "silences": list(map(render_silence, known[:MAX_SILENCES_SHOWN])),
            "recommendations": list(map(_advice, advice)),
            "actions": list(map(_action, outbox.asked(connection, RETRAIN))),
        }
        return orjson.dumps(body)

    return bytes_response(await services.readers.run(read))


@router.post("/alerts/{alert_id}/acknowledge")
@answers(ShownAlert, ALERT, scope="admin", errors=(404, 409, 503))
async def acknowledge(
    alert_id: str, services: ServicesDep, by: Annotated[str | None, Depends(require("admin"))], bound: BoundModel
) -> Response:
    """Say that somebody is on a firing alert; who said so first stays."""
    if "\0" in alert_id:
        raise NotFound("no alert has this id")
    if bound is not None:
        known = await services.readers.run(stored.get, alert_id)  # before anything is changed
        if known is None or known.model_name != bound:
            raise NotFound("no alert has this id")
    alert = await services.journal.run(partial(stored.acknowledge, alert_id=alert_id, by=by))
    if alert is None:
        raise NotFound("no alert has this id")
    if alert.state != "firing":
        raise Conflict(f"only a firing alert can be acknowledged, this one is {alert.state}")
    structlog.get_logger("audit").info("alert_acknowledged", alert_id=alert_id, rule=alert.rule, by=by)
    now, silences = await services.readers.run(_silences)
    return json_response(render_alert(alert, [silence for silence in silences if silence.starts_at <= now]))


def _silences(connection: Connection) -> tuple[Micros, Sequence[Silence]]:
    now = database_now(connection)
    return now, planned_silences(connection, at=now)


def render_alert(alert: stored.Alert, silences: Sequence[Silence], accepted: Acceptance | None = None) -> ShownAlert:
    """An alert as the API shows it, with the silences that last and its acceptance."""
    finding = alert.finding
    return {
        "alert_id": alert.alert_id,
        "rule": alert.rule,
        "severity": finding.severity,
        "state": "accepted" if accepted else _state(alert, silences),
        "value": finding.value,
        "limit": finding.limit,
        "since": to_rfc3339(alert.since),
        "resolved_at": _time(alert.resolved_at),
        "acknowledged_at": _time(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "silenced_until": _time(max((silence.ends_at for silence in silences if silence.covers(alert)), default=None)),
        "accepted_at": _time(accepted.accepted_at if accepted else None),
        "accepted_by": accepted.accepted_by if accepted else None,
        "accepted_reason": accepted.reason if accepted else None,
        "message": finding.message,
        "causes": list(finding.causes),
        "playbook": f"{PLAYBOOK}#{playbook_section(alert.rule)}",
        "report_id": alert.report_id,
    }


def _advice(advice: Advice) -> Recommendation:
    return {"action": advice.action, "because": advice.because, "evidence": list(advice.evidence)}


def _action(action: outbox.Action) -> RequestedAction:
    """A request to a pipeline, its reason, and whether it has arrived."""
    return {
        "action": RETRAIN,
        "model_version": action.body["model_version"],
        "because": action.body["because"],
        "evidence": action.body["evidence"],
        "report_id": action.body["report_id"],
        "asked_at": to_rfc3339(action.asked_at),
        "state": action.state,
        "delivered_at": _time(action.delivered_at),
        "tries": action.tries,
        "error": action.error,
    }


def _state(alert: stored.Alert, silences: Sequence[Silence]) -> AlertState:
    if alert.state != "firing":
        return alert.state
    shown: AlertState = "firing" if alert.acknowledged_at is None else "acknowledged"
    return "silenced" if any(silence.covers(alert) for silence in silences) else shown


def _time(moment: Micros | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)
