"""What is joined, what passes what, and for how long is written at a stretch."""

from collections import deque

import pytest

from notifier.core.audience import EVERYONE
from notifier.core.delivery import BUSY_SECONDS, JOINED_LIMIT_BYTES
from notifier.core.envelope import Trace
from notifier.core.hub import Watch
from notifier.core.worklist import STRETCH_SECONDS, Worklist
from tests.core.builders import envelope, identity, user
from tests.core.fakes import HandClock, HandLoop
from tests.core.world import Client, World

SOON = BUSY_SECONDS / 2


def connected(world: World, *names: str, limit_bytes: int = 2**30) -> list[Client]:
    clients = [world.join(identity(name), limit_bytes=limit_bytes) for name in names]
    for client in clients:
        world.connect(client)
        client.outlet.take()
        client.outlet.writes = 0
    return clients


def ids(client: Client) -> list[str]:
    return [frame.envelope.id for frame in client.outlet.written if frame.envelope]


def test_a_lone_notification_is_written_at_once() -> None:
    world = World()
    (alice,) = connected(world, "alice")

    world.send(envelope(name="n1"))

    assert ids(alice) == ["n1"]


def test_what_comes_right_behind_waits_for_more_and_goes_out_in_one_write() -> None:
    world = World()
    (alice,) = connected(world, "alice")
    world.send(envelope(name="n1"))

    for name in ("n2", "n3", "n4"):
        world.send(envelope(name=name), after_seconds=SOON / 10)
    put_off = ids(alice)
    world.turn()

    assert put_off == ["n1"]
    assert ids(alice) == ["n1", "n2", "n3", "n4"]
    assert alice.outlet.writes == 2


def test_sessions_that_are_owed_the_same_are_written_the_same_object() -> None:
    world = World()
    alice, bob, carol = connected(world, "alice", "bob", "carol")
    world.send(envelope(name="n1"))

    world.send(envelope(name="n2"), after_seconds=0)
    world.send(envelope(user("carol"), name="n3"), after_seconds=0)
    world.send(envelope(name="n4"), after_seconds=0)
    world.turn()

    assert alice.outlet.last is bob.outlet.last
    assert [ids(client)[1:] for client in (alice, carol)] == [["n2", "n4"], ["n2", "n3", "n4"]]


