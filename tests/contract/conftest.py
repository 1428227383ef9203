"""The journals that keep the contract, each open and empty."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

import pytest

from notifier.broker.connection import Broker
from notifier.broker.topology import Names, journal_topology, prepare
from notifier.core.envelope import Position
from notifier.core.ports import Journal, Marker
from notifier.journal.memory import MemoryJournal
from notifier.journal.rabbitmq import RabbitJournal

HOUR = 3_600
OPENING_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class OpenJournal:
    """A journal, and the position before the first thing that is appended to it."""

    journal: Journal
    start: Position


@pytest.fixture(params=["memory", "rabbitmq"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[OpenJournal]:
    """An open journal of each kind."""
    if request.param == "memory":
        journal = MemoryJournal()
        yield OpenJournal(journal, journal.start)
        return
    rabbit = rabbit_journal(request.getfixturevalue("amqp_url"), Names(request.getfixturevalue("prefix")))
    running = asyncio.create_task(rabbit.run())
    async with asyncio.timeout(OPENING_SECONDS), aclosing(rabbit.follow(rabbit.start)) as records:
        # Its own first tick says which epoch it is, and comes before the marker; then nothing comes that no test wrote.
        opening = await anext(records)
        await rabbit.append([Marker("opened")])
        while Marker("opened") not in opening.items:
            opening = await anext(records)
    yield OpenJournal(rabbit, Position(opening.epoch, opening.offset, 0))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def rabbit_journal(url: str, names: Names) -> RabbitJournal:
    """A journal on the broker, whose own ticks do not come between what a test appends."""
    topology = journal_topology(names, max_age_seconds=HOUR, max_bytes=2**30)
    return RabbitJournal(
        Broker(url),
        exchange=names.journal,
        stream=names.stream,
        prepare=partial(prepare, topology=topology, declares=True),
        tick_seconds=HOUR,
    )
