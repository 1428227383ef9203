"""A replica's core with clients that come and go, and what each of them is owed: the model the core is held against."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, pairwise

from notifier.core.audience import Address
from notifier.core.envelope import Envelope, Position
from notifier.core.hub import Batch, Hub, Watch
from notifier.core.identity import Identity
from notifier.core.ports import CloseReason
from notifier.core.replay import Resume
from notifier.core.session import Session
from notifier.core.window import Window
from tests.core.builders import at
from tests.core.fakes import BoundedOutlet, HandClock, HandLoop, PlainFrame, PlainFrames


@dataclass(frozen=True, slots=True)
class Sent:
    """An envelope in the journal, and the moment at which it was read from there."""

    position: Position
    envelope: Envelope
    moment: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What a session may count on from a moment on: all after the ordinal, at some of its addresses or all (None)."""

    after: int
    moment: int
    only: frozenset[Address] | None = None


@dataclass(slots=True)
class Client:
    """A person's device: what it is, its session while it has one, and the position that it has stored."""

    identity: Identity
    topics: frozenset[str]
    limit_bytes: int
    stored: str | None = None
    session: Session | None = None
    outlet: BoundedOutlet = field(default_factory=BoundedOutlet)
    claims: list[Claim] = field(default_factory=list)
    states: list[tuple[int, frozenset[Address]]] = field(default_factory=list)  # (moment, addresses from then on)
    checked: int = 0  # Frames of the session that were held against the model ...
    has: set[str] = field(default_factory=set)  # ... and the ids of the notifications among them.

    @property
    def is_open(self) -> bool:
        return self.session is not None and self.outlet.closed is None


