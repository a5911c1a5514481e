"""Lists: ``{"items": […], "next": "cursor or null"}``, and times in query strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Query

from app.api.times import Moment
from app.types import Json, Micros, from_datetime

Item = TypeVar("Item")
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items in one answer.")]
Cursor = Annotated[
    str, Query(max_length=256, pattern=r"^[A-Za-z0-9._:-]*$", description="`next` of the answer before.")
]
From = Annotated[Moment | None, Query(alias="from", description="From this time on; RFC 3339 with its zone.")]
To = Annotated[Moment | None, Query(alias="to", description="Before this time; RFC 3339 with its zone.")]


def micros(moment: Moment | None) -> Micros | None:
    """A query's time as the store keeps it."""
    return None if moment is None else from_datetime(moment)


def page(found: Sequence[Item], limit: int, render: Callable[[Item], Any], cursor: Callable[[Item], str]) -> Json:
    """A page of at most ``limit`` items, from up to ``limit + 1`` found: the one too many says that there is more."""
    shown = found[:limit]
    return {"items": [render(item) for item in shown], "next": cursor(shown[-1]) if len(found) > limit else None}
