"""The one timer for all sessions: heartbeats, tokens that end, clients that take nothing more."""

import asyncio
import random
import time
from collections.abc import Callable
from math import inf

from notifier.core.hub import Hub
from notifier.core.ports import CloseReason, FrameMaker
from notifier.core.session import Session
from notifier.core.window import Window


class Pulse:
    """A wheel of buckets, one per tick; each session stands in the bucket of what is due next for it.

    Args:
        heartbeat_seconds: a session that hears nothing else hears this often how far it stands.
        stall_seconds: a session that is behind and takes nothing for so long is closed.
        leeway_seconds: a token that has ended is taken for so long; a session that it opens lasts as long, not a tick.
        clock: Unix seconds, used once per session to place the end of its token on the monotonic clock.
    """

    def __init__(
        self,
        hub: Hub,
        window: Window,
        frames: FrameMaker,
        *,
        heartbeat_seconds: float = 25.0,
        stall_seconds: float = 20.0,
        leeway_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._window = window
        self._frames = frames
        self._heartbeat_seconds = heartbeat_seconds
        self._stall_seconds = stall_seconds
        self._leeway_seconds = leeway_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._tick_seconds = min(1.0, heartbeat_seconds / 4)
        self._silence_seconds = 2 * heartbeat_seconds - self._tick_seconds  # The wheel serves up to a tick late.
        self._buckets: dict[int, list[str]] = {}  # Ids, so that a session which is gone is not kept until it is due.
        self._turned_to = self._tick(monotonic())

    def add(self, session: Session) -> None:
        """Keep the time of a session that was just registered."""
        # Spread, so that sessions which came back together do not beat together.
        session.heartbeat_at = self._monotonic() + self._heartbeat_seconds * random.uniform(0.5, 1.0)
        self.renew(session)

    def renew(self, session: Session) -> None:
        """Read the end of the session's token anew; the notice comes in the last 10 to 25 % of its life."""
        life_seconds = session.identity.expires_at - self._clock()
        if life_seconds <= 0:
            life_seconds += self._leeway_seconds
        session.ends_at = self._monotonic() + life_seconds
        # The wheel is late by up to two ticks, which must not eat the notice of a short life.
        least_seconds = min(3 * self._tick_seconds, life_seconds * 0.25)
        session.notice_at = session.ends_at - max(life_seconds * random.uniform(0.10, 0.25), least_seconds)
        self._schedule(session)

    async def run(self) -> None:
        """Turn the wheel for ever."""
        while True:
            await asyncio.sleep(self._tick_seconds)
            self.turn()

    def turn(self) -> None:
        """Do all that has become due."""
        now = self._monotonic()
        while self._turned_to < self._tick(now):
            self._turned_to += 1
            for session_id in self._buckets.pop(self._turned_to, ()):
                session = self._hub.get(session_id)
                # A session that was renewed stands in two buckets; only the one it was put into last counts.
                if session is not None and session.due_tick == self._turned_to:
                    self._serve(session, now)
        for session in self._hub.replay.stalled(self._stall_seconds):
            self._hub.close(session, CloseReason.FELL_BEHIND)
        self._hub.note_written()
        self._window.expire(int(self._clock() * 1000))

    def _serve(self, session: Session, now: float) -> None:
        if now >= session.ends_at:
            self._hub.close(session, CloseReason.TOKEN_EXPIRED)
            return
        if now >= session.heartbeat_at and now - session.outlet.heard_at > self._silence_seconds:
            self._hub.close(session, CloseReason.SILENT)
            return
        self._hub.settle(session)
        if now >= session.notice_at:
            notice = self._frames.token_expiring(max(0, round(session.ends_at - now)))
            if session.outlet.write(notice):  # Else at the next tick: a client that misses it loses its session.
                session.notice_at = inf
        if now >= session.heartbeat_at:
            session.heartbeat_at = now + self._heartbeat_seconds
            # Refused by an outlet that is full: its client has enough to hear.
            session.outlet.write(self._frames.heartbeat(self._hub.position_of(session)))
        self._schedule(session)

    def _schedule(self, session: Session) -> None:
        due = min(session.heartbeat_at, session.notice_at, session.ends_at)
        session.due_tick = max(self._tick(due), self._turned_to) + 1
        self._buckets.setdefault(session.due_tick, []).append(session.id)

    def _tick(self, at: float) -> int:
        return int(at / self._tick_seconds)
