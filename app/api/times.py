"""Times as callers write them: RFC 3339, with their zone."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AwareDatetime, BeforeValidator

_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d")


def _written(value: Any) -> Any:
    """Let text through that is a date and a time; pydantic would read a number as seconds, or as milliseconds."""
    if not isinstance(value, str) or not _DATE_AND_TIME.match(value):
        raise ValueError("expected an RFC 3339 time such as 2026-11-20T10:00:00Z")
    return value


Moment: TypeAlias = Annotated[AwareDatetime, BeforeValidator(_written)]
"""A time in a body or a query string."""
