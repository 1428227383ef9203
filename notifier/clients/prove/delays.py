"""How long things took: counted in steps that grow with the delay, so that millions of them take no memory."""

import math
from array import array
from collections.abc import Iterable
from typing import Final

FINEST_SECONDS: Final = 1e-5
STEPS_PER_OCTAVE: Final = 16  # A step is 4.4 % wide, so a quantile is at most 2.2 % off.
STEPS: Final = 24 * STEPS_PER_OCTAVE  # Up to 168 s.


class Delays:
    """Counts delays. The longest is kept exactly."""

    __slots__ = ("_counts", "longest_seconds")

    def __init__(self) -> None:
        self._counts = array("L", bytes(array("L").itemsize * STEPS))
        self.longest_seconds = 0.0

    @classmethod
    def merged(cls, parts: "Iterable[Delays]") -> "Delays":
        """All of them together."""
        whole = cls()
        counts = [0] * STEPS
        for part in parts:
            counts = [one + other for one, other in zip(counts, part._counts, strict=True)]
            whole.longest_seconds = max(whole.longest_seconds, part.longest_seconds)
        whole._counts = array("L", counts)
        return whole

    def __len__(self) -> int:
        return sum(self._counts)

    def add(self, seconds: float) -> None:
        """Count one."""
        step = int(math.log2(max(seconds, FINEST_SECONDS) / FINEST_SECONDS) * STEPS_PER_OCTAVE)
        self._counts[min(step, STEPS - 1)] += 1
        self.longest_seconds = max(self.longest_seconds, seconds)

    def quantile(self, share: float) -> float:
        """The seconds that this share of them did not exceed; 0 when there is none."""
        wanted, found = math.ceil(len(self) * share), 0
        for step, count in enumerate(self._counts):
            found += count
            if count and found >= wanted:
                middle: float = FINEST_SECONDS * 2.0 ** ((step + 0.5) / STEPS_PER_OCTAVE)
                return min(middle, self.longest_seconds)
        return 0.0
