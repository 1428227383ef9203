"""How late the event loop is: what a callback that is due waits until it runs."""

import asyncio
from typing import Final

from notifier.core.durations import Durations

LOOK_SECONDS: Final = 0.25


class LoopLag:
    """Looks four times a second."""

    def __init__(self) -> None:
        self.durations = Durations()
        self.recent_seconds = (0.0, 0.0)  # Of the last two looks.

    async def run(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            lag_seconds = loop.time() - due
            self.recent_seconds = (self.recent_seconds[1], lag_seconds)
            self.durations.note(lag_seconds)