class World:
    """Sends as the pipeline does, and holds each frame against the model as soon as it is written."""

    def __init__(self, *, max_bytes: int = 2**30, max_running: int = 1_000, watch: Watch | None = None) -> None:
        self.clock = HandClock()
        self.monotonic = HandClock()
        self.frames = PlainFrames()
        self.window = Window(at(0), opened_at_ms=self.now_ms, max_bytes=max_bytes)
        self.loop = HandLoop()
        self.hub = Hub(
            self.window,
            self.frames,
            max_running_cursors=max_running,
            watch=watch,
            clock=self.clock,
            monotonic=self.monotonic,
            later=self.loop.call_later,
        )
        self.journal: dict[str, Sent] = {}  # by id
        self.clients: list[Client] = []
        self.statuses: list[str] = []
        self._moments = count(1)
        self._offsets = count(1)

    @property
    def now_ms(self) -> int:
        return int(self.clock() * 1000)

    # -- what happens --------------------------------------------------------------------------------------------

    def send(self, *envelopes: Envelope, after_seconds: float = 1.0) -> None:
        """One record, read as the pipeline reads it, so long after the last one."""
        self.monotonic.now += after_seconds
        before, offset, moment = self.window.tail, next(self._offsets), next(self._moments)
        entries = [(at(offset, index), envelope) for index, envelope in enumerate(envelopes)]
        for position, envelope in entries:
            if not envelope.live_only:
                self.window.append(position, envelope)
            self.window.advance(position)
        self.journal |= {envelope.id: Sent(position, envelope, moment) for position, envelope in entries}
        self.hub.deliver(Batch(before, entries))
        self.check()

    def join(self, identity: Identity, topics: Iterable[str] = (), *, limit_bytes: int = 2**30) -> Client:
        client = Client(identity, frozenset(topics), limit_bytes)
        self.clients.append(client)
        return client

    def connect(self, client: Client) -> Resume:
        """Open a session with the stored position, as a transport does: register, welcome, advance."""
        assert not client.is_open
        client.outlet = outlet = BoundedOutlet(limit_bytes=client.limit_bytes)
        client.session = session = Session(f"s{next(self._moments)}", client.identity, client.topics, outlet)
        outlet.drained = lambda: self.hub.advance(session)
        resume = self.hub.register(session, client.stored)
        outlet.answer(PlainFrame("welcome", resume.position))
        client.claims = [Claim(resume.position.ordinal, next(self._moments))]
        client.states = [(0, session.addresses())]
        client.checked = 0
        self.statuses.append(resume.status)
        self.hub.advance(session)
        self.check()
        return resume

    def disconnect(self, client: Client) -> None:
        """The connection breaks; what the client had not taken is gone, and it keeps the last position it was told."""
        if client.session is not None:
            self.hub.remove(client.session)
        told = [frame.position for frame in client.outlet.taken if frame.position]
        if told:
            client.stored = str(told[-1])
        client.session = None
        self.check()

    def subscribe(self, client: Client, topic: str, presented: str | None = None) -> Resume:
        session = self._settled(client)
        resume = self.hub.subscribe(session, [topic], presented)
        client.topics = session.topics
        self._note_addresses(client)
        if resume.status == "resumed":
            only = frozenset([Address("topic", topic)])
            client.claims.append(Claim(resume.position.ordinal, next(self._moments), only))
        client.outlet.answer(PlainFrame("subscribed", self.hub.position_of(session)))
        self.hub.advance(session)
        self.check()
        return resume

    def unsubscribe(self, client: Client, topic: str) -> None:
        session = self._settled(client)
        self.hub.unsubscribe(session, [topic])
        client.topics = session.topics
        self._note_addresses(client)
        client.outlet.answer(PlainFrame("unsubscribed", self.hub.position_of(session)))
        self.check()

    def refresh(self, client: Client, identity: Identity, topics: frozenset[str]) -> None:
        self.hub.refresh(self._settled(client), identity, topics)
        client.identity, client.topics = identity, topics
        self._note_addresses(client)
        self.check()

    def turn(self) -> None:
        """The event loop does what was put off."""
        self.loop.run()
        self.check()

    def take(self, client: Client, number: int) -> None:
        client.outlet.take(number)
        self.check()

    def beat(self, client: Client) -> None:
        client.outlet.write(self.frames.heartbeat(self.hub.position_of(self._settled(client))))
        self.check()

    def settle(self) -> None:
        """Everybody reads until nothing is left; then each open session is live, and has all that it is owed."""
        self.turn()
        while any(len(client.outlet) for client in self.clients if client.is_open):
            for client in self.clients:
                if client.is_open:
                    self.take(client, 2**30)
        for client in self.clients:
            if client.is_open:
                assert self._session(client).cursor is None
                self.beat(client)
                assert client.outlet.written[-1].position == self.window.tail
                self.take(client, 2**30)

    # -- what must hold ------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Hold the frames that were written since the last check against the model."""
        for client in self.clients:
            if client.session is None:
                continue
            if client.outlet.closed is CloseReason.FELL_BEHIND and client.session in self.hub:
                raise AssertionError("a closed session is still registered")
            for frame in client.outlet.written[client.checked :]:
                self._check_frame(client, frame)
            if client.checked < len(client.outlet.written):
                client.checked = len(client.outlet.written)
                _check_order(client)

    def _check_frame(self, client: Client, frame: PlainFrame) -> None:
        if frame.envelope is not None:
            assert self._may_get(client, self.journal[frame.envelope.id]), f"{frame.text}, to {client.states[-1]}"
            client.has.add(frame.envelope.id)
        if frame.position is not None and frame.kind != "welcome":
            missing = [
                name
                for name, sent in self.journal.items()
                if name not in client.has and sent.position <= frame.position and self._must_have(client, sent)
            ]
            assert not missing, f"{frame.text} says that {missing} were written"

    def _must_have(self, client: Client, sent: Sent) -> bool:
        envelope = sent.envelope
        if envelope.live_only or envelope.expires_at_ms <= self.now_ms or self._is_superseded(client, sent):
            return False
        return any(all(claimed) for claimed in self._entitlements(client, sent))

    def _may_get(self, client: Client, sent: Sent) -> bool:
        if sent.envelope.expires_at_ms <= self.now_ms:
            return False
        return any(any(claimed) for claimed in self._entitlements(client, sent))

    def _entitlements(self, client: Client, sent: Sent) -> Iterator[list[bool]]:
        """For each claim that covers it: whether it is for the client, in each state since both are there."""
        envelope = sent.envelope
        for claim in client.claims:
            if sent.position.ordinal > claim.after and envelope.tenant == client.identity.tenant:
                since = max(sent.moment, claim.moment)
                yield [
                    envelope.audience.reaches(addresses)
                    and not (addresses if claim.only is None else addresses & claim.only).isdisjoint(
                        envelope.audience.include
                    )
                    for addresses in _states_since(client, since)
                ]

    def _is_superseded(self, client: Client, sent: Sent) -> bool:
        return sent.envelope.collapse_key is not None and any(
            newer.position > sent.position
            and newer.envelope.tenant == sent.envelope.tenant
            and newer.envelope.collapse_key == sent.envelope.collapse_key
            and any(newer.envelope.audience.reaches(addresses) for _, addresses in client.states)
            for newer in self.journal.values()
        )

    def _note_addresses(self, client: Client) -> None:
        client.states.append((next(self._moments), self._session(client).addresses()))

    def _settled(self, client: Client) -> Session:
        """The session, behind all that it was owed: so the transports begin whatever they do with one."""
        self.hub.settle(self._session(client))
        self.check()
        return self._session(client)

    def _session(self, client: Client) -> Session:
        assert client.session is not None
        return client.session


def _states_since(client: Client, moment: int) -> list[frozenset[Address]]:
    """The addresses at the moment, and all that came later."""
    ends = [begin for begin, _ in client.states[1:]] + [2**62]
    return [addresses for (_, addresses), end in zip(client.states, ends, strict=True) if end > moment]


def _check_order(client: Client) -> None:
    """Journal order, and nothing twice; a topic that was asked for with a position may go back once."""
    got = [frame.envelope.id for frame in client.outlet.written if frame.envelope and not frame.envelope.live_only]
    steps_back = sum(int(later[1:]) <= int(earlier[1:]) for earlier, later in pairwise(got))
    assert steps_back <= len(client.claims) - 1, f"{client.identity.user} got {got}"
