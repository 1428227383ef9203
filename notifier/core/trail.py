"""By when what was read had been written, noted once in a while, so that no delivery pays for it."""

from bisect import bisect_left
from typing import Final

from notifier.core.envelope import Position

LENGTH: Final = 4_096  # Notes; one a second at most, and only while something is read: over an hour.


class Trail:
    """Notes that everything up to a position had been written to the live sessions at a moment."""

    def __init__(self) -> None:
        self._epoch = ""
        self._ordinals: list[int] = []
        self._at_ms: list[int] = []

    def note(self, position: Position, at_ms: int) -> None:
        """Nothing that was read up to the position waited to be written at this moment."""
        if position.epoch != self._epoch:
            self._epoch, self._ordinals, self._at_ms = position.epoch, [], []
        elif self._ordinals and position.ordinal <= self._ordinals[-1]:
            return
        self._ordinals.append(position.ordinal)
        self._at_ms.append(at_ms)
        if len(self._ordinals) > 2 * LENGTH:
            del self._ordinals[:LENGTH], self._at_ms[:LENGTH]

    def written_by_ms(self, position: Position) -> int | None:
        """Unix milliseconds by which the position had been written, seldom over a second late; None: no note yet."""
        at = bisect_left(self._ordinals, position.ordinal)
        return self._at_ms[at] if position.epoch == self._epoch and at < len(self._ordinals) else None
