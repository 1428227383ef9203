"""Who is connected to this replica, and the delivery of what the journal says to them.

It knows no sockets, close codes, JSON, tokens or other replicas. Everything here is synchronous: between two turns of
the event loop a session is registered, moved or delivered to as a whole, which is why a resume has no gap.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from notifier.core.audience import Address
from notifier.core.delivery import FEW_SESSIONS, Delivery
from notifier.core.durations import Durations
from notifier.core.envelope import Envelope, Position
from notifier.core.identity import CANARY_TENANT, Identity, Tenant
from notifier.core.index import Index
from notifier.core.ports import CloseReason, Frame, FrameMaker, Later
from notifier.core.replay import Replay, Resume
from notifier.core.session import Session
from notifier.core.stays import Departed, Stay
from notifier.core.trail import Trail
from notifier.core.window import Window
from notifier.core.worklist import Worklist, on_the_running_loop


@dataclass(frozen=True, slots=True)
class Batch:
    """What one record brings to sessions: envelopes in order, and the tail before the record."""

    before: Position
    entries: Sequence[tuple[Position, Envelope]]


class Reach(NamedTuple):
    """How many sessions of this replica a notification was for when it was read."""

    position: Position
    envelope: Envelope
    sessions: int


Watch = Callable[[Reach], Callable[[], None]]
"""Told of each notification that is traced, when it was read; what it returns is called when it has been written to all
sessions here that are live."""


class Hub:
    """Registers sessions and delivers to them.

    Args:
        window: what can be replayed, and how far the journal was read.
        frames: puts an envelope into a frame, once, whatever the number of sessions.
        max_running_cursors: see `Replay`.
        watch: told of notifications that are traced.
        max_remembered: closed sessions of which is known when they were here, and how far they came.
        vacated: told of each session that no limit counts any more: it is gone, or about to leave. May be told twice.
        clock: Unix seconds, for what has expired.
        monotonic: seconds, for who takes nothing any more, and for how long is written at a stretch.
        later: see `Worklist`.
    """

    def __init__(
        self,
        window: Window,
        frames: FrameMaker,
        *,
        max_running_cursors: int = 1_000,
        watch: Watch | None = None,
        max_remembered: int = 10_000,
        vacated: Callable[[Session], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        later: Later = on_the_running_loop,
    ) -> None:
        self._window = window
        self._frames = frames
        self._watch = watch
        self._vacated = vacated
        self._clock = clock
        self.replay = Replay(
            window,
            frames,
            lost=self._lose,
            later=later,
            max_running=max_running_cursors,
            clock=clock,
            monotonic=monotonic,
        )
        self._delivery = Delivery(frames, fall_behind=self._fall_behind, later=later, clock=clock, monotonic=monotonic)
        self._news: Worklist[tuple[Session, Frame]] = Worklist(self._tell_next, later=later, monotonic=monotonic)
        self._sessions: dict[str, Session] = {}
        self._index = Index()
        self._leaving: set[Session] = set()  # Asked to come back elsewhere, or about to be; closed at their pace.
        self._delivered_to_gone = 0
        self.departed = Departed(max_remembered, since_ms=int(clock() * 1000))
        self.trail = Trail()
        self.fallen_behind = 0
        self.unreached = 0  # Notifications that nobody here was to get when they were read.
        self.resumes: Counter[tuple[str, ...]] = Counter()  # By status, and the reason of a reset.
        self.closed: Counter[CloseReason] = Counter()  # Sessions that were ended from this side.

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """The sessions of this moment; they may be removed meanwhile."""
        return iter(list(self._sessions.values()))

    def __contains__(self, session: Session) -> bool:
        return session.id in self._sessions

    @property
    def staying(self) -> int:
        """The sessions without those that are leaving: what limits go by, since those come back elsewhere."""
        return len(self._sessions) - len(self._leaving)

    def is_leaving(self, session: Session) -> bool:
        """Tell whether the session is about to be closed by a drain or a rebalance: no limit counts it."""
        return session in self._leaving

    def mark_leaving(self, sessions: Iterable[Session]) -> None:
        """Note that these will be closed soon, as `close_paced` does with each of its own."""
        for session in sessions:
            if session in self:
                self._leaving.add(session)
                self._vacated(session)

    def get(self, session_id: str) -> Session | None:
        """The session of this id, while it is here."""
        return self._sessions.get(session_id)

    @property
    def delivered(self) -> int:
        """Notification frames written since the start."""
        return self._delivered_to_gone + sum(session.delivered for session in self._sessions.values())

    @property
    def delivery_durations(self) -> Durations:
        """From the acceptance of a notification until all who are live have it written."""
        return self._delivery.durations

    def sessions_of(self, tenant: Tenant, user: str) -> frozenset[Session]:
        """The sessions of one user on this replica."""
        return frozenset(self._index.at(tenant, Address("user", user)))

    def register(self, session: Session, presented: str | None) -> Resume:
        """Take in a session at the position that it presents, and say what it can expect.

        The caller writes its welcome and calls `advance`, in the same turn of the event loop.
        """
        resume = self.replay.resume(session.identity.tenant, session.addresses(), presented)
        self.resumes[resume.status, resume.reason or ""] += 1
        self._sessions[session.id] = session
        session.started, session.opened_at_ms = resume.position, int(self._clock() * 1000)
        self._index.add(session)
        if resume.status == "resumed":
            self.replay.start(session, resume.position, resume.ahead)
        return resume

    def host(self, session: Session) -> None:
        """Deliver to a session of this process's own as to any other. It is in no list, count or limit, and stays."""
        self._index.add(session)

    def remove(self, session: Session) -> None:
        """Let go of a session. Calling it twice does no harm."""
        if self._sessions.pop(session.id, None) is None:
            return
        self._leaving.discard(session)
        self.departed.add(self.stay_of(session)._replace(closed_at_ms=int(self._clock() * 1000)))
        self._index.remove(session)
        session.owed = None
        self._delivered_to_gone += session.delivered
        self.replay.end(session)
        self._vacated(session)

    def close(self, session: Session, reason: CloseReason) -> None:
        """End a session for a reason of ours."""
        self.closed[reason] += session in self
        self.remove(session)
        session.outlet.close(reason)

    def subscribe(self, session: Session, topics: Sequence[str], presented: str | None = None) -> Resume:
        """Add topics; with a position, what they said since then comes first.

        The caller writes its reply and calls `advance`, in the same turn of the event loop. A notification that reached
        the session by another address as well comes a second time.
        """
        self.settle(session)
        added = frozenset(Address("topic", topic) for topic in topics)
        self._reidentify(session, session.identity, session.topics.union(topics))
        resume = self.replay.resume(session.identity.tenant, session.addresses(), presented, only=added)
        if resume.status == "resumed":
            self.replay.start_backfill(session, resume.position, added)
        return resume

    def unsubscribe(self, session: Session, topics: Sequence[str]) -> None:
        """Take topics away."""
        self._reidentify(session, session.identity, session.topics.difference(topics))

    def refresh(self, session: Session, identity: Identity, topics: frozenset[str]) -> None:
        """Go on as a fresh identity of the same tenant and user: from now on its roles and these topics count."""
        self._reidentify(session, identity, topics)

    def position_of(self, session: Session) -> Position:
        """Where the session stands: everything for it up to here has been written to it."""
        if session.cursor is not None:
            return session.cursor.position
        return self._window.tail if session.owed is None else session.owed.before

    def stay_of(self, session: Session) -> Stay:
        """What is known of the session's time here up to now."""
        return Stay(
            session.id,
            session.identity,
            session.topics,
            session.started or self._window.start,
            self.position_of(session),
            session.changed_at,
            session.caught_up,
            session.cursor is not None,
            session.delivered,
            session.opened_at_ms,
        )

    def note_written(self) -> None:
        """Note how far everything was written; call it once in a while."""
        if self._delivery.is_idle:
            self.trail.note(self._window.tail, int(self._clock() * 1000))

    def settle(self, session: Session) -> None:
        """Write what the session is owed, before something else is written to it."""
        self._delivery.settle(session)

    def deliver(self, batch: Batch) -> None:
        """Have each envelope written to every session it reaches; a live one that cannot take its share falls behind.

        No await and no logging in here: a join between two notes of what is owed would change the sets under us.
        """
        before = batch.before
        for position, envelope in batch.entries:
            reached = self._index.reached(envelope.tenant, envelope.audience)
            written = None
            if self._watch is not None and envelope.trace is not None:
                written = self._watch(Reach(position, envelope, len(reached)))
            if reached:
                frame = self._frames.notification(position, envelope)
                timed = None if envelope.tenant == CANARY_TENANT else (envelope.accepted_at_ms, written)
                self._delivery.owe(reached, frame, before, are_few=len(reached) <= FEW_SESSIONS, timed=timed)
                if envelope.live_only:
                    self._offer_to_those_behind(reached, envelope)
            elif envelope.tenant != CANARY_TENANT:
                self.unreached += 1
                if written is not None:
                    written()
            before = position
        self._delivery.go()

    def cut(self, start: Position) -> None:
        """Begin the window anew, and send everybody away first: they come back, and hear `reset`.

        A session that stayed would store positions behind the cut, and nobody could tell it of the gap any more.
        """
        for session in self:
            self.close(session, CloseReason.FELL_BEHIND)
        self._window.cut(start, opened_at_ms=int(self._clock() * 1000))

    def tell(self, frame: Frame) -> None:
        """Offer a frame about the service to every session; one that is full has enough to hear."""
        self._news.start([(session, frame) for session in self._sessions.values()])

    def _tell_next(self, news: deque[tuple[Session, Frame]]) -> None:
        session, frame = news.popleft()
        self.settle(session)
        session.outlet.write(frame)

    def advance(self, session: Session) -> None:
        """Let a session that is behind go on: its client has taken what it was given."""
        self.replay.advance(session)

    def _offer_to_those_behind(self, reached: Collection[Session], envelope: Envelope) -> None:
        for session in reached:
            if session.cursor is not None:
                session.offer(self._frames.notification(session.cursor.position, envelope), 1)

    def _fall_behind(self, session: Session, before: Position) -> None:
        self.fallen_behind += 1
        self.replay.start(session, before)

    def _lose(self, session: Session) -> None:
        self.close(session, CloseReason.FELL_BEHIND)

    def _reidentify(self, session: Session, identity: Identity, topics: frozenset[str]) -> None:
        self._index.remove(session)
        if (identity.roles, topics) != (session.identity.roles, session.topics):
            session.changed_at = self._window.tail.ordinal
        session.identity, session.topics = identity, topics
        self._index.add(session)
