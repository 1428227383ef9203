"""From what sessions are owed to what is written: joined where it can be, in order for each, never for long."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from notifier.core.envelope import Position
from notifier.core.ports import Frame, FrameMaker, Later
from notifier.core.session import Owed, Session
from notifier.core.worklist import Worklist

# A system call per session is the cost of a delivery. Under load a short wait lets several share one; a lone
# notification never waits (`DECISIONS.md`, 26).
BUSY_SECONDS: Final = 0.002
JOIN_SECONDS: Final = 0.001
JOINED_LIMIT_BYTES: Final = 64 * 1024
FEW_SESSIONS: Final = 16
WRITES_AT_A_TIME: Final = 32  # Between two looks at the clock.


class Delivery:
    """Writes to live sessions what the journal says to them, in its order: `Session.owed` is all that was read for one
    and not yet written.

    Args:
        frames: joins frames.
        fall_behind: told of a session that could not take what it was owed, and the position before that.
    """

    def __init__(
        self,
        frames: FrameMaker,
        *,
        fall_behind: Callable[[Session, Position], None],
        later: Later,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._join = frames.join
        self._fall_behind = fall_behind
        self._monotonic = monotonic
        self._owing: Worklist[Session] = Worklist(self._write, later=later, monotonic=monotonic)

    def owe(self, reached: Iterable[Session], frame: Frame, before: Position, *, are_few: bool) -> None:
        """Note that the live ones of these sessions get the frame; `before` is the position before it.

        A few pass a large broadcast that is under way: each of them is written its part of that first.
        """
        alone, longer = Owed((frame,), frame.size, before), dict[Owed, Owed]()
        add = self._owing.add_first if are_few else self._owing.add
        for session in reached:
            owed = session.owed
            if owed is not None and owed.size + frame.size > JOINED_LIMIT_BYTES:
                self.settle(session)
                owed = None
            if session.cursor is not None:
                continue
            if owed is None:
                session.owed = alone
            else:
                session.owed = longer.get(owed) or longer.setdefault(owed, owed.and_then(frame))
                if not are_few:
                    continue  # It waits for its turn already.
            add(session)

    def go(self) -> None:
        """Write now what is owed; right behind other writes a little later, together with what comes meanwhile."""
        if self._monotonic() - self._owing.ended_at < BUSY_SECONDS:
            self._owing.run_in(JOIN_SECONDS)
        elif not self._owing.is_awaited:
            self._owing.run()

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
