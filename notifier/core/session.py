"""One client's session: who it is, what it subscribed to, and whether it is live or behind."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from notifier.core.audience import EVERYONE, Address
from notifier.core.envelope import Position
from notifier.core.identity import Identity
from notifier.core.ports import Frame, Outlet
from notifier.core.window import Share

NO_TOPICS: Final[frozenset[str]] = frozenset()  # One for all: each other empty set would take 216 bytes.


@dataclass(slots=True)
class Backfill:
    """Topics that joined an open session with a position of their own: what they said over `after` up to `until`."""

    start: Position
    after: int
    until: int
    addresses: frozenset[Address]


@dataclass(slots=True)
class Cursor:
    """How far a session that is not live has read the window."""

    reached: Position
    started_at: float  # Monotonic seconds at which its turn to catch up began.
    backfills: list[Backfill] = field(default_factory=list)
    ahead: Share | None = None  # What it reads next, where that was read in this turn of the event loop.

    @property
    def position(self) -> Position:
        """The place to resume from. The oldest of the backfills': a client that stored more would skip their rest."""
        return min([self.reached, *(backfill.start for backfill in self.backfills)])


class Owed:
    """Frames that were read for a session and are not written yet. Sessions that are owed the same share one of these.

    `before` is the position before the first of them, `size` their bytes together.
    """

    __slots__ = ("before", "count", "frames", "joined", "size")

    def __init__(self, frames: tuple[Frame, ...], size: int, before: Position) -> None:
        self.frames = frames
        self.count = len(frames)
        self.size = size
        self.before = before
        self.joined: Frame | None = None  # Made once, when the first session is written to.

    def and_then(self, frame: Frame) -> "Owed":
        """The same, and one more behind."""
        return Owed((*self.frames, frame), self.size + frame.size, self.before)


class CaughtUp(NamedTuple):
    """That a session which was behind became live: at this ordinal, and at these Unix milliseconds."""

    ordinal: int
    at_ms: int


def addresses_of(identity: Identity, topics: Iterable[str]) -> frozenset[Address]:
    """Every address at which somebody with these topics is reached."""
    return frozenset(
        [EVERYONE, Address("user", identity.user)]
        + [Address("role", role) for role in identity.roles]
        + [Address("topic", topic) for topic in topics]
    )


class Session:
    """A session is *live* (each delivery is written at once) or a *cursor* into the window; it has no outbox."""

    __slots__ = (
        "caught_up",
        "changed_at",
        "cursor",
        "delivered",
        "due_tick",
        "ends_at",
        "heartbeat_at",
        "id",
        "identity",
        "notice_at",
        "opened_at_ms",
        "outlet",
        "owed",
        "started",
        "topics",
    )

    def __init__(self, session_id: str, identity: Identity, topics: Iterable[str], outlet: Outlet) -> None:
        self.id = session_id
        self.identity = identity
        self.topics = frozenset(topics) or NO_TOPICS
        self.outlet = outlet
        self.cursor: Cursor | None = None  # None while live.
        self.owed: Owed | None = None  # None while nothing waits to be written; always, while it is a cursor.
        self.delivered = 0  # Notification frames that the outlet took.
        # For operators, who look at it as a `Stay`. The first two are set by Hub, when it is registered.
        self.opened_at_ms = 0
        self.started: Position | None = None
        self.changed_at = -1
        self.caught_up: CaughtUp | None = None
        # Set by Pulse, in monotonic seconds; the tick is that of its wheel.
        self.heartbeat_at = self.notice_at = self.ends_at = 0.0
        self.due_tick = 0

    def addresses(self) -> frozenset[Address]:
        """Every address at which this session is reached, by what it may see now."""
        return addresses_of(self.identity, self.topics)

    def offer(self, frame: Frame, notifications: int) -> bool:
        """Offer so many notifications without waiting. False: none was taken, and the session must fall behind."""
        if not self.outlet.write(frame):
            return False
        self.delivered += notifications
        return True