def test_no_more_is_joined_than_a_limit() -> None:
    world = World()
    (alice,) = connected(world, "alice")
    half = b"x" * (JOINED_LIMIT_BYTES // 2)
    world.send(envelope(name="n0"))

    for number in range(1, 6):
        world.send(envelope(name=f"n{number}", sealed=half), after_seconds=0)
    world.turn()

    assert ids(alice) == [f"n{number}" for number in range(6)]
    assert alice.outlet.writes == 4


def test_who_cannot_take_what_is_joined_gets_all_of_it_later() -> None:
    world = World()
    (alice,) = connected(world, "alice", limit_bytes=1)
    world.send(envelope(name="n1"))
    world.send(envelope(name="n2"), after_seconds=0)
    world.send(envelope(name="n3"), after_seconds=0)

    world.settle()

    assert ids(alice) == ["n1", "n2", "n3"]
    assert world.hub.fallen_behind == 1


class Crowd(World):
    """So many sessions that a broadcast takes several stretches: each write moves the clock."""

    def __init__(self, *, watch: Watch | None = None) -> None:
        super().__init__(watch=watch)
        self.people = connected(self, *[f"u{number}" for number in range(200)])
        for client in self.people:
            client.outlet.on_write = self._take_time

    def _take_time(self) -> None:
        self.monotonic.now += STRETCH_SECONDS / 50

    def last(self) -> Client:
        """One whose turn has not come yet; in which order they are written to is nobody's business."""
        return next(client for client in self.people if not ids(client))

    def reached(self) -> int:
        return sum(len(client.outlet.written) > 1 for client in self.people)


def test_a_large_broadcast_is_written_in_stretches() -> None:
    crowd = Crowd()

    crowd.send(envelope(EVERYONE, name="n1"))
    first = crowd.reached()
    crowd.loop.turn()
    second = crowd.reached()
    crowd.turn()

    assert 50 <= first < 100
    assert 50 <= second - first < 100
    assert crowd.reached() == 200


def test_a_traced_broadcast_is_written_when_the_last_session_has_it() -> None:
    written = list[int]()
    crowd = Crowd(watch=lambda _: lambda: written.append(crowd.reached()))

    crowd.send(envelope(EVERYONE, name="n1")._replace(trace=Trace("00-…")))
    at_once = list(written)
    crowd.turn()

    assert (at_once, written) == ([], [200])


def test_a_traced_notification_that_passes_does_not_wait_for_the_next_round() -> None:
    written = list[str]()
    crowd = Crowd(watch=lambda reach: lambda: written.append(reach.envelope.id))
    crowd.send(envelope(EVERYONE, name="n1"))
    crowd.turn()
    crowd.send(envelope(EVERYONE, name="n2")._replace(trace=Trace("00-…")), after_seconds=0)

    crowd.send(envelope(user(crowd.people[0].identity.user), name="n3")._replace(trace=Trace("00-…")), after_seconds=0)

    assert written == ["n3"]
    crowd.turn()
    assert written == ["n3", "n2"]


def test_a_personal_notification_passes_a_broadcast_and_brings_its_part_of_that() -> None:
    crowd = Crowd()
    crowd.send(envelope(EVERYONE, name="n1"))
    last = crowd.last()

    crowd.send(envelope(user(last.identity.user), name="n2"), after_seconds=0)
    crowd.loop.turn()

    assert ids(last) == ["n1", "n2"]
    assert crowd.reached() < 200


def test_anything_else_that_is_written_comes_behind_what_a_session_is_owed() -> None:
    crowd = Crowd()
    crowd.send(envelope(EVERYONE, name="n1"))
    last = crowd.last()

    crowd.beat(last)

    assert last.outlet.kinds()[-2:] == ["notification", "heartbeat"]


def test_a_worklist_does_all_in_order_also_what_is_added_meanwhile() -> None:
    loop, clock = HandLoop(), HandClock()
    done, took = list[int](), list[tuple[float, int]]()

    def do(items: deque[int]) -> None:
        done.append(items.popleft())
        clock.now += STRETCH_SECONDS
        if done == [0]:
            work.add(9)

    work = Worklist(do, ended=lambda *run: took.append(run), later=loop.call_later, monotonic=clock)
    work.add(2)
    work.add(1, first=True)
    work.add(0, first=True)
    work.start()
    first_stretch = list(done)
    work.start([3])
    loop.run()

    assert first_stretch == [0]
    assert done == [0, 1, 2, 9, 3]
    ((seconds, count),) = took
    assert count == 5
    assert seconds == pytest.approx(5 * STRETCH_SECONDS)


def test_what_comes_during_a_broadcast_goes_out_together_behind_it() -> None:
    """One round at a time: who has had its turn in this one has the next with all the others."""
    crowd = Crowd()
    crowd.send(envelope(EVERYONE, name="n1"))
    for name in ("n2", "n3"):
        crowd.send(envelope(EVERYONE, name=name), after_seconds=0)
    crowd.turn()

    assert all(ids(client) == ["n1", "n2", "n3"] for client in crowd.people)
    assert {client.outlet.writes for client in crowd.people} == {1, 2}


def test_a_personal_notification_does_not_wait_with_a_broadcast() -> None:
    crowd = Crowd()
    crowd.send(envelope(EVERYONE, name="n1"))
    crowd.turn()
    crowd.send(envelope(EVERYONE, name="n2"), after_seconds=0)
    alice = crowd.people[0]
    waited = ids(alice)

    crowd.send(envelope(user(alice.identity.user), name="n3"), after_seconds=0)

    assert (waited, ids(alice)) == (["n1"], ["n1", "n2", "n3"])
    assert sum(len(ids(client)) > 1 for client in crowd.people) == 1
