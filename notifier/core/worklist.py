"""Work in order and in stretches: whatever its size, it never holds the event loop for long."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

from notifier.core.ports import Later

_Item = TypeVar("_Item")
STRETCH_SECONDS: Final = 0.005


def on_the_running_loop(seconds: float, callback: Callable[[], None]) -> object:
    """Run the callback after so many seconds."""
    return asyncio.get_running_loop().call_later(seconds, callback)


class Worklist(Generic[_Item]):
    """Items of which each is to be done, the first first, for at most some milliseconds in one turn of the event loop.

    Args:
        do: takes one or a few items off the left end, and does them; it may add others.
        ended: told how many seconds a run that did all of them took, without the turns between its stretches, and how
            many they were.
        later: runs a callback after so many seconds, as an event loop does.
    """

    def __init__(
        self,
        do: Callable[[deque[_Item]], None],
        *,
        ended: Callable[[float, int], None] = lambda *_: None,
        later: Later,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._do = do
        self._ended = ended
        self._later = later
        self._monotonic = monotonic
        self._items: deque[_Item] = deque()
        self._took_seconds = 0.0  # In the stretches of this run ...
        self._count = 0  # ... for so many items.
        self.is_running = False

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: _Item, *, first: bool = False) -> None:
        """Have it done with those that are there, or before them; `start` begins."""
        self._count += 1
        if first:
            self._items.appendleft(item)
        else:
            self._items.append(item)

    def start(self, items: Collection[_Item] = ()) -> None:
        """Do these and those that are there, beginning now, unless they are being done already."""
        self._items.extend(items)
        self._count += len(items)
        if not self.is_running:
            self.is_running = True
            self._run()

    def _run(self) -> None:
        """Do what there is, for one stretch; what is left goes on in the next turn."""
        items, do, now = self._items, self._do, self._monotonic
        began = now()
        until = began + STRETCH_SECONDS
        try:
            while items:
                do(items)
                if now() >= until:
                    break
        finally:  # Whatever one item does, the others have their turn.
            self._took_seconds += now() - began
            if items:
                self._later(0, self._run)
            else:
                self._finish()

    def _finish(self) -> None:
        took_seconds, count = self._took_seconds, self._count
        self._took_seconds, self._count = 0.0, 0
        self.is_running = False
        self._ended(took_seconds, count)
