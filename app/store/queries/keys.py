"""API keys in the store, and the audit of what their holders did."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Engine, RowMapping, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from app.errors import Conflict, NotFound
from app.store.queries.replicas import database_now
from app.store.tables import API_KEYS, AUDIT, from_text, insert_into, to_text
from app.types import SECOND, Micros, new_id

KEY_PREFIX = "plumb_"
"""Before every key, so that a leaked one can be recognised."""
MAX_KEYS = 1000
"""Stored keys, revoked ones too; a wrong key is compared with each of them."""


KeyState: TypeAlias = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One key of the store, by its hash.

    Attributes:
        model: the only model that the key may ask about; None: every one.
    """

    name: str
    sha256: str
    scopes: tuple[str, ...]
    model: str | None
    created_at: Micros
    created_by: str | None
    expires_at: Micros | None
    revoked_at: Micros | None
    revoked_by: str | None
    last_used_at: Micros | None

    def state(self, now: Micros) -> KeyState:
        """Whether it is valid, and why not."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


def new_key() -> tuple[str, str]:
    """A new random key of 256 bits, and its SHA-256."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def read_keys(connection: Connection) -> list[StoredKey]:
    """All stored keys by name, those that have ended too."""
    rows = connection.execute(select(API_KEYS).order_by(API_KEYS.c.name)).mappings()
    return [_key(row) for row in rows]


def replace_keys(connection: Connection, keys: Iterable[StoredKey]) -> None:
    """Take keys as another store has them, in the place of those that were here."""
    connection.execute(delete(API_KEYS))
    if rows := [{**asdict(key), "scopes": to_text(list(key.scopes))} for key in keys]:
        connection.execute(insert(API_KEYS), rows)


def has_keys(readers: Engine) -> bool:
    """Tell whether the store has a key.

    One that does not answer, or is not migrated yet, has none.
    """
    try:
        with readers.connect() as connection:
            return bool(read_keys(connection))
    except DBAPIError:
        return False


def add_key(
    connection: Connection,
    name: str,
    sha256: str,
    scopes: Sequence[str],
    *,
    model: str | None,
    expires_s: float | None,
    by: str | None,
) -> StoredKey:
    """Store a key by its hash, with an audit row.

    Raises:
        Conflict: the name is taken, also by a key that has ended; or there are too many.
    """
    if connection.execute(select(func.count()).select_from(API_KEYS)).scalar_one() >= MAX_KEYS:
        raise Conflict(f"the store has {MAX_KEYS} keys already")
    now = database_now(connection)
    row = {
        "name": name,
        "sha256": sha256,
        "scopes": to_text(list(scopes)),
        "model": model,
        "created_at": now,
        "created_by": by,
        "expires_at": None if expires_s is None else now + round(expires_s * SECOND),
    }
    statement = insert_into(connection.dialect, API_KEYS).values(row).on_conflict_do_nothing().returning(API_KEYS)
    made = connection.execute(statement).mappings().first()
    if made is None:
        raise Conflict(f"a key named {name} exists; a name is used once, so that logs and audits stay clear")
    add_audit(connection, "key_created", by, {"name": name, "scopes": list(scopes), "model": model})
    return _key(made)


def revoke_key(connection: Connection, name: str, *, by: str | None) -> StoredKey:
    """End a key for good; one that is revoked already stays as it is.

    Raises:
        NotFound: no stored key has this name.
    """
    active = (API_KEYS.c.name == name, API_KEYS.c.revoked_at.is_(None))
    ended = {"revoked_at": database_now(connection), "revoked_by": by}
    if connection.execute(update(API_KEYS).where(*active).values(ended)).rowcount:
        add_audit(connection, "key_revoked", by, {"name": name})
    found = connection.execute(select(API_KEYS).where(API_KEYS.c.name == name)).mappings().first()
    if found is None:
        raise NotFound("the store has no key of this name")
    return _key(found)


def note_use(connection: Connection, names: Iterable[str]) -> None:
    """Note that these keys are in use now."""
    statement = update(API_KEYS).where(API_KEYS.c.name.in_(sorted(names)))
    connection.execute(statement.values(last_used_at=database_now(connection)))


def add_audit(connection: Connection, act: str, by: str | None, body: Mapping[str, Any]) -> None:
    """Keep who did what; ``by`` is the name of a key."""
    row = {"audit_id": new_id(), "at": database_now(connection), "act": act, "by": by, "body": to_text(dict(body))}
    connection.execute(AUDIT.insert().values(row))


def _key(row: RowMapping) -> StoredKey:
    return StoredKey(**{**dict(row), "scopes": tuple(from_text(row["scopes"]))})
