"""Values as JSON text in a column, and back."""

from __future__ import annotations

from typing import Any

import orjson


def to_text(value: Any) -> str:
    """JSON text; NaN and Infinity never get this far."""
    return orjson.dumps(value).decode()


def to_text_or_none(value: Any) -> str | None:
    """JSON text, or NULL for None."""
    return None if value is None else to_text(value)


def from_text(text: str | None) -> Any:
    """The value of :func:`to_text_or_none`."""
    return None if text is None else orjson.loads(text)
