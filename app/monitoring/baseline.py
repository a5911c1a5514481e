"""The baseline: what the model reached on its reference, with the error that the reference's size leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from app.monitoring.encoding import encode
from app.monitoring.reference import Reference
from app.monitoring.scored import Measured, Scored, known
from app.types import Scalar

MIN_ROWS = 50
"""Fewest reference rows of a segment that make a baseline of its own."""


@dataclass(frozen=True)
class Baseline:
    """The metrics of a reference's rows whose outcome is known; none where these say nothing of new data."""

    reference: Reference | None

    @property
    def missing(self) -> str | None:
        """Why there is no baseline; None where there is one."""
        if self.reference is not None and self.reference.in_sample:
            return "the baseline comes from data that the model was fitted on"
        return None if self.scored and self.scored.rows else "the model was bundled without baseline metrics"

    @cached_property
    def scored(self) -> Scored | None:
        """The reference's rows whose outcome is known."""
        if self.reference is None or self.reference.outcomes is None:
            return None
        found = self.reference
        rows = Scored(found.schema, self.reference.outcomes, found.predictions, found.probabilities)
        return rows.only(known(found.schema, self.reference.outcomes))

    @cached_property
    def measured(self) -> Mapping[str, Measured]:
        """The metrics of all rows."""
        return {} if self.missing or self.scored is None else self.scored.measure()

    def of(self, feature: int | None, value: Scalar) -> Mapping[str, Measured]:
        """Measure the rows in which a feature, by its position, has a value; none where they are few.

        None too for a key of the context, which the reference does not hold.
        """
        found = self.reference
        if feature is None or found is None or found.outcomes is None or self.scored is None or self.missing:
            return {}
        alone = replace(found.schema, features=(found.schema.features[feature],))
        code = encode(alone, [(value,)])[0][0]
        chosen = found.columns[feature][known(found.schema, found.outcomes)] == code
        return self.scored.only(chosen).measure() if chosen.sum() >= MIN_ROWS else {}
