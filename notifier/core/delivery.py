"""From what sessions are owed to what is written: joined where it can be, in order for each, never for long."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import Final

from notifier.core.durations import Durations
from notifier.core.envelope import Position
from notifier.core.ports import Frame, FrameMaker, Later
from notifier.core.session import Owed, Session
from notifier.core.worklist import Worklist

# A system call per session is the cost of a delivery; under load a short wait lets several notifications share one. The
# wait grows with what writing will cost anyway, and a lone notification never waits (`DECISIONS.md`, 31).
BUSY_SECONDS: Final = 0.002
JOIN_SECONDS: Final = 0.001
BUSY_SHARE: Final = 0.5
JOIN_SHARE: Final = 0.125
JOINED_LIMIT_BYTES: Final = 64 * 1024
FEW_SESSIONS: Final = 16
WRITES_AT_A_TIME: Final = 32  # Between two looks at the clock.


Timed = tuple[int, Callable[[], None] | None]
"""When it was accepted, in Unix milliseconds, and what to call when all who are live have it, if anything."""


class Delivery:
    """Writes to live sessions what the journal says to them, in its order.

    `Session.owed` is all that was read for one and is not written yet.

    Args:
        frames: joins frames.
        fall_behind: told of a session that could not take what it was owed, and the position before that.
        clock: Unix seconds, for how long a notification took since it was accepted.
    """

    def __init__(
        self,
        frames: FrameMaker,
        *,
        fall_behind: Callable[[Session, Position], None],
        later: Later,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._join = frames.join
        self._fall_behind = fall_behind
        self._later = later
        self._clock = clock
        self._monotonic = monotonic
        self._round: Worklist[Session] = Worklist(self._write, ended=self._end, later=later, monotonic=monotonic)
        self._next: list[Session] = []  # For the round after this one: who has had its turn is owed something new.
        self._is_waiting = False  # The next round is on its way.
        self._ended_at = -inf
        self._timed: list[Timed] = []  # What this round writes ...
        self._timed_next: list[Timed] = []  # ... and what the next one does.
        self.durations = Durations()  # From acceptance to the end of the round that wrote it to all who are live.
        self._session_seconds = 0.0  # What the last round took for each session, in writing alone.

    @property
    def is_idle(self) -> bool:
        """Nothing that was read waits to be written to a live session."""
        return not (self._next or self._round or self._round.is_running)

    def owe(
        self, reached: Iterable[Session], frame: Frame, before: Position, *, are_few: bool, timed: Timed | None
    ) -> None:
        """Note that the live ones of these sessions get the frame; `before` is the position before it.

        A few pass a large broadcast that is under way or waits: each of them is written its part of that first.
        """
        alone, longer = Owed((frame,), frame.size, before), dict[Owed, Owed]()
        owing = len(self._next)
        passes = are_few and (self._round.is_running or len(self._next) > FEW_SESSIONS)
        for session in reached:
            owed = session.owed
            if owed is not None and owed.size + frame.size > JOINED_LIMIT_BYTES:
                self.settle(session)
                owed = None
            if session.cursor is not None:
                continue
            if owed is None:
                session.owed = alone
                self._next.append(session)
            else:
                session.owed = longer.get(owed) or longer.setdefault(owed, owed.and_then(frame))
            if passes:
                self._round.add(session, first=True)
        if timed is None:
            return
        if longer or len(self._next) > owing:
            (self._timed if passes else self._timed_next).append(timed)
        elif (written := timed[1]) is not None:
            written()  # Nobody here is live, and who is behind will read it.

    def go(self) -> None:
        """Write now what is owed; right behind other writes a little later, together with what comes meanwhile."""
        if self._round.is_running:
            return
        if self._round:
            self._round.start()  # Those who pass.
        elif self._next and not self._is_waiting:
            will_take_seconds = len(self._next) * self._session_seconds
            if self._monotonic() - self._ended_at >= max(BUSY_SECONDS, will_take_seconds * BUSY_SHARE):
                self._begin()
            else:
                self._is_waiting = True
                self._later(max(JOIN_SECONDS, will_take_seconds * JOIN_SHARE), self._begin)

    def _begin(self) -> None:
        self._is_waiting = False
        sessions, self._next = self._next, []
        # Those who pass may be under way.
        self._timed, self._timed_next = self._timed + self._timed_next, []
        self._round.start(sessions)

    def _end(self, took_seconds: float, sessions: int) -> None:
        self._ended_at = self._monotonic()
        self._session_seconds = took_seconds / sessions
        if self._timed:
            now_ms, timed, self._timed = self._clock() * 1000, self._timed, []
            for accepted_at_ms, written in timed:
                self.durations.note((now_ms - accepted_at_ms) / 1000)
                if written is not None:
                    written()
        self.go()

    def settle(self, session: Session) -> None:
        """Write now what the session is owed, if anything; anything else that is written to it comes behind."""
        if session.owed is not None:
            self._write(deque((session,)))

    def _write(self, owing: deque[Session]) -> None:
        """Write to the next few. This loop is what a delivery costs beside its system call."""
        for _ in range(min(len(owing), WRITES_AT_A_TIME)):
            session = owing.popleft()
            owed = session.owed
            if owed is None:
                continue  # It was settled meanwhile.
            session.owed = None
            if session.outlet.write(owed.joined or self._prepare(owed)):
                session.delivered += owed.count
            else:
                self._fall_behind(session, owed.before)

    def _prepare(self, owed: Owed) -> Frame:
        owed.joined = owed.frames[0] if owed.count == 1 else self._join(owed.frames)
        return owed.joined
