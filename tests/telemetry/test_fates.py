"""What became of a notification for a session: what is known, and `unknown` where it is not."""

from notifier.core.envelope import Position
from notifier.core.stays import Departed, Stay
from notifier.core.trail import LENGTH, Trail
from notifier.core.window import Entry
from notifier.telemetry.fates import Fate, fate_of
from tests.core.builders import ACME, at, envelope, identity, role, topic, user
from tests.core.world import Client, World

TIGHT = 1  # An outlet that takes nothing while something waits.


def alice(world: World, *topics: str, roles: tuple[str, ...] = (), limit_bytes: int = 2**30) -> Client:
    client = world.join(identity("alice", roles=roles), topics, limit_bytes=limit_bytes)
    world.connect(client)
    return client


def fate(world: World, client: Client, name: str) -> Fate:
    """Of the session that the client has, or had last."""
    entry = world.window.find(ACME, name)
    assert entry is not None
    stay = world.hub.stay_of(client.session) if client.session else next(iter(world.hub.departed))
    key = entry.envelope.collapse_key
    newest = world.window.newest_of(ACME, key, stay.addresses()) if key else None
    return fate_of(
        entry,
        stay,
        world.hub.trail,
        is_superseded=newest is not None and newest.envelope.id != name,
        now_ms=world.now_ms,
    )


def test_what_a_live_session_got_was_written_by_the_next_note() -> None:
    world = World()
    client = alice(world)
    world.send(envelope(user("alice"), name="n1"))
    world.clock.now += 1
    world.hub.note_written()
    noted_ms = world.now_ms
    world.clock.now += 9

    assert fate(world, client, "n1") == Fate("written", noted_ms)


def test_no_note_is_made_while_something_waits_to_be_written() -> None:
    world = World()
    alice(world)
    world.send(envelope(user("alice"), name="n1"))
    world.send(envelope(user("alice"), name="n2"), after_seconds=0.0)  # Right behind: it waits for others to join.
    world.hub.note_written()
    waits = world.hub.trail.written_by_ms(at(2))
    world.turn()
    world.hub.note_written()

    assert waits is None
    assert world.hub.trail.written_by_ms(at(2)) == world.now_ms


def test_a_session_that_was_opened_later_without_a_position_did_not_get_it() -> None:
    world = World()
    world.send(envelope(user("alice"), name="n1"))

    assert fate(world, alice(world), "n1") == Fate("before")


def test_a_closed_session_got_what_came_before_its_end_alone() -> None:
    world = World()
    client = alice(world)
    world.send(envelope(user("alice"), name="n1"))
    world.disconnect(client)
    closed_ms = world.now_ms
    world.clock.now += 5
    world.send(envelope(user("alice"), name="n2"))

    assert fate(world, client, "n1") == Fate("written", closed_ms)
    assert fate(world, client, "n2") == Fate("left")


def test_a_session_that_is_behind_waits_and_has_it_once_it_caught_up() -> None:
    world = World()
    client = alice(world, limit_bytes=TIGHT)
    world.send(envelope(user("alice"), name="n1"))
    waiting = fate(world, client, "n1")
    world.clock.now += 3
    world.take(client, 2**30)

    assert waiting == Fate("waiting")
    assert fate(world, client, "n1") == Fate("written", world.now_ms)


def test_what_was_superseded_while_a_session_was_behind_is_not_called_written() -> None:
    world = World()
    client = alice(world, limit_bytes=TIGHT)
    for name in ("n1", "n2"):
        world.send(envelope(user("alice"), name=name, collapse_key="k"))
    world.take(client, 2**30)

    assert fate(world, client, "n1") == Fate("passed")
    assert fate(world, client, "n2").outcome == "written"


def test_the_excluded_and_those_it_is_not_for_are_told_apart() -> None:
    world = World()
    client = alice(world, roles=("intern",))
    world.send(
        envelope(exclude=[user("alice")], name="by_name"),
        envelope(exclude=[role("intern")], name="by_role"),
        envelope(topic("orders"), name="another_topic"),
    )

    assert [fate(world, client, name).outcome for name in ("by_name", "by_role", "another_topic")] == [
        "excluded",
        "excluded",
        "not_addressed",
    ]


def test_what_depends_on_topics_that_have_changed_since_is_unknown() -> None:
    world = World()
    client = alice(world)
    world.send(envelope(topic("orders"), name="n1"), envelope(user("alice"), name="n2"))
    world.subscribe(client, "orders")
    world.send(envelope(topic("orders"), name="n3"))

    assert fate(world, client, "n1") == Fate("unknown")
    assert fate(world, client, "n2").outcome == fate(world, client, "n3").outcome == "written"


def test_a_session_of_an_earlier_epoch_had_left() -> None:
    stay = Stay("s", identity(), frozenset(), at(0), at(9), -1, None, False, 0, 0, closed_at_ms=1)
    entry = Entry(at(1, epoch="next"), envelope(user("alice")))

    assert fate_of(entry, stay, Trail(), is_superseded=False, now_ms=0) == Fate("left")


def test_the_sessions_that_are_remembered_are_bounded() -> None:
    departed = Departed(2, since_ms=0)
    for number in range(3):
        stay = Stay(f"s{number}", identity(), frozenset(), at(0), at(0), -1, None, False, 0, 0, closed_at_ms=number + 5)
        departed.add(stay)
        departed.end(stay.session, 1000, "client")

    assert [stay.session for stay in departed] == ["s2", "s1"]
    assert {stay.code for stay in departed} == {1000}
    assert departed.since_ms == 5


def test_notes_are_bounded_and_the_oldest_still_bounds_what_was_before() -> None:
    trail = Trail()
    for offset in range(1, 3 * LENGTH):
        trail.note(at(offset), offset)

    assert trail.written_by_ms(at(3 * LENGTH - 1)) == 3 * LENGTH - 1
    assert trail.written_by_ms(Position("e", 1, 0)) is not None
    assert trail.written_by_ms(at(3 * LENGTH)) is None
    assert trail.written_by_ms(at(1, epoch="another")) is None
