"""The acts of administrators: API keys in the store, and the erasure of a subject."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import structlog
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from typing_extensions import TypedDict

from app.api.dependencies import BoundModel, Cursor, Limit, Reason, Services, ServicesDep, StoredKeys, page, require
from app.api.documentation import answers
from app.api.endpoints.alerts import ShownAlert, render_alert
from app.api.examples import ALERT
from app.api.http import json_response
from app.api.request_guards import Keyring
from app.background import PeriodicTask
from app.config.fields import Duration
from app.config.loader import no_key
from app.config.settings import Config, Scope
from app.errors import ConfigError, Conflict, Forbidden, NotFound, Unavailable
from app.store import retention
from app.store.database import Connection, Database, Readers
from app.store.journal.journal import Journal
from app.store.journal.spool import Spooler
from app.store.queries import alerts
from app.store.queries.keys import (
    KeyState,
    StoredKey,
    add_audit,
    add_key,
    new_key,
    note_use,
    read_keys,
    replace_keys,
    revoke_key,
)
from app.store.queries.reports import acceptances_of_alerts
from app.types import SECOND, Json, Micros, Scalar, to_rfc3339

REFRESH_S = 0.5
"""Time between two looks at the stored keys: a revoked one is refused within a second on every replica."""
USE_S = 10
"""How exact the time of a key's last use is: a write for each request would cost more than its answer."""
MAX_EXPIRES_S = 3650 * 86_400
ByAdmin = Annotated[str | None, Depends(require("admin"))]
router = APIRouter()


def open_keyring(config: Config, model: str, database: Database, spooler: Spooler | None) -> Keyring:
    """The keys of the configuration and of the store.

    Of a store that is away, those that the spool has kept.

    Raises:
        ConfigError: other machines can reach the service, and there is no key.
    """
    keyring = Keyring(config.auth.keys, config.auth.open, model)
    if spooler is not None and spooler.outage is not None:
        keyring.load(spooler.spool.run(read_keys))
    else:
        with database.writer.begin() as connection:
            stored = read_keys(connection)
        keyring.load(stored)
        if spooler is not None:
            spooler.spool.run(partial(replace_keys, keys=stored))
    if not (config.server.is_local or keyring.guards("predict")):
        database.close()
        raise ConfigError(no_key(config.server.host))
    return keyring


class KeyRefresh:
    """Brings the keys of the store into the keyring, and their uses into the store.

    The spool keeps them too, by their hashes: a start without the store must not open what they close.

    Attributes:
        keyring: the keys by which callers are let in.
    """

    def __init__(self, keyring: Keyring, readers: Readers, journal: Journal, spooler: Spooler | None) -> None:
        self.keyring = keyring
        self._spool = spooler.spool if spooler else None
        self._kept: list[StoredKey] = []
        self._readers = readers
        self._journal = journal
        self._used: set[str] = set()
        self.task = PeriodicTask("keys", self._turn, interval_s=REFRESH_S, store_away="wait")

    async def refresh(self) -> list[StoredKey]:
        """Take the stored keys as they are now.

        Raises:
            Unavailable: the store cannot be reached; the keys that are known stay.
        """
        stored = await self._readers.run(read_keys)
        self.keyring.load(stored)
        keys = [replace(key, last_used_at=None) for key in stored]
        if self._spool is not None and keys != self._kept:
            keep = partial(self._spool.run, partial(replace_keys, keys=keys))
            await self._journal.run(lambda _: keep())  # the writing thread alone changes the spool
            self._kept = keys
        return stored

    async def note_uses(self, stored: Iterable[StoredKey], *, older_s: float) -> None:
        """Store when the keys were last used, where the stored time is older than so many seconds."""
        self._used |= self.keyring.take_used()
        before = time.time_ns() // 1000 - older_s * SECOND
        due = {key.name for key in stored if key.last_used_at is None or key.last_used_at < before} & self._used
        if due:
            await self._journal.run(partial(note_use, names=due))
            self._used -= due

    async def _turn(self) -> None:
        await self.note_uses(await self.refresh(), older_s=USE_S)


def _bounded(duration: Duration) -> Duration:
    if duration > MAX_EXPIRES_S:
        raise ValueError(f"must not be longer than {Duration(MAX_EXPIRES_S)}")
    return duration


