"""The journal on RabbitMQ: a stream that every replica reads and notifier alone writes."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage

from notifier.broker.connection import Broker, Connection
from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.core.ports import Item, Journal, Record
from notifier.journal.appends import weight_of
from notifier.journal.epochs import Message, Place
from notifier.journal.follower import Follower
from notifier.journal.publisher import Publisher
from notifier.journal.record import BrokenRecord, Tick, decode, encode

log: Final = logging.getLogger(__name__)


class RabbitJournal:
    """Appends to and follows one stream. `run` must run as long as it is used.

    Args:
        broker: where the stream is.
        exchange: what is published to; it is bound to the stream.
        stream: the name of the stream.
        prepare: declares or checks what is needed, on a connection that was just opened. Raises BrokerError.
        read_back_seconds: how far a new follower goes back.
        publish_timeout_seconds: a record that takes longer to be confirmed is refused.
        tick_seconds, silence_seconds: see `StreamReader`; every replica ticks.
    """

    start: Final = Position("", 0, 0)

    def __init__(
        self,
        broker: Broker,
        *,
        exchange: str,
        stream: str,
        prepare: Callable[[Connection], Awaitable[None]],
        read_back_seconds: float = 3_660.0,
        publish_timeout_seconds: float = 3.0,
        tick_seconds: float = 5.0,
        silence_seconds: float = 15.0,
    ) -> None:
        self._publish_timeout_seconds = publish_timeout_seconds
        self._tick_seconds = tick_seconds
        self._silence_seconds = silence_seconds
        self._place = Place(self.start)  # Of the newest follower: what it has read is what records tell.
        self._tick_now = asyncio.Event()
        self._publisher: Publisher[Item | Tick] = Publisher(
            broker,
            role="publish",
            exchange=exchange,
            prepare=prepare,
            size_of=weight_of,
            message_of=self._record,
            timeout_seconds=publish_timeout_seconds,
            opened=self._tick_now.set,
        )
        self._follower = Follower(
            broker,
            role="follow",
            stream=stream,
            prepare=prepare,
            read_back_seconds=read_back_seconds,
            silence_seconds=silence_seconds,
            lost=self._tick_now.set,  # A record, so that it is known soon which stream it is, and in which epoch.
        )
        self.broken_records = 0
        self.skipped_items = 0
        self.epoch_changes = 0

    # -- in ------------------------------------------------------------------------------------------------------

    async def append(self, items: Sequence[Item]) -> None:
        """Return when the stream has the items. Raises Unavailable when it does not take them, or nobody knows."""
        await self._publisher.append(items)

    async def check(self) -> None:
        """Raise Unavailable when an append would fail now, or nothing can be read."""
        if not self.is_connected:
            raise self._publisher.unavailable()

    @property
    def trouble(self) -> str | None:
        """Why the broker cannot be used; None while it can."""
        return self._publisher.losses.reason or self._follower.losses.reason

    @property
    def connections_lost(self) -> int:
        """Times that a connection was lost, or could not be opened."""
        return self._publisher.losses.count + self._follower.losses.count

    @property
    def is_writable(self) -> bool:
        """Whether records can be published, as far as is known."""
        return self._publisher.is_writable

    @property
    def is_blocked(self) -> bool:
        """Whether an alarm of the broker keeps records out."""
        return self._publisher.is_blocked

    @property
    def is_following(self) -> bool:
        """Whether records can be read."""
        return self._follower.is_following

    @property
    def is_connected(self) -> bool:
        """Whether records can be published and read, as far as is known."""
        return self.is_writable and self.is_following

    @property
    def skipped_messages(self) -> int:
        """Messages passed over since connections died of them."""
        return self._follower.skipped_messages

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been read. Every replica ticks, so it is seconds while all is well."""
        return self._follower.silent_seconds

    def is_deaf(self) -> bool:
        """Tell whether nothing is heard though the broker can be reached: it must be asked again, and is."""
        heard_or_lost_at = max(self._follower.read_at, self._publisher.changed_at)
        return self.is_writable and time.monotonic() - heard_or_lost_at > self._silence_seconds * 1.5

    def read_anew(self) -> None:
        """Ask the broker again, over another connection, for what comes behind the last message that was read."""
        self._follower.read_anew()

    async def run(self) -> None:
        """Publish what is appended, and tick. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._publisher.run())
            tasks.create_task(self._keep_ticking())

    def _record(self, items: Sequence[Item | Tick]) -> AmqpMessage:
        epochs = self._place.epochs
        return AmqpMessage(
            encode(items, epochs.stamp()),
            message_id=uuid.uuid4().hex,
            correlation_id=epochs.read_id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )

    async def _keep_ticking(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._tick_seconds):
                    await self._tick_now.wait()
            except TimeoutError:
                pass
            self._tick_now.clear()
            try:
                async with asyncio.timeout(self._publish_timeout_seconds):
                    await self._publisher.append_anyway([Tick()])
            except (TimeoutError, Unavailable):
                pass  # A broker that cannot be reached hears no tick; what follows from it is decided elsewhere.

    # -- out -----------------------------------------------------------------------------------------------------

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        """Yield the records after the position; the empty epoch stands for all of the read-back."""
        place = self._place = Place(after)
        async with aclosing(self._follower.messages(place)) as messages:
            async for message in messages:
                for record in self._records(message, place):
                    yield record

    def _records(self, message: Message, place: Place) -> Sequence[Record]:
        try:
            decoded = decode(message.body)
        except BrokenRecord as error:
            self.broken_records += 1
            log.error("record skipped", extra={"offset": message.offset, "reason": str(error)})
            return ()
        self.skipped_items += decoded.skipped
        before = place.epochs.in_force
        records = place.records(message, decoded)
        if place.epochs.in_force != before:
            self.epoch_changes += 1
            log.info("epoch in force", extra={"epoch": place.epochs.in_force, "offset": message.offset})
        return records


_: type[Journal] = RabbitJournal
