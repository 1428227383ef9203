"""Hub and replay: who is reached, from where a session goes on, and whose turn it is to catch up."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from notifier.core.audience import EVERYONE, Address
from notifier.core.envelope import Envelope, Position, Trace
from notifier.core.hub import Batch, Hub, Reach
from notifier.core.identity import Tenant
from notifier.core.ports import CloseReason
from notifier.core.session import Session
from notifier.core.window import Window
from tests.core.builders import ACME, OTHER, at, envelope, identity, role, topic, user
from tests.core.fakes import BoundedOutlet, HandLoop, PlainFrame, PlainFrames
from tests.core.world import Client, World

LARGE = b"x" * 40 * 1024  # One fits a chunk of a replay, two do not.
TIGHT = 1  # An outlet that takes nothing while something waits.


def ids(client: Client) -> list[str]:
    """The notifications that were written to the client's present session."""
    return [frame.envelope.id for frame in client.outlet.written if frame.envelope]


def send(world: World, *names: str) -> None:
    world.send(*[envelope(name=name) for name in names])


def connected(world: World, name: str = "alice", *topics: str, limit_bytes: int = 2**30) -> Client:
    client = world.join(identity(name), topics, limit_bytes=limit_bytes)
    world.connect(client)
    return client


# -- who is reached --------------------------------------------------------------------------------------------------


def test_everybody_who_is_reached_gets_the_same_frame() -> None:
    world = World()
    clients = [connected(world, name) for name in ("alice", "bob", "carol")]

    send(world, "n1")

    assert len({id(client.outlet.written[-1]) for client in clients}) == 1


def test_whoever_watches_hears_of_what_is_traced_and_how_many_it_reached() -> None:
    watched: list[tuple[str, int]] = []

    def watch(reach: Reach) -> Callable[[], None]:
        return lambda: watched.append((reach.envelope.id, reach.sessions))

    world = World(watch=watch)
    for name in ("alice", "bob"):
        connected(world, name)

    traced = [envelope(EVERYONE, name="n1"), envelope(user("carol"), name="n2")]
    world.send(*[each._replace(trace=Trace("00-…")) for each in traced], envelope(EVERYONE, name="n3"))

    assert sorted(watched) == [("n1", 2), ("n2", 0)]


def test_somebody_at_several_addresses_of_an_audience_gets_it_once() -> None:
    world = World()
    alice = connected(world, "alice", "orders")

    world.send(envelope(EVERYONE, user("alice"), topic("orders"), name="n1"))

    assert ids(alice) == ["n1"]


def test_removing_a_session_twice_does_no_harm_and_keeps_the_count_of_deliveries() -> None:
    world = World()
    alice = connected(world)
    send(world, "n1", "n2")
    assert alice.session is not None

    world.hub.remove(alice.session)
    world.hub.remove(alice.session)

    assert (len(world.hub), world.hub.delivered) == (0, 2)
    assert world.hub.sessions_of(ACME, "alice") == frozenset()


def test_sessions_of_a_user_are_those_of_its_tenant() -> None:
    world = World()
    mine = [connected(world), connected(world)]
    world.connect(world.join(identity("alice", tenant=OTHER)))
    connected(world, "bob")

    assert world.hub.sessions_of(ACME, "alice") == {client.session for client in mine}


def test_live_only_reaches_whoever_is_present_and_is_never_replayed() -> None:
    world = World()
    live = connected(world)
    behind = world.join(identity("bob"), limit_bytes=2**30)
    behind.stored = str(at(0))
    world.send(*[envelope(sealed=LARGE, name=f"n{number}") for number in range(3)])
    world.connect(behind)
    assert behind.session is not None
    assert behind.session.cursor is not None
    stands_at = world.hub.position_of(behind.session)

    world.send(envelope(name="n3", live_only=True))

    assert ids(live)[-1] == "n3"
    assert ids(behind)[-1] == "n3"
    assert behind.outlet.written[-1].position == stands_at
    late = world.join(identity("carol"))
    late.stored = str(at(0))
    world.connect(late)
    world.settle()
    assert "n3" not in ids(late)