class KeyBody(BaseModel):
    """A new key."""

    model_config = ConfigDict(extra="forbid", title="NewKey")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Its name in logs and audits.")
    scopes: tuple[Scope, ...] = Field(("predict", "outcome", "read"), min_length=1, max_length=8)
    model: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="The only model that it may ask about; null: every one.",
    )
    expires: (
        Annotated[Duration, AfterValidator(_bounded), WithJsonSchema({"type": "string", "examples": ["12h", "90d"]})]
        | None
    ) = Field(None, description="How long it is valid; null: until it is revoked.")


class ShownKey(TypedDict):
    """A key as it is listed: never the key itself, nor its hash."""

    name: str
    scopes: list[str]
    model: str | None
    created_at: str | None
    created_by: str | None
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    state: KeyState
    source: Literal["store", "configuration"]


class MadeKey(ShownKey):
    """A new key; ``key`` is shown this once."""

    key: str


class KeyPage(TypedDict):
    """Keys by name."""

    items: list[ShownKey]
    next: str | None


SHOWN: ShownKey = {
    "name": "ci",
    "scopes": ["predict", "read"],
    "model": "credit",
    "created_at": "2026-11-20T10:00:00.000000Z",
    "created_by": "boss",
    "expires_at": "2027-02-18T10:00:00.000000Z",
    "revoked_at": None,
    "last_used_at": "2026-11-21T10:00:00.000000Z",
    "state": "active",
    "source": "store",
}
ACCEPTED: Json = {
    **ALERT,
    "state": "accepted",
    "resolved_at": "2026-11-20T10:30:00.000000Z",
    "accepted_at": "2026-11-20T10:30:00.000000Z",
    "accepted_by": "ops",
    "accepted_reason": "the new price list",
}
MADE: MadeKey = {**SHOWN, "key": "plumb_…"}


@router.post("/keys", tags=["keys"])
@answers(MadeKey, MADE, scope="admin", errors=(409, 422, 503))
async def create(body: KeyBody, services: ServicesDep, by: ByAdmin, bound: BoundModel) -> Response:
    """Make a key. It is shown in this answer alone: the store keeps its hash."""
    _refuse_bound(bound)
    if body.name in services.keyring.configured_names:
        raise Conflict(f"a key named {body.name} is in the configuration")
    key, sha256 = new_key()
    made = await services.journal.run(
        partial(
            add_key, name=body.name, sha256=sha256, scopes=body.scopes, model=body.model, expires_s=body.expires, by=by
        )
    )
    await _apply(services.keys)
    structlog.get_logger("audit").info("key_created", name=made.name, scopes=made.scopes, model=made.model, by=by)
    shown: MadeKey = {**_shown(made), "key": key}
    answer = json_response(shown)
    answer.headers["cache-control"] = "no-store"
    return answer


@router.get("/keys", tags=["keys"])
@answers(KeyPage, {"items": [SHOWN], "next": None}, scope="admin", errors=(422, 503))
async def keys(
    services: ServicesDep, _by: ByAdmin, bound: BoundModel, limit: Limit = 100, cursor: Cursor = ""
) -> Response:
    """Every key by name, those that have ended too."""
    _refuse_bound(bound)
    with suppress(Unavailable):
        await services.keys.note_uses(await services.readers.run(read_keys), older_s=0)
    stored = await services.readers.run(read_keys)
    shown = [*map(_shown, stored), *(_configured(key.name, key.scopes, key.model) for key in services.config.auth.keys)]
    left = sorted((item for item in shown if item["name"] > cursor), key=lambda item: item["name"])
    return json_response(page(left[: limit + 1], limit, lambda item: item, lambda item: item["name"]))


@router.delete("/keys/{name}", tags=["keys"])
@answers(ShownKey, {**SHOWN, "state": "revoked"}, scope="admin", errors=(404, 409, 503))
async def revoke(name: str, services: ServicesDep, by: ByAdmin, bound: BoundModel) -> Response:
    """End a key for good: within a second on every replica. Its name stays taken."""
    _refuse_bound(bound)
    if name in services.keyring.configured_names:
        raise Conflict("this key is in the configuration: take it out of auth.keys and restart")
    revoked = await services.journal.run(partial(_revoke, name=name, by=by))
    await _apply(services.keys)
    structlog.get_logger("audit").info("key_revoked", name=revoked.name, by=by)
    return json_response(_shown(revoked))


