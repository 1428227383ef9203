"""The journals that keep the contract; one that needs a service joins here with a fixture that starts it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest

from notifier.core.envelope import Position
from notifier.core.ports import Journal
from notifier.journal.memory import MemoryJournal
from tests.journal.builders import following, running_journal


@dataclass(frozen=True, slots=True)
class OpenJournal:
    """A journal, and the position before the first thing that is appended to it."""

    journal: Journal
    start: Position


@asynccontextmanager
async def memory_journal(_: pytest.FixtureRequest) -> AsyncIterator[OpenJournal]:
    journal = MemoryJournal()
    yield OpenJournal(journal, journal.start)


@asynccontextmanager
async def rabbit_journal(request: pytest.FixtureRequest) -> AsyncIterator[OpenJournal]:
    """A stream of its own, whose epoch is settled: it does not begin at 0, as no follower finds one."""
    url, prefix = request.getfixturevalue("amqp_url"), request.getfixturevalue("prefix")
    async with running_journal(url, prefix) as journal:
        async with following(journal) as follower:
            last = follower.records[-1]
        yield OpenJournal(journal, Position(last.epoch, last.offset, len(last.items) - 1))


OpensJournal = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[OpenJournal]]


@pytest.fixture(params=[memory_journal, rabbit_journal], ids=["memory", "rabbitmq"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[OpenJournal]:
    """An open journal of each kind."""
    open_journal: OpensJournal = request.param
    async with open_journal(request) as opened:
        yield opened
