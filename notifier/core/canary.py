"""Proof of life: every few seconds a replica sends a notification to itself, through the journal and the hub.

Sockets that are open and probes that are answered do not show that anything is delivered. What does is something that
went the whole way. It is an ordinary notification with ttl 0, to a session without a socket, in a tenant of its own.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Final

from notifier.core.audience import Address, Audience
from notifier.core.durations import Durations
from notifier.core.envelope import Envelope
from notifier.core.errors import Unavailable
from notifier.core.hub import Hub
from notifier.core.identity import CANARY_TENANT, Identity
from notifier.core.patience import within
from notifier.core.ports import CloseReason, Frame, Journal, Outlet
from notifier.core.session import Session

log: Final = logging.getLogger(__name__)
# In canaries missing one after the other. At one each 5 s, a journal in which nothing moves was asked again and called
# deaf before the first of these (`DECISIONS.md`, 44): what is left is one that moves, and brings nothing of ours.
REBUILD_AFTER: Final = 4
UNREADY_AFTER: Final = 6
REMEMBERED: Final = 64  # A replica that reads late brings them back late, and is alive.


class Canary:
    """Sends canaries, and notices those that do not come back.

    Args:
        every_seconds: one that is not back when the next is due is missing.
        is_excused: whether it is known anyway that nothing can come back: the journal is away, or not read yet.
        rebuild: called when some are missing one after the other, and again when as many more are.
        clock: Unix seconds.
    """

    def __init__(
        self,
        journal: Journal,
        hub: Hub,
        *,
        every_seconds: float,
        is_excused: Callable[[], bool],
        rebuild: Callable[[], None],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._every_seconds = every_seconds
        self._is_excused = is_excused
        self._rebuild = rebuild
        self._clock = clock
        self._monotonic = monotonic
        self._address = Address("user", secrets.token_hex(8))  # No other replica has it, nor had one before.
        self._awaited: deque[tuple[bytes, float]] = deque(maxlen=REMEMBERED)  # Id, and monotonic seconds when it left.
        self._last: bytes | None = None  # Id of the one that left last; None when it is back, or none has left.
        self._missing = 0  # One after the other, up to now.
        self.missed = 0
        self.rebuilds = 0
        self.round_trips = Durations()
        hub.host(Session("canary", _identity(self._address.value), (), _Perch(self._come_back)))

    @property
    def is_missing(self) -> bool:
        """So many did not come back that this replica cannot be taken to deliver anything."""
        return self._missing >= UNREADY_AFTER

    async def run(self) -> None:
        """Send for ever."""
        while True:
            due = self._monotonic() + self._every_seconds
            if not self._is_excused():
                await self.send()
            await asyncio.sleep(max(0.0, due - self._monotonic()))
            self.look()

    async def send(self) -> None:
        """Send one. A journal that does not take it is no news here: it will not come back."""
        canary_id, now_ms = f"canary-{secrets.token_hex(8)}", int(self._clock() * 1000)
        sealed = f'{{"id":"{canary_id}"}}'.encode()
        canary = Envelope(canary_id, CANARY_TENANT, Audience((self._address,)), sealed, now_ms, now_ms, live_only=True)
        self._last = canary_id.encode()
        self._awaited.append((self._last, self._monotonic()))
        with suppress(TimeoutError, Unavailable):
            await within(self._every_seconds, self._journal.append([canary]))

    def look(self) -> None:
        """Judge the one that left last, now that the next is due."""
        last, self._last = self._last, None
        if last is None or self._is_excused():
            return
        self.missed += 1
        self._missing += 1
        log.warning("canary missing", extra={"in_a_row": self._missing})
        if self._missing % REBUILD_AFTER == 0:
            self.rebuilds += 1
            self._rebuild()

    def _come_back(self, frame: Frame) -> None:
        """Any of ours shows that the way is open, however late it is."""
        wire, now = frame.wire, self._monotonic()
        for awaited in [each for each in self._awaited if each[0] in wire]:
            canary_id, left_at = awaited
            self._awaited.remove(awaited)
            self.round_trips.note(now - left_at)
            self._last = None if canary_id == self._last else self._last
        if self._missing:
            log.info("canary back", extra={"missed": self._missing})
        self._missing = 0


class _Perch:
    """Where canaries arrive: an outlet without a client."""

    is_drained: Final = True
    moved_at: Final = inf
    heard_at: Final = inf

    def __init__(self, arrived: Callable[[Frame], None]) -> None:
        self._arrived = arrived

    def write(self, frame: Frame) -> bool:
        self._arrived(frame)
        return True

    def answer(self, frame: Frame) -> None:
        """Nobody asks."""

    def close(self, reason: CloseReason) -> None:
        """Nothing is open."""


def _identity(name: str) -> Identity:
    return Identity(CANARY_TENANT, name, "", frozenset(), (), frozenset(), frozenset(), inf)


_: type[Outlet] = _Perch
