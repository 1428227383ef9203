"""Sessions that are behind: where they may resume, and bringing them to the tail of the window, chunk by chunk."""

import time
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass

from notifier.core.audience import Address
from notifier.core.envelope import Position
from notifier.core.identity import Tenant
from notifier.core.ports import FrameMaker, Later
from notifier.core.session import Backfill, CaughtUp, Cursor, Session
from notifier.core.window import Share, Window
from notifier.core.worklist import Worklist


@dataclass(frozen=True, slots=True)
class Resume:
    """What a client that came with a position, or without one, can expect.

    `status` is `new`, `resumed` or `reset`. `position` is where it stands: the tail for new and reset, else the one it
    came with. `replayed` counts what the replay will bring (None for very much), `available_since_ms` says since when a
    reset client can still ask. `ahead` is all that was missed, where it is little: it was read to be counted.
    """

    status: str
    position: Position
    reason: str | None = None
    replayed: int | None = None
    available_since_ms: int | None = None
    ahead: Share | None = None


class Replay:
    """Runs the cursors.

    Args:
        window: what they read.
        frames: how an entry is put into a frame.
        lost: called with a session whose next entries the window let go of.
        max_running: cursors that run at a time; the others wait for their turn. It bounds memory: each one that runs
            holds at most one chunk that its client has not taken.
        chunk_bytes: the most that one write brings.
    """

    def __init__(
        self,
        window: Window,
        frames: FrameMaker,
        *,
        lost: Callable[[Session], None],
        later: Later,
        max_running: int = 1_000,
        chunk_bytes: int = 64 * 1024,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window
        self._frames = frames
        self._lost = lost
        self._max_running = max_running
        self._chunk_bytes = chunk_bytes
        self._later = later
        self._clock = clock
        self._monotonic = monotonic
        self._running: set[Session] = set()
        self._waiting: deque[Session] = deque()
        # Those whose clients read as fast as we write; they go on in stretches, or they would hold the event loop.
        self._swift: Worklist[Session] = Worklist(
            lambda swift: self.advance(swift.popleft()), later=later, monotonic=monotonic
        )

    def __len__(self) -> int:
        """Sessions that are behind, with those that wait for their turn."""
        return len(self._running) + sum(session.cursor is not None for session in self._waiting)

    def resume(
        self, tenant: Tenant, addresses: Set[Address], presented: str | None, *, only: Set[Address] | None = None
    ) -> Resume:
        """Judge a presented position: one of ours, `earliest`, or None for from now on.

        `only` names the addresses that are to be replayed, where it is not all of them.
        """
        window = self._window
        if presented is None:
            return Resume("new", window.tail)
        position = window.floor(tenant) if presented == "earliest" else Position.parse(presented)
        if position is None or not window.holds_all_after(tenant, position):
            reason = _reset_reason(position, window.tail)
            return Resume("reset", window.tail, reason, available_since_ms=window.available_since_ms(tenant))
        now_ms, after = int(self._clock() * 1000), position.ordinal
        ahead = window.read(tenant, addresses, after, now_ms=now_ms, max_bytes=self._chunk_bytes, only=only)
        if ahead.reached == window.tail.ordinal:
            return Resume("resumed", position, replayed=len(ahead.entries), ahead=ahead)
        return Resume("resumed", position, replayed=window.count(tenant, addresses, after, now_ms=now_ms, only=only))

    def start(self, session: Session, reached: Position, ahead: Share | None = None) -> None:
        """Make a live session a cursor behind `reached`. It moves when `advance` is called, or when its turn comes.

        `ahead` is what it will read first, if `advance` is called in this turn of the event loop.
        """
        if session.cursor is None:
            session.cursor = Cursor(reached, self._monotonic())
            if len(self._running) < self._max_running:
                session.cursor.ahead = ahead
                self._running.add(session)
            else:
                self._waiting.append(session)

    def start_backfill(self, session: Session, start: Position, addresses: frozenset[Address]) -> None:
        """Bring what the addresses said between `start` and where the session stands, before anything newer."""
        self.start(session, self._window.tail)
        cursor = session.cursor
        assert cursor is not None
        cursor.backfills.append(Backfill(start, start.ordinal, cursor.reached.ordinal, addresses))

    def advance(self, session: Session) -> None:
        """Bring a session one chunk further; at the tail it is live again. Live and waiting ones are left alone."""
        if session in self._running:
            self._catch_up(session)
        self._start_waiting()

    def end(self, session: Session) -> None:
        """Forget the cursor of a session that is gone; its turn goes to one that waits."""
        had_turn = session in self._running
        self._settle(session)
        if had_turn:
            self._start_waiting()

    def stalled(self, seconds: float) -> list[Session]:
        """The sessions whose turn it is and whose clients took nothing for so long."""
        now = self._monotonic()
        return [session for session in self._running if now - _moved_at(session) > seconds]

    def _start_waiting(self) -> None:
        while self._waiting and len(self._running) < self._max_running:
            session = self._waiting.popleft()
            if session.cursor is not None:
                session.cursor.started_at = self._monotonic()
                self._running.add(session)
                self._catch_up(session)

    def _catch_up(self, session: Session) -> None:
        """Write the next chunk, if there is any; `advance` is called when its client has taken it."""
        while (cursor := session.cursor) is not None:
            backfill = cursor.backfills[0] if cursor.backfills else None
            after = backfill.after if backfill else cursor.reached.ordinal
            if after < self._window.floor(session.identity.tenant).ordinal:
                self._settle(session)  # First: a thousand lost in a row must not nest.
                self._lost(session)
                return
            share, cursor.ahead = cursor.ahead, None
            share = share or self._window.read(
                session.identity.tenant,
                session.addresses(),
                after,
                until=backfill.until if backfill else None,
                only=backfill.addresses if backfill else None,
                now_ms=int(self._clock() * 1000),
                max_bytes=self._chunk_bytes,
            )
            resume_from = cursor.position if backfill else None
            frames = [self._frames.notification(resume_from or at, envelope) for at, envelope in share.entries]
            if frames and not session.offer(self._frames.join(frames), len(frames)):
                return
            self._move(session, cursor, backfill, share.reached)
            if frames:
                if session.cursor is not None and session.outlet.is_drained:
                    self._swift.add(session)
                    self._later(0, self._swift.start)
                return

    def _move(self, session: Session, cursor: Cursor, backfill: Backfill | None, reached: int) -> None:
        if backfill is not None:
            backfill.after = reached
            if reached >= backfill.until:
                cursor.backfills.remove(backfill)
        else:
            cursor.reached = self._window.position_at(reached)
        if not cursor.backfills and cursor.reached == self._window.tail:
            session.caught_up = CaughtUp(reached, int(self._clock() * 1000))
            self._settle(session)

    def _settle(self, session: Session) -> None:
        """Take the cursor away: the session is live, or gone."""
        session.cursor = None
        self._running.discard(session)


def _moved_at(session: Session) -> float:
    started_at = session.cursor.started_at if session.cursor else 0.0
    return max(started_at, session.outlet.moved_at)


def _reset_reason(position: Position | None, tail: Position) -> str:
    if position is None:
        return "position_invalid"
    if position.epoch != tail.epoch:
        return "epoch_changed"
    return "position_ahead" if position.ordinal > tail.ordinal else "window_passed"
