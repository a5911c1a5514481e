"""Values as JSON text in a column, and back."""

from __future__ import annotations

from collections.abc import Iterable
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


def many_from_text(texts: Iterable[str | None]) -> list[Any]:
    """The values of many texts, as :func:`from_text` gives each, in one call of the parser."""
    values: list[Any] = orjson.loads(f"[{','.join('null' if text is None else text for text in texts)}]")
    return values
