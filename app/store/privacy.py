"""The form in which sensitive values are stored: hashed, truncated or left out."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs
from sqlalchemy import Connection, select

from app.config.fields import PrivacyMode
from app.store.queries.replicas import database_now
from app.store.tables import SETTINGS, insert_into
from app.types import FeatureType, ModelSchema, Prediction, Row, Scalar

SALT = "privacy/salt"
"""The key of the salt among the settings of the store."""
HASH_PREFIX = "h:"
HASH_CHARACTERS = 24
"""Of a hash: 96 bits, so that two values of billions never share one."""
MAX_PREFIX = 4
"""Characters of a text that ``truncate`` keeps, and never more than half of them."""


def read_salt(connection: Connection) -> str | None:
    """The salt of this store; None before the first one was made."""
    found: str | None = connection.execute(select(SETTINGS.c.value).where(SETTINGS.c.key == SALT)).scalar()
    return found


def keep_salt(connection: Connection, salt: str | None = None) -> str:
    """The salt of this store: the one that is there, else the given one, else a new one.

    Hashes hold as long as the salt does, on every replica and after a restart.
    """
    made = salt or secrets.token_hex(32)
    row = {"key": SALT, "value": made, "changed_at": database_now(connection)}
    connection.execute(insert_into(connection.dialect, SETTINGS).values(row).on_conflict_do_nothing())
    return read_salt(connection) or made


@dataclass(frozen=True, slots=True)
class Privacy:
    """The form in which values are stored, by the name of a feature or of a key of the context.

    The model gets the values themselves. One value always has one form, so that repeated ids are compared, and
    categories are watched, in the stored form.
    """

    modes: Mapping[str, PrivacyMode] = field(default_factory=dict)
    salt: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.modes)

    def hash(self, value: Scalar) -> str:
        """The salted hash of a value; equal numbers have equal hashes."""
        text = repr(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else f"{value!r}"
        digest = hmac.new(self.salt.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return HASH_PREFIX + digest[:HASH_CHARACTERS]

    def form(self, name: str, value: Scalar) -> Scalar:
        """The stored form of a value."""
        mode = self.modes.get(name, "clear")
        if value is None or mode == "clear":
            return value
        if mode == "off":
            return None
        return self.hash(value) if mode == "hash" else truncate(value)

    def row(self, schema: ModelSchema, row: Row) -> Row:
        """The stored form of a row's features."""
        if not any(name in self.modes for name in schema.feature_names):
            return row
        return tuple(self.form(name, value) for name, value in zip(schema.feature_names, row, strict=True))

    def rows(self, schema: ModelSchema, rows: Sequence[Prediction]) -> Sequence[Prediction]:
        """The stored form of predictions: their features and their contexts."""
        if not self.modes:
            return rows
        return [
            structs.replace(
                row,
                features=self.row(schema, row.features),
                context=None if row.context is None else {key: self.form(key, row.context[key]) for key in row.context},
            )
            for row in rows
        ]

    def watched(self, schema: ModelSchema) -> list[int]:
        """The places of the features that can be compared with the reference.

        These are the clear ones and hashed categories: a hash of a number is no number, and what is cut or left out
        has lost what a comparison needs.
        """
        return [
            place
            for place, feature in enumerate(schema.features)
            if (mode := self.modes.get(feature.name, "clear")) == "clear"
            or (mode == "hash" and feature.type is FeatureType.CATEGORICAL)
        ]

    def watched_schema(self, schema: ModelSchema) -> ModelSchema:
        """The schema of what is watched, with hashed categories by the names that are stored."""
        features = [schema.features[place] for place in self.watched(schema)]
        return replace(
            schema,
            features=tuple(
                replace(feature, categories=tuple(map(self.hash, feature.categories)))
                if self.modes.get(feature.name) == "hash"
                else feature
                for feature in features
            ),
        )

    def exported_schema(self, schema: ModelSchema) -> ModelSchema:
        """The schema of what an export holds: a hash is text, whatever it is the hash of."""
        return replace(
            schema,
            features=tuple(
                replace(feature, type=FeatureType.CATEGORICAL, categories=(), nullable=True)
                if self.modes.get(feature.name) == "hash"
                else feature
                for feature in schema.features
            ),
        )

    def subject_forms(self, subject: str, value: str) -> set[Scalar]:
        """The forms in which a subject's value may be stored: text or number, hashed or not."""
        values: set[Any] = {value}
        try:
            number = float(value)
            values |= {number, int(number)} if number.is_integer() else {number}
        except (ValueError, OverflowError):
            pass
        return values | {self.form(subject, each) for each in values}


def truncate(value: Scalar) -> Scalar:
    """A value in coarse form: of a number the first digit, of a text its beginning.

    >>> truncate(48_213), truncate(-0.0371), truncate("1012 AB"), truncate(True)
    (40000, -0.03, '101', True)
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return value[: min(MAX_PREFIX, len(value) // 2)]
    if not value:
        return value
    digits, _, exponent = f"{abs(value):.16e}".partition("e")
    coarse = float(f"{'-' if value < 0 else ''}{digits[0]}e{exponent}")
    return int(coarse) if isinstance(value, int) else coarse
