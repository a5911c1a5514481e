"""Two sorted samples, placed into each other once for all the statistics of their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from app.monitoring.statistics.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Pair:
    """A reference of n and a window of m values, both sorted ascending, finite and not empty.

    Only the window's values are visited, so everything here costs m log n.
    """

    reference: FloatArray
    window: FloatArray

    @property
    def n(self) -> int:
        """The size of the reference."""
        return len(self.reference)

    @property
    def m(self) -> int:
        """The size of the window."""
        return len(self.window)

    @cached_property
    def start(self) -> IntArray:
        """Window values below each distinct value of the window."""
        new = np.empty(self.m, dtype=np.bool_)
        new[0] = True
        np.not_equal(self.window[1:], self.window[:-1], out=new[1:])
        return np.flatnonzero(new)

    @cached_property
    def end(self) -> IntArray:
        """Window values up to each distinct value of the window."""
        return np.append(self.start[1:], self.m)

    @cached_property
    def below(self) -> IntArray:
        """Reference values below each distinct value of the window."""
        return np.searchsorted(self.reference, self.window[self.start], "left")

    @cached_property
    def upto(self) -> IntArray:
        """Reference values up to each distinct value of the window."""
        values, upto = self.window[self.start], self.below.copy()
        tied = np.flatnonzero(self.reference[np.minimum(upto, self.n - 1)] == values)
        upto[tied] = np.searchsorted(self.reference, values[tied], "right")
        return upto

    @cached_property
    def ranks(self) -> IntArray:
        """Ranks of the window's values in the pooled order, from 1, shape (m,).

        Where values are tied, the window's are spread evenly among them: of all orders this is about the one in which
        the samples differ least, so that tests on it are careful.

        >>> Pair(np.array([1.0, 2.0, 2.0, 2.0, 2.0, 3.0]), np.array([0.0, 2.0, 2.0])).ranks.tolist()
        [1, 4, 7]
        """
        begin, own = self.below + self.start, self.end - self.start
        size = own + self.upto - self.below
        if len(begin) == self.m and not np.any(size > 1):
            return begin + 1
        place = np.arange(self.m) - np.repeat(self.start, own)
        spread = (2 * place + 1) * np.repeat(size, own) // (2 * np.repeat(own, own))
        return np.asarray(np.repeat(begin, own) + spread + 1, dtype=np.int64)
