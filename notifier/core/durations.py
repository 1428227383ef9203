"""How long something took, counted as it happens and read when somebody asks."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

BOUNDS_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Durations:
    """Seconds in buckets. A note costs a bisection in a short tuple, so that a hot path can afford one.

    `counts[i]` is how many took up to `bounds[i]` and longer than the bound before; the last one has no bound.
    """

    __slots__ = ("bounds", "counts", "total_seconds")

    def __init__(self, bounds: Sequence[float] = BOUNDS_SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total_seconds = 0.0

    def note(self, seconds: float) -> None:
        """Count one. Two machines' clocks may disagree, and a sum that falls would look like a restart."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total_seconds += seconds
