"""What the core counts for operators, where it happens."""

import asyncio

from notifier.core.envelope import Trace
from notifier.core.errors import Unavailable
from notifier.core.pipeline import LIVE_ONLY_MS, Request
from notifier.core.ports import CloseReason
from notifier.core.window import Window
from tests.core.builders import at, envelope, identity, notification, user
from tests.core.test_pipeline import Replica, SilentJournal
from tests.core.world import World


def test_a_notification_is_timed_once_however_many_sessions_it_reaches() -> None:
    world = World()
    for name in ("alice", "bob", "carol"):
        world.connect(world.join(identity(name)))

    world.send(envelope(accepted_at_ms=world.now_ms - 30), envelope(user("bob"), accepted_at_ms=world.now_ms))
    world.turn()

    durations = world.hub.delivery_durations
    assert sum(durations.counts) == 2
    assert durations.total_seconds == 0.03


def test_what_no_session_is_to_get_is_counted_and_not_timed() -> None:
    world = World()
    world.connect(world.join(identity("alice")))

    world.send(envelope(user("bob")), envelope(user("alice")))

    assert world.hub.unreached == 1
    assert sum(world.hub.delivery_durations.counts) == 1


def test_what_only_sessions_behind_will_get_is_not_timed_as_live() -> None:
    world = World()
    alice = world.join(identity("alice"), limit_bytes=1)
    world.connect(alice)
    world.send(envelope(user("alice")))
    world.turn()
    assert alice.session is not None
    assert alice.session.cursor is not None
    before = sum(world.hub.delivery_durations.counts)

    world.send(envelope(user("alice")))
    world.turn()

    assert sum(world.hub.delivery_durations.counts) == before


def test_resumes_are_counted_by_outcome() -> None:
    world = World()
    alice = world.join(identity("alice"))
    world.connect(alice)
    world.send(envelope())
    world.take(alice, 2)
    world.disconnect(alice)
    world.connect(alice)
    world.disconnect(alice)
    alice.stored = "other.1.0"
    world.connect(alice)

    assert world.hub.resumes == {("new", ""): 1, ("resumed", ""): 1, ("reset", "epoch_changed"): 1}


def test_a_session_that_we_end_is_counted_once() -> None:
    world = World()
    alice = world.join(identity("alice"))
    world.connect(alice)
    assert alice.session is not None

    world.hub.close(alice.session, CloseReason.DRAIN)
    world.hub.close(alice.session, CloseReason.SHUTDOWN)

    assert +world.hub.closed == {CloseReason.DRAIN: 1}


def test_evictions_say_why() -> None:
    window = Window(at(0), opened_at_ms=0, max_age_seconds=10, max_bytes=20)
    for offset in range(1, 4):
        window.append(at(offset), envelope(sealed=b"x" * 10, accepted_at_ms=offset * 1_000))
    oldest = [window.oldest_at_ms]

    window.expire(12_500)

    oldest.append(window.oldest_at_ms)
    assert (window.evicted_by_size, window.evicted_by_age, oldest) == (1, 1, [2_000, 3_000])


async def test_an_append_is_timed_and_one_that_is_not_confirmed_is_counted() -> None:
    replica, mute = Replica(), Replica(SilentJournal(), timeout_seconds=0.01)
    async with replica.following():
        await replica.pipeline.catch_up()
        await replica.pipeline.send_notification(Request(notification()))
        await asyncio.sleep(0)
        await replica.has_caught_up()
    refused = await asyncio.gather(mute.pipeline.send_notification(Request(notification())), return_exceptions=True)

    assert sum(replica.pipeline.append_durations.counts) == 3  # With the marker, and the last one.
    assert replica.pipeline.appends_refused == 0
    assert sum(replica.pipeline.lag.counts) == 2
    assert isinstance(refused[0], Unavailable)
    assert (sum(mute.pipeline.append_durations.counts), mute.pipeline.appends_refused) == (0, 1)


async def test_what_was_there_before_this_replica_came_counts_for_nothing() -> None:
    """Else a restart would look like an hour of it at once, and be traced like that too."""
    watched = list[str]()
    replica = Replica(watch=lambda reach: lambda: watched.append(reach.envelope.id))
    trace = Trace("00-…")
    for wanted in (notification(), notification(ttl_seconds=0)):
        await replica.pipeline.send_notification(Request(wanted, trace=trace))
    replica.clock.now += LIVE_ONLY_MS / 1000
    async with replica.following():
        await replica.pipeline.catch_up()
        counts = [sum(replica.pipeline.lag.counts), replica.hub.unreached, replica.pipeline.dropped, len(watched)]
        await replica.pipeline.send_notification(Request(notification(), trace=trace))
        await replica.has_caught_up()

    assert len(replica.window) == 3
    assert counts == [0, 0, 0, 0]
    assert (sum(replica.pipeline.lag.counts), replica.hub.unreached, len(watched)) == (2, 2, 1)
