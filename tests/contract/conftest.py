"""The journals that keep the contract; one that needs a service joins here with a fixture that starts it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest

from notifier.core.envelope import Position
from notifier.core.ports import Journal
from notifier.journal.memory import MemoryJournal


@dataclass(frozen=True, slots=True)
class OpenJournal:
    """A journal, and the position before the first thing that is appended to it."""

    journal: Journal
    start: Position


@asynccontextmanager
async def memory_journal() -> AsyncIterator[OpenJournal]:
    journal = MemoryJournal()
    yield OpenJournal(journal, journal.start)


@pytest.fixture(params=[memory_journal], ids=["memory"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[OpenJournal]:
    """An open journal of each kind."""
    open_journal: Callable[[], AbstractAsyncContextManager[OpenJournal]] = request.param
    async with open_journal() as opened:
        yield opened
