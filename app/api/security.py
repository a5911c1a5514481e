"""API keys: who calls, and what the key may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.config import Key, Scope
from app.errors import Forbidden, Unauthenticated


@dataclass(frozen=True, slots=True)
class Keyring:
    """The configured keys; without any, everybody on the loopback may do everything."""

    keys: Sequence[Key]

    def guards(self, scope: Scope) -> bool:
        """Whether a key is needed: wherever there are keys, and for the metrics once a key has their scope."""
        return bool(self.keys) and (scope != "metrics" or any(scope in key.scopes for key in self.keys))

    def authorise(self, headers: Mapping[bytes, bytes], scope: Scope) -> str | None:
        """The name of the caller's key; None where none is needed.

        The key is sent as ``X-API-Key`` or ``Authorization: Bearer``. Keys are 256 random bits, so a plain SHA-256
        keeps them, and the comparison takes the same time wherever it fails.

        Raises:
            Unauthenticated: no key, or an unknown one.
            Forbidden: the key lacks the scope; ``admin`` includes every other.
        """
        if not self.guards(scope):
            return None
        sent = headers.get(b"x-api-key") or _bearer(headers.get(b"authorization", b""))
        if not sent:
            raise Unauthenticated("send an API key as X-API-Key or Authorization: Bearer")
        digest = hashlib.sha256(sent).hexdigest()
        matching = [key for key in self.keys if hmac.compare_digest(key.sha256, digest)]
        if not matching:
            raise Unauthenticated("unknown API key")
        if not any(scope in key.scopes or "admin" in key.scopes for key in matching):
            raise Forbidden(f"this key lacks the scope {scope}")
        return matching[0].name


def _bearer(value: bytes) -> bytes:
    kind, _, key = value.partition(b" ")
    return key.strip() if kind.lower() == b"bearer" else b""
