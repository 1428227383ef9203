"""Proof of life: a canary goes the whole way and counts nowhere; those that do not come back are noticed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from notifier.core.canary import REBUILD_AFTER, UNREADY_AFTER, Canary
from notifier.core.errors import Unavailable
from notifier.core.hub import Hub
from notifier.core.idempotency import SeenKeys
from notifier.core.pipeline import LIVE_ONLY_MS, Pipeline
from notifier.core.window import Window
from notifier.journal.memory import MemoryJournal
from tests.core.builders import at
from tests.core.fakes import HandClock, HandLoop, PlainFrames

DEADLINE_SECONDS = 20.0


class Replica:
    """Journal, pipeline and hub with a canary; the loop turns, and the journal is read, when a test says so."""

    def __init__(self, journal: MemoryJournal | None = None) -> None:
        self.clock, self.monotonic, self.loop = HandClock(), HandClock(), HandLoop()
        self.journal = journal or MemoryJournal(epoch="e")
        self.window = Window(at(0), opened_at_ms=0)
        self.hub = Hub(
            self.window, PlainFrames(), clock=self.clock, monotonic=self.monotonic, later=self.loop.call_later
        )
        self.pipeline = Pipeline(
            self.journal, self.window, self.hub, SeenKeys(span_seconds=600), clock=self.clock, monotonic=self.monotonic
        )
        self.is_away = False
        self.rebuilt: list[int] = []  # After how many that were missed.
        self.canary = Canary(
            self.journal,
            self.hub,
            every_seconds=5.0,
            is_excused=lambda: self.is_away,
            rebuild=lambda: self.rebuilt.append(self.canary.missed),
            clock=self.clock,
            monotonic=self.monotonic,
        )

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Follow the journal; what is there already is read."""
        task = asyncio.create_task(self.pipeline.follow_journal())
        try:
            await self.pipeline.catch_up()
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def turns(self, number: int) -> None:
        """So many canaries leave, and are judged when the next is due."""
        for _ in range(number):
            await self.canary.send()
            self.monotonic.now += 5.0
            self.canary.look()


@pytest.fixture
def replica() -> Replica:
    return Replica()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - the follower's turns of the loop have no event
            await asyncio.sleep(0)


async def test_a_canary_comes_back_and_its_time_is_known(replica: Replica) -> None:
    async with replica.reading():
        await replica.turns(3)

    assert sum(replica.canary.round_trips.counts) == 3
    assert (replica.canary.missed, replica.canary.is_missing, replica.rebuilt) == (0, False, [])


async def test_a_canary_is_in_no_window_count_or_list(replica: Replica) -> None:
    other = Replica(replica.journal)  # It reads the same journal, has no use for the canary, and does not count it.
    async with replica.reading(), other.reading():
        await replica.turns(2)
        await other.pipeline.catch_up()

    for each in (replica, other):
        hub, pipeline = each.hub, each.pipeline
        assert (len(each.window), len(hub), list(hub), hub.staying) == (0, 0, [], 0)
        assert (hub.delivered, hub.unreached, pipeline.accepted, pipeline.dropped) == (0, 0, 0, 0)
        assert (sum(hub.delivery_durations.counts), sum(pipeline.lag.counts)) == (0, 0)
        assert (hub.resumes.total(), hub.closed.total(), len(hub.departed)) == (0, 0, 0)
    assert sum(replica.pipeline.append_durations.counts) == 1  # The marker's.


async def test_a_journal_that_brings_nothing_is_read_anew_then_the_replica_is_not_ready(replica: Replica) -> None:
    """Nobody reads: as with a consumer that was forgotten."""
    await replica.turns(UNREADY_AFTER - 1)
    assert not replica.canary.is_missing

    await replica.turns(1)

    assert replica.canary.is_missing
    assert replica.rebuilt == [REBUILD_AFTER]
    await replica.turns(REBUILD_AFTER)
    assert replica.rebuilt == [REBUILD_AFTER, 2 * REBUILD_AFTER]


async def test_a_hub_that_is_stuck_is_noticed(replica: Replica) -> None:
    """Its timer is lost: what is to be joined with what comes meanwhile is never written."""
    async with replica.reading():
        await replica.turns(1)
        replica.monotonic.now -= 5.0  # Right behind the last write.
        await replica.turns(UNREADY_AFTER)
        assert replica.canary.is_missing

        replica.loop.run()

    assert not replica.canary.is_missing
    assert sum(replica.canary.round_trips.counts) == 1 + UNREADY_AFTER


async def test_a_canary_that_is_late_shows_that_the_replica_lives(replica: Replica) -> None:
    """A replica that reads ten seconds behind delivers all the same; others have an alert on that."""
    async with replica.reading():
        pass
    await replica.turns(UNREADY_AFTER)
    replica.clock.now += 2 * LIVE_ONLY_MS / 1000

    async with replica.reading():
        await until(lambda: not replica.canary.is_missing)

    assert replica.canary.missed == UNREADY_AFTER
    assert replica.pipeline.dropped == 0


async def test_nothing_is_missing_while_the_journal_is_away(replica: Replica) -> None:
    """Sessions stay and the replica is ready then, unless a setting says otherwise."""
    replica.is_away = True

    await replica.turns(2 * UNREADY_AFTER)

    assert (replica.canary.missed, replica.canary.is_missing, replica.rebuilt) == (0, False, [])


async def test_a_journal_that_is_full_is_no_excuse() -> None:
    """Its reader has stopped, and canaries are refused like everything else."""
    replica = Replica(MemoryJournal(epoch="e", capacity_bytes=0))
    reading = asyncio.ensure_future(anext(replica.journal.follow(at(0))))
    await asyncio.sleep(0)  # One turn: the reader is there.
    await replica.turns(1)
    with pytest.raises(Unavailable, match="full"):
        await replica.journal.check()

    await replica.turns(UNREADY_AFTER - 1)

    assert replica.canary.is_missing
    await reading
