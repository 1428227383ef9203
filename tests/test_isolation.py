"""Who gets what, from the claims of a token to what is written, held against a model that knows only claims (T-52).

Security checklist 3.1.11: authorisation counts at delivery and again at replay, and the tenant comes from the token.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Final, TypeVar

import pytest

from notifier.access.tokens import TokenVerifier
from notifier.access.topics import TopicRule, grant
from notifier.core.audience import EVERYONE, Address
from notifier.core.envelope import Envelope
from notifier.core.hub import Batch, Hub
from notifier.core.identity import Identity, Tenant
from notifier.core.session import Session
from notifier.core.window import Window
from tests.access.builders import claims, token, verifier
from tests.core.builders import at, envelope
from tests.core.fakes import BoundedOutlet, HandLoop, PlainFrames

_Thing = TypeVar("_Thing")
IS_FULL: Final = os.environ.get("NOTIFIER_TEST_FULL") == "1"
PEOPLE, SENDS = (200, 500) if IS_FULL else (60, 100)
# One word in every place, and users that look like patterns: nothing of it may be taken for something else.
TENANTS: Final = ("acme", "acme2", "eu", "default")
USERS: Final = ("alice", "eu", "*", "#", "{sub}", "a.b", "orders")
ROLES: Final = ("admin", "alice", "eu", "everyone")
TOPICS: Final = ("orders", "orders.eu", "orders.eu.1", "user.alice", "user.alice.x", "user.eu", "alice", "admin", "eu")
PATTERNS: Final = ("orders", "orders.*", "orders.#", "user.{sub}", "user.{sub}.#", "*", "#.eu", "eu", "alice")
ADMINS: Final = TopicRule("role", "admin", ("admin", "user.*.#"))


@dataclass(frozen=True, slots=True)
class Bearer:
    """What a token claims."""

    tenant: str | None
    user: str
    roles: frozenset[str]
    patterns: frozenset[str]

    def token(self) -> str:
        topics = sorted(self.patterns)
        return token(claims(sub=self.user, tenant=self.tenant, roles=sorted(self.roles), topics=topics))


@dataclass(frozen=True, slots=True)
class Sent:
    """A notification as its sender addressed it, and where it stands in the journal."""

    id: str
    offset: int
    tenant: str
    include: frozenset[tuple[str, str]]
    exclude: frozenset[tuple[str, str]]


@dataclass(slots=True)
class Device:
    """Somebody's client: what it has asked for, what its session was, and what it ought to have got."""

    bearer: Bearer
    wanted: tuple[str, ...]
    session: Session | None = None
    outlet: BoundedOutlet = field(default_factory=BoundedOutlet)
    left_at: int = 0  # The offset it has stored when it went.
    expected: list[str] = field(default_factory=list)
    topics: frozenset[str] = frozenset()  # By the model.


# -- the model: claims and addresses, and nothing of the service ---------------------------------------------------


def fits(pattern: Sequence[str], topic: Sequence[str], user: str) -> bool:
    if not pattern:
        return not topic
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(fits(rest, topic[start:], user) for start in range(len(topic) + 1))
    if head == "{sub}":  # A user that is no single word fits nothing, whatever it looks like.
        is_word = user.replace("-", "").replace("_", "").isalnum()
        return bool(topic) and is_word and topic[0] == user and fits(rest, topic[1:], user)
    return bool(topic) and head in ("*", topic[0]) and fits(rest, topic[1:], user)


def may_subscribe(bearer: Bearer, topic: str) -> bool:
    patterns = set(bearer.patterns) | (set(ADMINS.allow) if "admin" in bearer.roles else set())
    return any(fits(pattern.split("."), topic.split("."), bearer.user) for pattern in patterns)


def ought_to_get(device: Device, sent: Sent) -> bool:
    bearer = device.bearer
    names = {("user", bearer.user), *(("role", role) for role in bearer.roles), *(("topic", t) for t in device.topics)}
    is_meant = ("everyone", "") in sent.include or bool(names & sent.include)
    return sent.tenant == (bearer.tenant or "default") and is_meant and not names & sent.exclude


# -- the service ---------------------------------------------------------------------------------------------------


