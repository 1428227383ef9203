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

from notifier.broker.connection import Backoff, Broker, BrokerError, Connection
from notifier.broker.losses import Losses
from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.core.ports import Item, Journal, Record
from notifier.journal.appends import Appends, Batch
from notifier.journal.epochs import AnotherStream, Message, NotThereYet, Place
from notifier.journal.record import BrokenRecord, Tick, decode, encode
from notifier.journal.stream import Silence, StreamReader

log: Final = logging.getLogger(__name__)
PREFETCH: Final = 100  # Of records up to 1 MiB.
CAREFUL_PREFETCH: Final = 1  # One at a time shows which message it is that a connection dies of.
VERIFY_SECONDS: Final = 3.0  # The last message is there, if it is anywhere, and comes at once.
ALARM_POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 1.0  # An append waits for a lost connection that long; after that it is refused at once.
SETUP_SECONDS: Final = 10.0  # The most that all before the first record may take on a connection that is open.


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
        self._publishing: Connection | None = None  # What is published over, while it is open.
        self._is_open = False  # Whether its channel takes records; `_changed_at` is when that was last another.
        self._changed_at = time.monotonic()
        self.is_blocked = False  # By an alarm of the broker.
        self.is_following = False
        self._read_at = time.monotonic()  # Monotonic seconds at which the last message came.
        self.broken_records = 0
        self.skipped_messages = 0
        self.skipped_items = 0
        self.epoch_changes = 0
        self._publish_losses = Losses("publish", broker)
        self._follow_losses = Losses("follow", broker)

    # -- in ------------------------------------------------------------------------------------------------------

    async def append(self, items: Sequence[Item]) -> None:
        """Return when the stream has the items. Raises Unavailable when it does not take them, or nobody knows."""
        is_outage = not self._is_open and time.monotonic() - self._changed_at > PATIENCE_SECONDS
        if is_outage or self.is_blocked:
            raise self._unavailable()
        await self._appends.append(items)

    async def check(self) -> None:
        """Raise Unavailable when an append would fail now, or nothing can be read."""
        if not (self.is_writable and self.is_following):
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        return (
            _blocked()
            if self.is_blocked
            else Unavailable("journal_unavailable", "the broker cannot be reached, or takes no records")
        )

    @property
    def trouble(self) -> str | None:
        """Why the broker cannot be used; None while it can."""
        return self._publish_losses.reason or self._follow_losses.reason

    @property
    def connections_lost(self) -> int:
        """Times that a connection was lost, or could not be opened."""
        return self._publish_losses.count + self._follow_losses.count

    @property
    def is_writable(self) -> bool:
        """Whether records can be published, as far as is known."""
        return self._is_open and not self.is_blocked

    @property
    def silent_seconds(self) -> float:
        """How long nothing has been read. Every replica ticks, so it is seconds while all is well."""
        return time.monotonic() - self._read_at

    def is_deaf(self) -> bool:
        """Tell whether nothing is heard though the broker can be reached: it must be asked again, and is."""
        heard_or_lost_at = max(self._read_at, self._changed_at)
        return self.is_writable and time.monotonic() - heard_or_lost_at > self._silence_seconds * 1.5

    async def run(self) -> None:
        """Publish what is appended, and tick. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_publishing())
            tasks.create_task(self._keep_looking_for_alarms())
            tasks.create_task(self._keep_ticking())

    async def _keep_publishing(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._broker.connect("publish") as self._publishing:
                    await self._publishing.run(self._publish(self._publishing, backoff))
            except BrokerError as error:
                self._publish_losses.note(error)
            finally:
                self._publishing = None
                self._note_open(False)
            await backoff.pause()

    async def _publish(self, connection: Connection, backoff: Backoff) -> None:
        while True:
            async with asyncio.timeout(SETUP_SECONDS):
                await self._prepare(connection)
                channel = await connection.open_channel()
            self._tick_now.set()  # A channel is open once something was confirmed on it: permissions show only then.
            await self._publish_until_refused(connection, channel, backoff)
            self._note_open(False)
            # The channel is closed before anything else is written: a broker that answers that has read the record
            # before it, so that at most one comes after its 503. One that is blocked reads nothing at all.
            await connection.unblocked()
            await connection.close_channel(channel)
            await backoff.pause()

    async def _publish_until_refused(self, connection: Connection, channel: AbstractChannel, backoff: Backoff) -> None:
        exchange = await channel.get_exchange(self._exchange, ensure=False)
        while True:
            batch = await self._appends.take()
            try:
                if await connection.is_blocked():
                    self._appends.refuse(batch, _blocked())
                    await connection.unblocked()
                elif await self._publish_record(exchange, batch):
                    backoff.reset()
                else:
                    return
            except BaseException:
                self._appends.refuse(
                    batch, Unavailable("journal_unavailable", "the broker was lost before it confirmed")
                )
                raise

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
        self._note_open(True)
        self._publish_losses.end()
        self._appends.confirm(batch)
        return True

    async def _keep_looking_for_alarms(self) -> None:
        """Refuse all while the broker does not read: what was written now would be appended when the alarm is over."""
        while True:
            self.is_blocked = self._publishing is not None and await self._publishing.is_blocked()
            if self.is_blocked:
                self._appends.refuse_all(_blocked())
            await asyncio.sleep(ALARM_POLL_SECONDS)

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

    def _note_open(self, is_open: bool) -> None:
        if is_open != self._is_open:
            self._is_open, self._changed_at = is_open, time.monotonic()

    # -- out -----------------------------------------------------------------------------------------------------

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        """Yield the records after the position; the empty epoch stands for all of the read-back."""
        place = self._place = Place(after)
        backoff = Backoff()
        while True:
            try:
                async with (
                    self._broker.connect("follow") as connection,
                    aclosing(self._read(connection, place)) as records,
                ):
                    async for record in records:
                        backoff.reset()
                        yield record
            except BrokerError as error:
                self._follow_losses.note(error)
                if isinstance(error, Silence):
                    place.note_silence()
                if place.note_loss(is_undecodable=error.is_undecodable):
                    self.skipped_messages += 1
                    log.error("message skipped", extra={"stream": self._stream, "reason": str(error)})
            except NotThereYet as error:
                log.warning("stream read once more", extra={"stream": self._stream, "reason": str(error)})
            except AnotherStream as error:
                log.error("stream is another one", extra={"stream": self._stream, "reason": str(error)})
            finally:
                self.is_following = False
            self._tick_now.set()  # A record, so that it is known soon which stream it is, and in which epoch.
            await backoff.pause()

    async def _read(self, connection: Connection, place: Place) -> AsyncGenerator[Record, None]:
        start = place.start()
        async with asyncio.timeout(SETUP_SECONDS):
            await self._prepare(connection)
            reader = await StreamReader.open(
                connection,
                self._stream,
                f"{self._read_back_seconds:.0f}s" if start is None else start,
                prefetch=CAREFUL_PREFETCH if place.is_careful else PREFETCH,
            )
        self.is_following = place.is_verified
        async with aclosing(
            reader.messages(lambda: VERIFY_SECONDS if not place.is_verified else self._silence_seconds)
        ) as messages:
            async for message in messages:
                self._read_at = time.monotonic()
                is_news = place.is_news(message)
                self.is_following = place.is_verified
                self._follow_losses.end()
                if is_news:
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


def _blocked() -> Unavailable:
    # A new one each time: an exception keeps the frames of all who have raised it.
    return Unavailable("journal_blocked", "the broker takes no messages now: an alarm over memory or disk")


_: type[Journal] = RabbitJournal
