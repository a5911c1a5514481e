"""The quick way to read one outcome: a compiled decoder, for bodies that have nothing special.

What it does not take (a mistake, a time, a repeated key) is left to :mod:`app.api.outcome_body`, which reads the body
again with care and can say what is wrong. It must therefore never take what that refuses.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Decoder

from app.serving.decoding import NUL, REFUSED, Integer, PredictionId, Text
from app.types import Outcome


class _Body(Struct, forbid_unknown_fields=True, gc=False):
    prediction_id: PredictionId
    outcome: bool | Integer | float | Text
    value: float | UnsetType | None = UNSET
    revise: bool | UnsetType = UNSET


_DECODER = Decoder(_Body)


def read_outcome(body: bytes) -> Outcome | None:
    """The outcome, or None where it must be read with care.

    Each key brings a colon, so a body with as many colons as keys repeats none.

    >>> read_outcome(b'{"prediction_id": "p", "outcome": 1.0}')
    Outcome(prediction_id='p', outcome=1.0, observed_at=None, value=None, revise=False)
    """
    try:
        found = _DECODER.decode(body)
    except REFUSED:
        return None
    given = {name: value for name in ("value", "revise") if (value := getattr(found, name)) is not UNSET}
    if body.count(b":") != 2 + len(given) or NUL in body:
        return None
    return Outcome(found.prediction_id, found.outcome, **given)
