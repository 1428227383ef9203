"""Work in order and in stretches: whatever its size, it never holds the event loop for long."""

import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, Generic, TypeVar

from notifier.core.ports import Later

_Item = TypeVar("_Item")
STRETCH_SECONDS: Final = 0.005


class Worklist(Generic[_Item]):
    """Items of which each is to be done, the first first, for at most some milliseconds in one turn of the event loop.

    Args:
        do: takes one or a few items off the left end, and does them; it may add others.
        later: runs a callback after so many seconds, as an event loop does.
    """

    def __init__(
        self, do: Callable[[deque[_Item]], None], *, later: Later, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._do = do
        self._later = later
        self._monotonic = monotonic
        self._items: deque[_Item] = deque()
        self.add = self._items.append  # Two names for what costs a delivery as little as can be.
        self.add_first = self._items.appendleft
        self.is_awaited = False  # A run is on its way.
        self.ended_at = -inf  # Monotonic seconds at which the last run ended.

    def __len__(self) -> int:
        return len(self._items)

    def run_in(self, seconds: float) -> None:
        """Begin after so long, if there is something to do and no run on its way."""
        if self._items and not self.is_awaited:
            self.is_awaited = True
            self._later(seconds, self.run)

    def run(self) -> None:
        """Do what there is, for one stretch; what is left goes on in the next turn."""
        self.is_awaited = True
        items, do, now = self._items, self._do, self._monotonic
        until = now() + STRETCH_SECONDS
        while items:
            do(items)
            if now() > until:
                break
        self.is_awaited = False
        self.ended_at = now()
        self.run_in(0)
