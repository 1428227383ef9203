"""The journal on RabbitMQ: a stream that every replica reads and notifier alone writes.

Two connections: one that publishes and one that follows, since an alarm stops the broker from reading a connection that
publishes, and acknowledgements with it. Neither recovers by itself: what to do next is decided here.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Final

from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from aio_pika.abc import AbstractChannel, AbstractExchange
from aiormq.exceptions import AMQPError

from notifier.broker.connection import CLOSE_SECONDS, Backoff, Broker, BrokerError, Connection
from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.core.ports import Item, Journal, Record
from notifier.journal.appends import Appends, Batch
from notifier.journal.epochs import AnotherStream, Message, Place
from notifier.journal.record import BrokenRecord, Tick, decode, encode
from notifier.journal.stream import StreamReader

log: Final = logging.getLogger(__name__)
PREFETCH: Final = 100  # Of records up to 1 MiB.
CAREFUL_PREFETCH: Final = 1  # One at a time shows which message it is that a connection dies of.
ALARM_POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 1.0  # An append waits for a lost connection that long; after that it is refused at once.


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
        self._broker = broker
        self._exchange = exchange
        self._stream = stream
        self._prepare = prepare
        self._read_back_seconds = read_back_seconds
        self._publish_timeout_seconds = publish_timeout_seconds
        self._tick_seconds = tick_seconds
        self._silence_seconds = silence_seconds
        self._appends = Appends()
        self._place = Place(self.start)  # Of the newest follower: what it has read is what records tell.
        self._tick_now = asyncio.Event()
        self._unwritable_since: float | None = time.monotonic()  # None while records can be published.
        self.is_blocked = False  # By an alarm of the broker.
        self.is_following = False
        self._read_at = time.monotonic()  # Monotonic seconds at which the last message came.
        self.broken_records = 0
        self.skipped_messages = 0
        self.skipped_items = 0
        self.epoch_changes = 0
        self.connections_lost = 0

    # -- in ------------------------------------------------------------------------------------------------------

    async def append(self, items: Sequence[Item]) -> None:
        """Return when the stream has the items. Raises Unavailable when it does not take them, or nobody knows."""
        since = self._unwritable_since
        if since is not None and time.monotonic() - since > PATIENCE_SECONDS:
            raise self._unavailable()
        await self._appends.append(items)

    async def check(self) -> None:
        """Raise Unavailable when an append would fail now, or nothing can be read."""
        if not (self.is_writable and self.is_following):
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        if self.is_blocked:
            return Unavailable("journal_blocked", "the broker takes no messages now: an alarm over memory or disk")
        return Unavailable("journal_unavailable", "the broker cannot be reached")

    @property
    def is_writable(self) -> bool:
        """Whether records can be published, as far as is known."""
        return self._unwritable_since is None

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been read. Every replica ticks, so it is seconds while all is well."""
        return time.monotonic() - self._read_at

    def is_deaf(self) -> bool:
        """Tell whether nothing is heard though the broker can be reached: it must be asked again, and is."""
        return self.is_writable and self.silent_seconds > self._silence_seconds * 1.5

    async def run(self) -> None:
        """Publish what is appended, and tick. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_publishing())
            tasks.create_task(self._keep_ticking())

    async def _keep_publishing(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._broker.connect("publish") as connection:
                    await self._prepare(connection)
                    await connection.run(self._publish(connection, backoff))
            except BrokerError as error:
                self._note_loss("publish", error)
            finally:
                self._note_writable(False)
                self.is_blocked = False
            await backoff.pause()

    async def _publish(self, connection: Connection, backoff: Backoff) -> None:
        channel = await connection.open_channel()
        while True:
            exchange = await channel.get_exchange(self._exchange, ensure=False)
            backoff.reset()
            self._note_writable(True)
            await self._publish_until_refused(connection, exchange)
            # The channel is closed before anything else is written: a broker that answers that has read the record
            # before it, so that at most one comes after its 503.
            self._note_writable(False)
            await _close(channel)
            channel = await connection.open_channel()

    async def _publish_until_refused(self, connection: Connection, exchange: AbstractExchange) -> None:
        while True:
            batch = await self._appends.take()
            if await connection.is_blocked():
                await self._sit_out_alarm(connection, batch)
            elif not await self._publish_record(exchange, batch):
                return

    async def _sit_out_alarm(self, connection: Connection, batch: Batch) -> None:
        """Write nothing to a broker that does not read: all of it would be appended when the alarm is over."""
        self._note_writable(False)
        self.is_blocked = True
        self._appends.refuse(batch, self._unavailable())
        while await connection.is_blocked():  # noqa: ASYNC110 - aiormq has an event, but not one to wait on and be told
            await asyncio.sleep(ALARM_POLL_SECONDS)
        self.is_blocked = False
        self._note_writable(True)

    async def _publish_record(self, exchange: AbstractExchange, batch: Batch) -> bool:
        epochs = self._place.epochs
        message = AmqpMessage(
            encode([item for _, item in batch], epochs.stamp()),
            message_id=uuid.uuid4().hex,
            correlation_id=epochs.read_id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        try:
            await exchange.publish(message, "", mandatory=True, timeout=self._publish_timeout_seconds)
        except (AMQPError, TimeoutError) as error:
            reason = BrokerError.because(error)
            log.warning("record refused", extra={"items": len(batch), "reason": str(reason)})
            self._appends.refuse(batch, Unavailable("journal_unavailable", "the broker did not confirm"))
            return False
        except BaseException:
            self._appends.refuse(batch, Unavailable("journal_unavailable", "the broker was lost before it confirmed"))
            raise
        self._appends.confirm(batch)
        return True

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
                    await self._appends.append([Tick()])
            except (TimeoutError, Unavailable):
                pass  # A broker that cannot be reached hears no tick; what follows from it is decided elsewhere.

    def _note_writable(self, is_writable: bool) -> None:
        if is_writable:
            self._unwritable_since = None
        elif self._unwritable_since is None:
            self._unwritable_since = time.monotonic()

    # -- out -----------------------------------------------------------------------------------------------------

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        """Yield the records after the position; the empty epoch stands for all of the read-back."""
        place = self._place = Place(after)
        backoff = Backoff()
        while True:
            try:
                async with self._broker.connect("follow") as connection:
                    await self._prepare(connection)
                    async with aclosing(self._read(connection, place)) as records:
                        async for record in records:
                            backoff.reset()
                            yield record
            except BrokerError as error:
                self._note_loss("follow", error)
                if place.note_loss(is_undecodable=error.is_undecodable):
                    self.skipped_messages += 1
                    log.error("message skipped", extra={"stream": self._stream, "reason": str(error)})
            except AnotherStream as error:
                log.error("stream is another one", extra={"stream": self._stream, "reason": str(error)})
                self._tick_now.set()  # A record in it, so that it is known soon which epoch it has.
            finally:
                self.is_following = False
            await backoff.pause()

    async def _read(self, connection: Connection, place: Place) -> AsyncGenerator[Record, None]:
        start = place.start()
        reader = await StreamReader.open(
            connection,
            self._stream,
            f"{self._read_back_seconds:.0f}s" if start is None else start,
            prefetch=CAREFUL_PREFETCH if place.is_careful else PREFETCH,
            silence_seconds=self._silence_seconds,
        )
        self.is_following = True
        async with aclosing(reader.messages()) as messages:
            async for message in messages:
                self._read_at = time.monotonic()
                if place.is_news(message):
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

    def _note_loss(self, role: str, error: BrokerError) -> None:
        self.connections_lost += 1
        log.warning("broker connection lost", extra={"role": role, "broker": str(self._broker), "reason": str(error)})


async def _close(channel: AbstractChannel) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await channel.close()
    except (AMQPError, TimeoutError) as error:
        if isinstance(error, TimeoutError):
            raise BrokerError("the broker does not answer") from None


_: type[Journal] = RabbitJournal
