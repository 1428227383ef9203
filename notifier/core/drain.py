"""Closing sessions at a pace, so that those who come back do not come back all at once."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from notifier.core.hub import Hub
from notifier.core.ports import CloseReason, FrameMaker
from notifier.core.session import Session

CATCH_UP_SECONDS: Final = 0.25


async def close_paced(
    hub: Hub, frames: FrameMaker, sessions: Sequence[Session], reason: CloseReason, *, over_seconds: float
) -> int:
    """Ask each session to come back elsewhere, and close it; spread over the time. Returns how many were closed.

    They are leaving from now on: whoever comes back elsewhere meanwhile is not held against a limit twice.
    """
    hub.mark_leaving(sessions)
    closed = 0
    loop = asyncio.get_running_loop()
    due = loop.time()
    for session in sessions:
        # A loop that was held up does not make up for it at once: others would have to take all of them in that moment.
        due = max(due, loop.time() - CATCH_UP_SECONDS)
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        due += over_seconds / len(sessions)
        if session in hub:
            after_ms = random.randint(100, 1_000)
            hub.settle(session)
            session.outlet.write(frames.reconnect(reason, hub.position_of(session), after_ms))
            hub.close(session, reason)
            closed += 1
    return closed