class Population:
    """Two hundred sessions of eight tenants with the same names in each, so that only the tenant keeps them apart."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.tenants = [Tenant(f"t{number}") for number in range(8)]
        self.users = [f"u{number}" for number in range(40)]
        self.roles = [f"r{number}" for number in range(6)]
        self.topics = [f"t{number}" for number in range(12)]
        self.names = [*map(user, self.users), *map(topic, self.topics), *map(role, self.roles)]
        self.window = Window(at(0), opened_at_ms=0)
        self.loop = HandLoop()
        self.hub = Hub(self.window, PlainFrames(), later=self.loop.call_later)

    def session(self, number: int) -> tuple[Session, BoundedOutlet]:
        """One that resumes from the start."""
        random, outlet = self.random, BoundedOutlet()
        bearer = identity(
            random.choice(self.users), tenant=random.choice(self.tenants), roles=random.sample(self.roles, 2)
        )
        session = Session(f"s{number}", bearer, random.sample(self.topics, 3), outlet)
        outlet.drained = lambda: self.hub.advance(session)
        self.hub.register(session, str(at(0)))
        self.hub.advance(session)
        outlet.take()
        return session, outlet

    def envelopes(self, number: int) -> list[Envelope]:
        random, made = self.random, []
        for _ in range(number):
            include = random.sample(self.names, random.randint(1, 4)) if random.random() < 0.9 else [EVERYONE]
            exclude = [name for name in random.sample(self.names, 3) if name.kind != "topic"]
            made.append(envelope(*include, exclude=exclude, tenant=random.choice(self.tenants)))
        return made

    def deliver(self, envelopes: list[Envelope]) -> None:
        before = self.window.tail
        entries = [(at(before.offset + 1, index), item) for index, item in enumerate(envelopes)]
        for position, item in entries:
            self.window.append(position, item)
        self.hub.deliver(Batch(before, entries))
        self.loop.run()


@pytest.mark.parametrize("seed", range(4))
def test_tenants_never_meet_and_exclusions_hold_among_a_hundred_thousand_pairs(seed: int) -> None:
    """Half of the envelopes are replayed, half come live, and roles change in between. Checklist 3.1.11."""
    people = Population(seed)
    replayed, live = people.envelopes(250), people.envelopes(250)
    people.deliver(replayed)
    owed: list[tuple[BoundedOutlet, list[str]]] = []
    for number in range(200):
        session, outlet = people.session(number)
        mine = entitled(session, replayed)
        fresh = replace(session.identity, roles=frozenset(people.random.sample(people.roles, 1)))
        people.hub.refresh(session, fresh, session.topics)
        owed.append((outlet, mine + entitled(session, live)))

    people.deliver(live)

    for outlet, expected in owed:
        assert [frame.envelope.id for frame in outlet.written if frame.envelope] == expected
    assert sum(len(expected) for _, expected in owed) > 1_000


def entitled(session: Session, envelopes: list[Envelope]) -> list[str]:
    mine, tenant = session.addresses(), session.identity.tenant
    return [item.id for item in envelopes if item.tenant == tenant and item.audience.reaches(mine)]


# -- where a session goes on -----------------------------------------------------------------------------------------


def test_without_a_position_a_session_begins_now() -> None:
    world = World()
    send(world, "n1")
    alice = world.join(identity())

    resume = world.connect(alice)
    send(world, "n2")

    assert (resume.status, resume.position) == ("new", at(1))
    assert ids(alice) == ["n2"]


def test_with_its_position_a_session_gets_what_it_missed_and_then_goes_on_live() -> None:
    world = World()
    alice = connected(world)
    send(world, "n1")
    alice.outlet.take()
    world.disconnect(alice)
    send(world, "n2")
    send(world, "n3")

    resume = world.connect(alice)
    send(world, "n4")

    assert (resume.status, resume.position, resume.replayed) == ("resumed", at(1), 2)
    assert ids(alice) == ["n2", "n3", "n4"]


def test_earliest_replays_all_that_the_window_holds_for_somebody() -> None:
    world = World(max_bytes=20)
    world.send(*[envelope(name=f"n{number}", sealed=b"x" * 10) for number in range(4)])
    alice = world.join(identity())
    alice.stored = "earliest"

    resume = world.connect(alice)

    assert (resume.status, ids(alice)) == ("resumed", ["n2", "n3"])


@pytest.mark.parametrize(
    ("presented", "reason"),
    [
        ("nonsense", "position_invalid"),
        ("other.3.0", "epoch_changed"),
        ("e.9.0", "position_ahead"),
        ("e.5.1048575", "position_ahead"),
        ("e.1.0", "window_passed"),
    ],
)
def test_a_position_that_cannot_be_served_whole_is_a_reset_with_its_reason(presented: str, reason: str) -> None:
    world = World(max_bytes=20)
    for number in range(1, 6):
        world.send(envelope(name=f"n{number}", sealed=b"x" * 10, accepted_at_ms=number))
    alice = world.join(identity())
    alice.stored = presented

    resume = world.connect(alice)

    assert (resume.status, resume.reason, resume.position) == ("reset", reason, at(5))
    assert (resume.available_since_ms, ids(alice)) == (3, [])


def test_a_position_inside_a_record_brings_the_rest_of_the_record() -> None:
    world = World()
    send(world, "n1", "n2", "n3")
    alice = world.join(identity())
    alice.stored = str(at(1, 0))

    world.connect(alice)

    assert ids(alice) == ["n2", "n3"]


def test_a_session_that_falls_behind_goes_on_from_the_window_and_is_live_again() -> None:
    world = World()
    alice = connected(world, limit_bytes=TIGHT)
    for number in range(1, 6):
        send(world, f"n{number}")
    assert ids(alice) == []  # The welcome still waits.

    world.settle()
    send(world, "n6")

    assert ids(alice) == [f"n{number}" for number in range(1, 7)]
    assert world.hub.fallen_behind == 1


def test_a_session_that_fell_behind_gets_only_the_newest_of_a_collapse_key() -> None:
    world = World()
    alice = connected(world, limit_bytes=TIGHT)
    for name in ("n1", "n2", "n3"):
        world.send(envelope(name=name, collapse_key="k"))

    world.settle()

    assert ids(alice) == ["n3"]


def test_a_session_whose_next_entries_were_evicted_is_closed() -> None:
    world = World(max_bytes=20)
    alice = connected(world, limit_bytes=TIGHT)
    world.send(*[envelope(name=f"n{number}", sealed=b"x" * 10) for number in range(4)])

    world.take(alice, 2**30)

    assert (alice.outlet.closed, ids(alice)) == (CloseReason.FELL_BEHIND, [])
    assert len(world.hub) == len(world.hub.replay) == 0


# -- topics that join and leave --------------------------------------------------------------------------------------


def test_a_topic_that_joins_without_a_position_begins_now() -> None:
    world = World()
    alice = connected(world)
    world.send(envelope(topic("orders"), name="n1"))

    world.subscribe(alice, "orders")
    world.send(envelope(topic("orders"), name="n2"))

    assert ids(alice) == ["n2"]


def test_a_topic_that_joins_with_a_position_is_replayed_from_there_alone() -> None:
    world = World()
    alice = connected(world)
    world.send(envelope(topic("orders"), name="n1"), envelope(topic("orders"), name="n2"), envelope(name="n3"))

    resume = world.subscribe(alice, "orders", str(at(1, 0)))

    assert (resume.status, resume.replayed) == ("resumed", 1)
    assert ids(alice) == ["n3", "n2"]


def test_the_replay_of_a_topic_heeds_whom_its_notifications_exclude() -> None:
    world = World()
    alice = world.join(identity(roles=["intern"]))
    world.connect(alice)
    world.send(envelope(topic("orders"), exclude=[user("alice")]), envelope(topic("orders"), exclude=[role("intern")]))

    resume = world.subscribe(alice, "orders", "earliest")

    assert (resume.replayed, ids(alice)) == (0, [])


@pytest.mark.parametrize("leaves", ["unsubscribe", "refresh"])
def test_a_topic_that_leaves_during_its_replay_is_replayed_no_further(leaves: str) -> None:
    world = World()
    alice = connected(world)
    world.send(*[envelope(topic("orders"), name=f"n{number}", sealed=LARGE) for number in range(5)])
    world.subscribe(alice, "orders", "earliest")
    had = ids(alice)

    if leaves == "unsubscribe":
        world.unsubscribe(alice, "orders")
    else:
        world.refresh(alice, alice.identity, frozenset())
    world.settle()

    assert had == ["n0"]
    assert ids(alice) == had


def test_positions_told_during_the_replay_of_a_topic_do_not_skip_its_rest() -> None:
    world = World()
    alice = connected(world)
    world.send(*[envelope(topic("orders"), name=f"n{number}", sealed=LARGE) for number in range(3)])
    world.subscribe(alice, "orders", "earliest")
    alice.outlet.take(3)
    world.disconnect(alice)

    world.connect(alice)
    world.settle()

    assert ids(alice) == ["n0", "n1", "n2"]


def test_a_role_that_was_lost_is_not_replayed() -> None:
    """Checklist 3.1.11."""
    world = World()
    alice = world.join(identity(roles=["admin"]), limit_bytes=TIGHT)
    world.connect(alice)
    world.send(envelope(role("admin"), name="n1"), envelope(name="n2"))

    world.refresh(alice, identity(), frozenset())
    world.settle()

    assert ids(alice) == ["n2"]


# -- whose turn it is ------------------------------------------------------------------------------------------------


def crowd(world: World, number: int) -> list[Client]:
    """Sessions that resume with a replay of three chunks each."""
    world.send(*[envelope(name=f"n{number}", sealed=LARGE) for number in range(3)])
    clients = [world.join(identity(f"u{number}")) for number in range(number)]
    for client in clients:
        client.stored = str(at(0))
        world.connect(client)
    return clients


def test_no_more_cursors_run_than_are_allowed() -> None:
    world = World(max_running=2)

    clients = crowd(world, 6)

    assert [len(ids(client)) for client in clients] == [1, 1, 0, 0, 0, 0]
    assert len(world.hub.replay) == 6


def test_the_next_in_line_begins_when_one_is_done() -> None:
    world = World(max_running=2)
    clients = crowd(world, 6)

    world.take(clients[0], 2**30)

    assert [len(ids(client)) for client in clients] == [3, 1, 1, 0, 0, 0]


def test_everybody_gets_a_turn() -> None:
    world = World(max_running=2)
    clients = crowd(world, 20)

    world.settle()

    assert all(ids(client) == ["n0", "n1", "n2"] for client in clients)
    assert len(world.hub.replay) == 0


def test_those_who_wait_go_on_when_the_one_whose_turn_it_was_goes_away() -> None:
    """Nobody else calls on them: their outlets have nothing to take, so nothing drains."""
    world = World(max_running=1)
    clients = crowd(world, 4)
    for client in clients[1:]:
        client.outlet.take()

    for client in clients:
        world.disconnect(client)
        waiting = clients[clients.index(client) + 1 :]

        assert [len(ids(other)) for other in waiting] == [1, *[0] * len(waiting)][: len(waiting)]


def test_thousands_that_are_lost_in_a_row_are_all_closed() -> None:
    world = World(max_bytes=100 * 1024, max_running=1)
    world.send(envelope(sealed=b"x"), envelope(sealed=LARGE), envelope(sealed=LARGE))
    clients = [world.join(identity("alice")) for _ in range(3_000)]
    for client in clients:
        client.stored = str(at(0))
        world.connect(client)
        world.clients = []  # The model looks at each client after each step.
    world.send(envelope(sealed=LARGE), envelope(sealed=LARGE))

    clients[0].outlet.take()

    assert {client.outlet.closed for client in clients} == {CloseReason.FELL_BEHIND}
    assert len(world.hub) == len(world.hub.replay) == 0


def test_a_session_whose_turn_it_is_and_that_takes_nothing_is_stalled_and_one_that_waits_is_not() -> None:
    world = World(max_running=1)
    first, second = crowd(world, 2)

    assert world.hub.replay.stalled(-1) == [first.session]
    world.disconnect(first)
    assert world.hub.replay.stalled(-1) == [second.session]
    assert world.hub.replay.stalled(3600) == []


def test_addresses_are_compared_whole() -> None:
    assert Address("user", "admin") != Address("role", "admin")


# -- cuts and news ---------------------------------------------------------------------------------------------------


def test_a_cut_sends_everybody_away_before_anything_newer_is_delivered() -> None:
    """Live, behind, or waiting for a turn: whoever stayed would store positions behind a gap that nobody told it of."""
    world = World(max_running=1)
    send(world, "n1")
    live, behind, waits = connected(world, "alice"), connected(world, "bob"), connected(world, "carol")
    for client in (behind, waits):
        world.disconnect(client)
        client.stored = str(at(0))
        world.connect(client)
    delivered = [ids(client) for client in (live, behind, waits)]

    world.hub.cut(at(9))
    world.hub.deliver(Batch(at(9), [(at(10), envelope(name="n10"))]))

    clients = (live, behind, waits)
    assert [client.outlet.closed for client in clients] == [CloseReason.FELL_BEHIND] * 3
    assert [client.outlet.closes for client in clients] == [1] * 3
    assert [ids(client) for client in clients] == delivered
    assert (len(world.hub), len(world.hub.replay), world.window.tail) == (0, 0, at(9))


@pytest.mark.parametrize(
    ("cut_at", "presented", "reason"),
    [
        (at(9), at(1), "window_passed"),
        (at(0, epoch="other"), at(1), "epoch_changed"),
        (at(1, epoch="other"), at(0), "epoch_changed"),
    ],
)
def test_who_comes_back_after_a_cut_hears_reset(cut_at: Position, presented: Position, reason: str) -> None:
    world = World()
    send(world, "n1")
    client = connected(world)
    world.hub.cut(cut_at)

    client.session, client.stored = None, str(presented)
    resume = world.connect(client)

    assert (resume.status, resume.reason, resume.position) == ("reset", reason, cut_at)
    assert resume.available_since_ms == world.now_ms


def test_after_a_cut_sessions_are_served_as_before() -> None:
    """Those that were sent away hold no turn any more, and who stands behind the cut can resume."""
    world = World(max_running=1)
    crowd(world, 5)
    cut = Position.before_record("e", 2)
    world.hub.cut(cut)
    live = connected(world, "zoe")
    send(world, "n100")
    late = world.join(identity("yves"))
    late.stored = str(cut)

    resume = world.connect(late)

    assert (resume.status, resume.replayed) == ("resumed", 1)
    assert ids(live) == ids(late) == ["n100"]
    assert len(world.hub) == 2


def test_news_is_told_to_everybody_and_changes_nothing_else() -> None:
    world = World()
    send(world, "n1")
    live, full = connected(world, "alice"), connected(world, "bob", limit_bytes=TIGHT)
    behind = world.join(identity("carol"), limit_bytes=2**30)
    behind.stored = str(at(0))
    world.connect(behind)

    world.hub.tell(PlainFrame("degraded"))

    assert [client.outlet.written[-1].kind for client in (live, full, behind)] == ["degraded", "welcome", "degraded"]
    assert [client.outlet.closed for client in (live, full, behind)] == [None] * 3
    assert full.session is not None
    assert full.session.cursor is None
    assert live.session is not None
    assert live.session.delivered == 0
