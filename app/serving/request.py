"""A request once it is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.types import Row, Scalar


class PredictRequest(NamedTuple):
    """Validated rows in schema order.

    Attributes:
        ids: the caller's prediction ids, None where the caller chose none.
        many: whether the caller sent ``instances`` and is answered with a list.
    """

    rows: Sequence[Row]
    ids: Sequence[str | None]
    contexts: Sequence[Mapping[str, Scalar] | None]
    many: bool
