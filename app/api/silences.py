"""``/alerts/silences``: of which alerts nobody is told for a while, why, and who said so."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.services import ModelDep, ServicesDep, require
from app.api.times import Moment
from app.configtypes import Duration
from app.errors import FieldError, Invalid, NotFound
from app.ids import new_id
from app.store import silences as stored
from app.store.engine import Connection
from app.store.leases import database_now
from app.store.silences import Matcher, Silence
from app.types import SECOND, Json, Micros, Severity, from_datetime, to_rfc3339

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
    ended = None if "\0" in silence_id else await services.journal.run(partial(stored.end, silence_id=silence_id))
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
    stored.add(connection, made)
    return made
