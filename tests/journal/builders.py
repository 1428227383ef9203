"""A journal on RabbitMQ that runs and is followed, and what came of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

from notifier.broker.connection import Broker
from notifier.broker.topology import Names, journal_topology, prepare
from notifier.core.audience import Address, Audience
from notifier.core.envelope import Envelope, Position
from notifier.core.errors import Unavailable
from notifier.core.identity import Tenant
from notifier.core.ports import Marker, Record
from notifier.journal.rabbitmq import RabbitJournal

DEADLINE_SECONDS = 20.0
SELDOM_SECONDS = 3_600.0  # No test sees a tick, where none is wanted.
BEGINNING = Position("", 0, 0)


def envelope(name: str, *, sealed: bytes = b"{}", addresses: int = 1) -> Envelope:
    include = tuple(Address("user", f"u{number}") for number in range(addresses))
    return Envelope(name, Tenant("acme"), Audience(include), sealed, 0, 2**53, collapse_key=None)


@asynccontextmanager
async def running_journal(url: str, prefix: str, **changes: Any) -> AsyncIterator[RabbitJournal]:
    """A journal whose writer runs; it ticks only where the changes say so."""
    names = Names(prefix)
    topology = journal_topology(names, max_age_seconds=3_600, max_bytes=64 * 1024**2)
    options = {"tick_seconds": SELDOM_SECONDS, "silence_seconds": SELDOM_SECONDS} | changes
    journal = RabbitJournal(
        Broker(url, name="notifier/test"),
        exchange=names.journal,
        stream=names.stream,
        prepare=partial(prepare, topology=topology, declares=True),
        **options,
    )
    running = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        if running.done():
            await running  # It never ends by itself: whatever it raises is the reason of the failure.
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class Follower:
    """Everything that one follower of a journal got."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    @property
    def names(self) -> list[str]:
        """The ids of the notifications, in order."""
        return [item.id for record in self.records for item in record.items if isinstance(item, Envelope)]

    @property
    def markers(self) -> list[str]:
        return [item.nonce for record in self.records for item in record.items if isinstance(item, Marker)]

    @property
    def gaps(self) -> int:
        return sum(record.follows_gap for record in self.records)

    @property
    def epochs(self) -> list[str]:
        """The epochs, each once, in order."""
        return list(dict.fromkeys(record.epoch for record in self.records))

    async def follow(self, journal: RabbitJournal, after: Position) -> None:
        async with aclosing(journal.follow(after)) as records:
            async for record in records:
                self.records.append(record)

    async def has(self, name: str) -> None:
        """Wait for a notification."""
        await until(lambda: name in self.names)


@asynccontextmanager
async def following(journal: RabbitJournal, after: Position = BEGINNING) -> AsyncIterator[Follower]:
    """A follower that has read to the end."""
    follower = Follower()
    task = asyncio.create_task(follower.follow(journal, after))
    try:
        with suppress(TimeoutError):  # The tick of a writer that has just begun comes before whatever a test appends.
            await until(lambda: bool(follower.records), DEADLINE_SECONDS / 10)
        await caught_up(journal, follower)
        yield follower
    finally:
        if task.done():
            await task  # As above.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def caught_up(journal: RabbitJournal, follower: Follower) -> None:
    """Wait until a marker has come back.

    Another one is sent after a while: the first stream of a node is not ready at once, and a consumer that attaches to
    an empty stream in the very moment of its first message does not always get that one (RabbitMQ 3.10; 1 in 300 on a
    busy machine).
    """
    for attempt in range(10):
        nonce = f"marker {len(follower.records)} {attempt}"
        with suppress(TimeoutError, Unavailable):
            await journal.append([Marker(nonce)])
            await until(lambda: nonce in follower.markers, DEADLINE_SECONDS / 10)  # noqa: B023 - awaited right here
            return
    raise AssertionError("no marker comes back")


async def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for a condition on what other tasks or another process do."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - it is another process, or the network, that decides
            await asyncio.sleep(0.01)
