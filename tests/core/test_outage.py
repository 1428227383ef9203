"""Telling sessions of an outage of the journal: when, once, and without harm to any of them."""

from collections.abc import AsyncGenerator, Sequence

import pytest

from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.core.hub import Hub
from notifier.core.outage import Outage
from notifier.core.ports import Item, Journal, Record
from notifier.core.session import Session
from notifier.core.window import Window
from tests.core.builders import at, identity
from tests.core.fakes import BoundedOutlet, HandClock, PlainFrame, PlainFrames

PATIENCE_SECONDS = 2.0


class LosableJournal:
    """Can be reached or not."""

    def __init__(self) -> None:
        self.is_lost = False

    async def append(self, items: Sequence[Item]) -> None: ...

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        yield Record("", 0, ())

    async def check(self) -> None:
        if self.is_lost:
            raise Unavailable("journal_unavailable", "the broker cannot be reached")


_: type[Journal] = LosableJournal


class Watched:
    """An outage that looks at a journal, on a clock moved by hand."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.journal = LosableJournal()
        frames = PlainFrames()
        self.hub = Hub(Window(at(0), opened_at_ms=0), frames)
        self.outage = Outage(self.journal, self.hub, frames, patience_seconds=PATIENCE_SECONDS, monotonic=self.clock)

    def join(self, name: str = "alice", *, limit_bytes: int = 2**30) -> BoundedOutlet:
        outlet = BoundedOutlet(limit_bytes=limit_bytes)
        self.hub.register(Session(name, identity(name), (), outlet), None)
        return outlet

    async def after(self, seconds: float, *, is_lost: bool) -> bool:
        """Look when so many seconds have passed. Returns whether sessions are told of an outage then."""
        self.clock.now += seconds
        self.journal.is_lost = is_lost
        await self.outage.look()
        return self.outage.is_told


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_journal_that_can_be_reached_is_not_talked_about(watched: Watched) -> None:
    outlet = watched.join()
    for _ in range(3):
        await watched.after(100.0, is_lost=False)

    assert outlet.kinds() == []


async def test_a_loss_that_lasts_is_told_once_and_so_is_its_end(watched: Watched) -> None:
    outlet = watched.join()
    told = [await watched.after(1.0, is_lost=is_lost) for is_lost in [True] * 5 + [False] * 3]

    assert told == [False, False, True, True, True, False, False, False]
    assert outlet.kinds() == ["degraded", "restored"]


async def test_a_short_loss_is_nobodys_business(watched: Watched) -> None:
    outlet = watched.join()
    await watched.after(0.0, is_lost=True)
    await watched.after(PATIENCE_SECONDS - 0.1, is_lost=True)
    await watched.after(0.1, is_lost=False)

    assert outlet.kinds() == []


async def test_losses_that_do_not_join_do_not_add_up(watched: Watched) -> None:
    for _ in range(10):
        assert not await watched.after(PATIENCE_SECONDS * 0.75, is_lost=True)
        assert not await watched.after(0.1, is_lost=False)


async def test_the_next_outage_is_told_like_the_first(watched: Watched) -> None:
    outlet = watched.join()
    for _ in range(2):
        await watched.after(0.0, is_lost=True)
        await watched.after(PATIENCE_SECONDS, is_lost=True)
        await watched.after(1.0, is_lost=False)

    assert outlet.kinds() == ["degraded", "restored"] * 2


async def test_sessions_stay_open_and_one_that_is_full_is_spared(watched: Watched) -> None:
    healthy, full = watched.join("alice"), watched.join("bob", limit_bytes=1)
    full.write(PlainFrame("welcome"))
    await watched.after(0.0, is_lost=True)
    await watched.after(PATIENCE_SECONDS, is_lost=True)

    assert (healthy.kinds(), full.kinds()) == (["degraded"], ["welcome"])
    assert (healthy.closed, full.closed, len(watched.hub), len(watched.hub.replay)) == (None, None, 2, 0)