class Service:
    """Tokens, topics, hub and window, as the transports use them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.tokens: TokenVerifier = verifier(rules=(ADMINS,))
        self.loop = HandLoop()
        self.window = Window(at(0), opened_at_ms=0)
        self.hub = Hub(self.window, PlainFrames(), max_running_cursors=1_000, later=self.loop.call_later)
        self.journal: list[Sent] = []
        self.pairs = 0
        self.numbers = count(1)
        self.devices = [Device(self.bearer(), self._some(TOPICS, 4)) for _ in range(PEOPLE)]

    def bearer(self, like: Bearer | None = None) -> Bearer:
        """Anybody; or the same user with other roles and patterns."""
        tenant, user = self.random.choice((*TENANTS, None)), self.random.choice(USERS)
        if like is not None:
            tenant, user = like.tenant, like.user
        return Bearer(tenant, user, frozenset(self._some(ROLES, 2)), frozenset(self._some(PATTERNS, 3)))

    def send(self) -> None:
        names = [("user", name) for name in USERS] + [("role", name) for name in ROLES]
        include = self._some((*names, *(("topic", name) for name in TOPICS), ("everyone", "")), 3) or (
            ("everyone", ""),
        )
        exclude = self._some(names, 2) if self.random.random() < 0.3 else ()
        offset = len(self.journal) + 1
        sent = Sent(f"n{offset}", offset, self.random.choice(TENANTS), frozenset(include), frozenset(exclude))
        self.journal.append(sent)
        before, position = self.window.tail, at(offset)
        sealed = _envelope(sent)
        self.window.append(position, sealed)
        self.window.advance(position)
        self.hub.deliver(Batch(before, [(position, sealed)]))
        for device in self.devices:
            if device.session is not None:
                self._expect(device, sent)

    def connect(self, device: Device) -> None:
        """A new session, which goes on where the last one ended, under the token of now."""
        identity = self._admit(device)
        granted, _ = grant(identity, device.wanted)
        device.outlet = outlet = BoundedOutlet()
        device.session = session = Session(f"s{next(self.numbers)}", identity, frozenset(granted), outlet)
        outlet.drained = lambda: self.hub.advance(session)
        device.expected = []
        assert self.hub.register(session, str(at(device.left_at))).status == "resumed"
        for sent in self.journal[device.left_at :]:
            self._expect(device, sent)
        self.hub.advance(session)

    def refresh(self, device: Device) -> None:
        """The same user under other roles and patterns; topics that they do not cover are taken away."""
        assert device.session is not None
        device.bearer, had = self.bearer(device.bearer), device.topics
        identity = self._admit(device)
        granted, _ = grant(identity, sorted(device.session.topics))
        device.topics &= had
        self.hub.settle(device.session)
        self.hub.refresh(device.session, identity, frozenset(granted))

    def leave(self, device: Device) -> None:
        self.check(device)
        assert device.session is not None
        self.hub.remove(device.session)
        device.session, device.left_at = None, len(self.journal)
        device.bearer = self.bearer(device.bearer)

    def check(self, device: Device) -> None:
        """It got what it ought to, all of it, and in order."""
        self.loop.run()
        device.outlet.take()
        self.loop.run()
        device.outlet.take()
        assert device.outlet.received() == device.expected, device.bearer

    def _admit(self, device: Device) -> Identity:
        """Verify its token, and let the model say what it may subscribe to."""
        device.topics = frozenset(name for name in device.wanted if may_subscribe(device.bearer, name))
        return self.tokens.verify(device.bearer.token())

    def _expect(self, device: Device, sent: Sent) -> None:
        self.pairs += 1
        if ought_to_get(device, sent):
            device.expected.append(sent.id)

    def _some(self, things: Sequence[_Thing], most: int) -> tuple[_Thing, ...]:
        return tuple(self.random.sample(things, self.random.randint(0, most)))


def _envelope(sent: Sent) -> Envelope:
    include, exclude = (
        [EVERYONE if kind == "everyone" else Address(kind, value) for kind, value in sorted(addresses)]  # type: ignore[arg-type]
        for addresses in (sent.include, sent.exclude)
    )
    return envelope(*include, exclude=exclude, tenant=Tenant(sent.tenant), name=sent.id)


def live(service: Service) -> None:
    """People come and go and change while notifications are sent; all are there at the end."""
    for device in service.devices:
        service.connect(device)
    for _ in range(SENDS):
        service.send()
        for device in service.random.sample(service.devices, PEOPLE // 10):
            if device.session is None:
                service.connect(device)
            elif service.random.random() < 0.5:
                service.refresh(device)
            else:
                service.leave(device)
    for device in service.devices:
        if device.session is None:
            service.connect(device)


@pytest.mark.parametrize("seed", range(2))
def test_everybody_gets_exactly_what_the_claims_entitle_them_to(seed: int) -> None:
    """T-52: 1e5 pairs of session and notification at full size, at delivery, at replay and after a change of roles."""
    service = Service(seed)

    live(service)
    for device in service.devices:
        service.check(device)

    assert service.pairs >= 0.8 * PEOPLE * SENDS


def test_the_model_finds_a_service_that_lets_too_much_through() -> None:
    """The check can fail: a session of another tenant is one that the model knows nothing of."""
    service = Service(0)
    for device in service.devices:
        service.connect(device)
    stranger = next(device for device in service.devices if device.bearer.tenant == "acme")
    stranger.bearer = Bearer("eu", stranger.bearer.user, stranger.bearer.roles, stranger.bearer.patterns)

    for _ in range(SENDS):
        service.send()
    with pytest.raises(AssertionError, match="Bearer"):
        service.check(stranger)
