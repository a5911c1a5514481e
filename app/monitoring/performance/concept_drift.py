"""Concept drift: ADWIN on the stream of errors."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.monitoring.performance.degradation import Baseline
from app.monitoring.performance.scoring import known
from app.monitoring.reference.encoding import encode_labels, encode_outcomes
from app.reports.performance import ConceptDrift, PerformanceReport
from app.statistics import FloatArray
from app.store.queries.labelled import ErrorStream
from app.types import ModelSchema, Task, to_rfc3339

CLOCK = 32
"""Values between two looks for a change."""
ROW_LENGTH = 5
"""Buckets of one size, before two of them become one of the next."""
MIN_SUBWINDOW_ROWS = 5
"""Fewest values on either side of a cut."""
GRACE = 10
"""Values before the first look."""


@dataclass(slots=True)
class _Part:
    """A number of values with their sum and their summed squared deviations from their mean."""

    count: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def add(self, other: _Part) -> None:
        """Take another part in."""
        self.squares += other.squares + self._between(other)
        self.count += other.count
        self.total += other.total

    def remove(self, other: _Part) -> None:
        """Undo :meth:`add`.

        Where all values that are left are equal, rounding would leave a sum of squares below zero.
        """
        self.count -= other.count
        self.total -= other.total
        self.squares = max(self.squares - other.squares - self._between(other), 0.0)

    @property
    def mean(self) -> float:
        """The mean of the values, of which there is at least one."""
        return self.total / self.count

    def _between(self, other: _Part) -> float:
        if not self.count or not other.count:
            return 0.0
        return self.count * other.count * (self.mean - other.mean) ** 2 / (self.count + other.count)


@dataclass(slots=True)
class Adwin:
    """The window of Bifet and Gavaldà (2007), doi:10.1137/1.9781611972771.42.

    It is an exponential histogram: row i holds up to five buckets of 2^i values, the oldest first. At every 32nd value
    each border between two buckets is tried as a cut, by Bernstein's bound on the difference of both means:
    ``sqrt(2 m v d) + 2 m d / 3`` with v the variance in the window, d = ln(2 ln(width) / delta) and m the sum of the
    inverses of both sides' counts, less four each. Where one is found, the oldest buckets go until none is.

    >>> window = Adwin()
    >>> [place for place in range(400) if window.add(float(place >= 200))]
    [223, 255, 287]
    >>> window.width
    200
    """

    delta: float = 0.002
    _rows: list[list[_Part]] = field(default_factory=lambda: [[]])
    _all: _Part = field(default_factory=_Part)
    _seen: int = 0

    @property
    def width(self) -> int:
        """Values in the window, the latest ones of the stream."""
        return round(self._all.count)

    @property
    def mean(self) -> float:
        """Their mean."""
        return self._all.mean

    def add(self, value: float) -> bool:
        """Take the next value, between 0 and 1; tell whether the window was cut."""
        self._seen += 1
        self._all.add(_Part(1.0, value))
        self._rows[0].append(_Part(1.0, value))
        self._merge()
        if self._seen % CLOCK or self._all.count <= GRACE:
            return False
        cut = False
        while self._has_cut():
            self._drop_oldest()
            cut = True
        return cut

    def _merge(self) -> None:
        for place, row in enumerate(self._rows):
            if len(row) <= ROW_LENGTH:
                return
            older, newer = row[:2]
            del row[:2]
            older.add(newer)
            if place + 1 == len(self._rows):
                self._rows.append([])
            self._rows[place + 1].append(older)

    def _has_cut(self) -> bool:
        spread = 2 * self._all.squares / self._all.count
        surprise = math.log(2 * math.log(self._all.count) / self.delta)
        count, total = 0.0, 0.0
        for row in reversed(self._rows):
            for bucket in row:
                count, total = count + bucket.count, total + bucket.total
                left = self._all.count - count
                if count < MIN_SUBWINDOW_ROWS or left < MIN_SUBWINDOW_ROWS:
                    continue
                weight = 1 / (count - MIN_SUBWINDOW_ROWS + 1) + 1 / (left - MIN_SUBWINDOW_ROWS + 1)
                bound = math.sqrt(spread * weight * surprise) + 2 / 3 * weight * surprise
                if abs(total / count - (self._all.total - total) / left) > bound:
                    return True
        return False

    def _drop_oldest(self) -> None:
        self._all.remove(self._rows[-1].pop(0))
        while not self._rows[-1]:
            self._rows.pop()


STREAM_ROWS = 5_000
"""Outcomes at which the stream begins, and of which it never has less once they are there."""
MAX_STREAM_ROWS = 2 * STREAM_ROWS
_FULL_SCALE = 0.99


def concept_drift(
    schema: ModelSchema, stream: Sequence[ErrorStream], baseline: Baseline, before: PerformanceReport | None
) -> ConceptDrift:
    """Run ADWIN over the errors of the latest outcomes.

    It begins where the look before began, as long as that is possible.

    An error is 0 or 1 where classes are answered, and in regression the absolute error as a share of the reference's
    99th percentile, at most 1. ``change_at`` is when the first outcome after the latest change came. A better stream
    changes too: ``direction`` tells. Nothing is kept but the report, so that restarts and replicas agree.
    """
    begun = _from(stream, before.get("concept_drift", {}).get("from") if before else None)
    part = stream[begun:]
    errors, chosen = _errors(schema, part, baseline)
    times = [each.recorded_at for each, there in zip(part, chosen, strict=True) if there]
    window = Adwin()
    cut = [window.add(error) for error in errors.tolist()]
    first = len(errors) - window.width
    changed = any(cut)
    earlier = float(errors[:first].mean()) if changed else None
    later = float(errors[first:].mean()) if len(errors) else None
    return {
        "method": "adwin",
        "change_at": to_rfc3339(times[first]) if changed else None,
        "direction": None if earlier is None or later is None else "worse" if later > earlier else "better",
        "error_before": earlier,
        "error_now": later,
        "rows": len(errors),
        "from": to_rfc3339(times[0]) if times else None,
    }


def _from(stream: Sequence[ErrorStream], before: str | None) -> int:
    """Find the row at which the look before began.

    Where that is unknown or too far back, the latest rows begin anew.
    """
    if before is not None and stream and to_rfc3339(stream[0].recorded_at) <= before:
        return bisect_left(stream, before, key=lambda judged: to_rfc3339(judged.recorded_at))
    return max(len(stream) - STREAM_ROWS, 0)


def _errors(
    schema: ModelSchema, stream: Sequence[ErrorStream], baseline: Baseline
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Compute the errors, between 0 and 1, and the rows that they are of.

    An outcome of a class that the model lacks is an error; text where a number is due has none.
    """
    outcomes, _ = encode_outcomes(schema, [judged.outcome for judged in stream])
    predictions = encode_labels(schema, [judged.prediction for judged in stream])
    chosen = known(schema, outcomes)
    if schema.task is not Task.REGRESSION:
        return (outcomes != predictions)[chosen].astype(np.float64), chosen
    errors = np.abs(outcomes - predictions)[chosen]
    usual = errors if baseline.scored is None else np.abs(baseline.scored.outcomes - baseline.scored.predictions)
    full = float(np.quantile(usual, _FULL_SCALE)) if len(usual) else 0.0
    return np.minimum(errors / (full or 1.0), 1.0), chosen
