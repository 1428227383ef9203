"""What a process suffers from: then it keeps the sessions that it has, and takes no new ones."""

import time
from collections.abc import Callable
from typing import Final

LOOK_SECONDS: Final = 0.25


class Strain:
    """Tells what it is, when it is asked: `loop_lag`, `memory`, or None for nothing.

    Args:
        lag_seconds: how late the event loop is, and was a moment ago: the lesser of both, so that one hiccup is none.
        memory_share: the part of its memory that the process takes; looked at four times a second, at most.
    """

    def __init__(
        self,
        *,
        lag_seconds: Callable[[], float],
        most_lag_seconds: float,
        memory_share: Callable[[], float],
        most_memory_share: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lag_seconds = lag_seconds
        self._most_lag_seconds = most_lag_seconds
        self._memory_share = memory_share
        self._most_memory_share = most_memory_share
        self._monotonic = monotonic
        self._look_at = 0.0
        self._is_memory_short = False

    def __call__(self) -> str | None:
        """What it suffers from now."""
        if self._lag_seconds() > self._most_lag_seconds:
            return "loop_lag"
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            self._is_memory_short = self._memory_share() > self._most_memory_share
        return "memory" if self._is_memory_short else None
