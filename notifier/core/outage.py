"""Telling sessions that the journal cannot be reached, and that it is back. They stay open meanwhile."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from notifier.core.errors import Unavailable
from notifier.core.hub import Hub
from notifier.core.ports import FrameMaker, Journal

LOOK_SECONDS: Final = 0.25


class Outage:
    """Looks at the journal and tells every session of a change.

    Args:
        patience_seconds: a shorter loss is nobody's business: a connection that is cut comes back in less.
    """

    def __init__(
        self,
        journal: Journal,
        hub: Hub,
        frames: FrameMaker,
        *,
        patience_seconds: float = 2.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._hub = hub
        self._frames = frames
        self._patience_seconds = patience_seconds
        self._monotonic = monotonic
        self._lost_at: float | None = None  # Monotonic seconds; None while the journal can be reached.
        self.is_told = False  # Sessions were told `degraded`, and not yet `restored`.

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Look once."""
        try:
            await self._journal.check()
        except Unavailable:
            now = self._monotonic()
            self._lost_at = now if self._lost_at is None else self._lost_at
            if not self.is_told and now - self._lost_at >= self._patience_seconds:
                self.is_told = True
                self._hub.tell(self._frames.degraded())
        else:
            self._lost_at = None
            if self.is_told:
                self.is_told = False
                self._hub.tell(self._frames.restored())