def _revoke(connection: Connection, name: str, by: str | None) -> StoredKey:
    return revoke_key(connection, name.replace("\0", ""), by=by)


async def _apply(refresh: StoredKeys) -> None:
    """Let a change hold here at once; it is stored by now, whatever becomes of this look."""
    with suppress(Unavailable):
        await refresh.refresh()


def _refuse_bound(bound: str | None) -> None:
    if bound is not None:
        raise Forbidden("a key that is for one model manages no keys")


def _shown(key: StoredKey) -> ShownKey:
    return {
        "name": key.name,
        "scopes": list(key.scopes),
        "model": key.model,
        "created_at": to_rfc3339(key.created_at),
        "created_by": key.created_by,
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "last_used_at": _time(key.last_used_at),
        "state": key.state(Micros(time.time_ns() // 1000)),
        "source": "store",
    }


def _configured(name: str, scopes: Iterable[str], model: str | None) -> ShownKey:
    return {
        "name": name,
        "scopes": list(scopes),
        "model": model,
        "created_at": None,
        "created_by": None,
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
        "state": "active",
        "source": "configuration",
    }


def _time(moment: Micros | None) -> str | None:
    return None if moment is None else to_rfc3339(moment)


class Erased(TypedDict):
    """The number of predictions that were deleted, with all that belongs to them."""

    erased: int


@router.delete("/predictions", tags=["predictions"])
@answers(Erased, {"erased": 12}, scope="admin", errors=(409, 422, 503))
async def erase_subject(
    services: ServicesDep,
    by: ByAdmin,
    bound: BoundModel,
    subject: Annotated[str, Query(min_length=1, max_length=1024, description="Whose predictions to delete.")],
) -> Response:
    """Delete every prediction of a subject, with its outcomes and the answers of shadows.

    Reports stay, since they hold no rows.

    The subject is a value of the feature or key of the context that ``privacy.subject`` names.

    All rows are looked through, some at a time; repeating an erasure that failed is safe.
    """
    name = services.config.privacy.subject
    if name is None:
        raise Conflict("privacy.subject names no feature or key of the context by which to erase")
    forms = services.privacy.subject_forms(name, subject)
    after: tuple[int, str] | None = (-1, "")
    gone = 0
    while after is not None:
        ids, after = await services.readers.run(retention.find_subject, name, forms, after, model=bound)
        if ids:
            gone += await services.journal.run(partial(retention.erase, ids=ids))
    await services.journal.run(partial(_note_erasure, services, forms, services.privacy.hash(subject), gone, by))
    structlog.get_logger("audit").info("subject_erased", rows=gone, by=by)
    return json_response({"erased": gone})


def _note_erasure(
    services: Services, forms: set[Scalar], digest: str, gone: int, by: str | None, connection: Connection
) -> None:
    """Keep who erased how many rows; of the subject the hash, where the store has a salt."""
    if services.spooler:
        services.spooler.spool.forget(retention.needles(forms))
    about = {"rows": gone} | ({"subject": digest} if services.privacy.salt else {})
    add_audit(connection, "subject_erased", by, about)


class AcceptBody(BaseModel):
    """The reason why the state behind an alert is the new normal."""

    model_config = ConfigDict(extra="forbid", title="Acceptance")

    reason: Reason


@router.post("/alerts/{alert_id}/accept", tags=["alerts"])
@answers(ShownAlert, ACCEPTED, scope="admin", errors=(404, 409, 422, 503))
async def accept_alert(
    alert_id: str, body: AcceptBody, services: ServicesDep, by: ByAdmin, bound: BoundModel
) -> Response:
    """Take the state behind a firing alert as the new normal.

    The alert ends, and alarms again if that state grows, changes, or comes again after it had gone.
    """
    known = None if "\0" in alert_id else await services.readers.run(alerts.get, alert_id)
    if known is None or bound not in (None, known.model_name):
        raise NotFound("no alert has this id")
    alert = await services.journal.run(
        partial(services.monitoring.updater.accept, alert_id=alert_id, reason=body.reason, by=by)
    )
    accepted = await services.readers.run(acceptances_of_alerts, [alert_id])
    structlog.get_logger("audit").info("alert_accepted", alert_id=alert_id, rule=alert.rule, by=by, reason=body.reason)
    return json_response(render_alert(alert, (), accepted.get(alert_id)))
