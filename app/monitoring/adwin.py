"""ADWIN: a window over a stream that grows while its mean stands still, and drops its old part when the mean moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

CLOCK = 32
"""Values between two looks for a change."""
ROW_LENGTH = 5
"""Buckets of one size, before two of them become one of the next."""
SHORTEST = 5
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
        """Undo :meth:`add`."""
        self.count -= other.count
        self.total -= other.total
        self.squares -= other.squares + self._between(other)

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
                if count < SHORTEST or left < SHORTEST:
                    continue
                weight = 1 / (count - SHORTEST + 1) + 1 / (left - SHORTEST + 1)
                bound = math.sqrt(spread * weight * surprise) + 2 / 3 * weight * surprise
                if abs(total / count - (self._all.total - total) / left) > bound:
                    return True
        return False

    def _drop_oldest(self) -> None:
        self._all.remove(self._rows[-1].pop(0))
        while not self._rows[-1]:
            self._rows.pop()
