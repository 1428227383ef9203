"""Where slowapi's limiter counts: two counters a key, in memory, for one thread.

The memory storage of `limits` starts a thread every 10 ms, which looks at every key that it holds, and takes a lock and
six look-ups for each hit (`DECISIONS.md`, 26). Here the counts of a whole window are dropped at once when it is over.
"""

import time
from dataclasses import dataclass, field
from math import floor
from typing import Final

from limits.storage import MemoryStorage

SCHEME: Final = "notifier-memory"
"""Under this scheme `limits` finds the storage."""


@dataclass(slots=True)
class _Windows:
    """The counts of the window with this number, and of the one before it, by key."""

    number: int
    current: dict[str, int] = field(default_factory=dict)
    previous: dict[str, int] = field(default_factory=dict)


class Counters(MemoryStorage):
    """Storage for the strategy `sliding-window-counter`; of the other strategies nothing is changed."""

    STORAGE_SCHEME = [SCHEME]  # noqa: RUF012 - declared by `limits`, which takes a list

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **options: str) -> None:
        super().__init__(uri, wrap_exceptions, **options)
        self._windows: dict[int, _Windows] = {}  # By their length in seconds.

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` unless it would go over the limit."""
        now = time.time()
        windows = self._at(expiry, now)
        count = windows.current.get(key, 0)
        weighted = windows.previous.get(key, 0) * _left(expiry, now) / expiry + count
        if floor(weighted) + amount > limit:
            return False
        windows.current[key] = count + amount
        return True

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """The count of the last window and how long it matters; that of this one, and how long it will."""
        now = time.time()
        windows = self._at(expiry, now)
        left = _left(expiry, now)
        previous = windows.previous.get(key, 0)
        return previous, left if previous else 0.0, windows.current.get(key, 0), left + expiry

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget what was counted for the key."""
        windows = self._at(expiry, time.time())
        windows.current.pop(key, None)
        windows.previous.pop(key, None)

    def reset(self) -> int | None:
        """Forget all."""
        self._windows.clear()
        return super().reset()

    def _at(self, expiry: int, now: float) -> _Windows:
        number = int(now / expiry)
        windows = self._windows.get(expiry)
        if windows is not None and windows.number == number:
            return windows
        # A clock that was set back begins anew as well: nobody is to wait until it has caught up.
        previous = windows.current if windows is not None and windows.number == number - 1 else {}
        windows = self._windows[expiry] = _Windows(number, {}, previous)
        return windows


def _left(expiry: int, now: float) -> float:
    """Seconds until the window of this moment is over."""
    return (1 - now / expiry % 1) * expiry
