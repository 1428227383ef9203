"""Publishing to a stream over a connection of its own: gathered into messages, each confirmed before the next.

A connection that publishes is apart from one that follows, since an alarm stops the broker from reading it, and
acknowledgements with it. It does not recover by itself: what to do next is decided here.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractExchange
from aiormq.exceptions import AMQPError

from notifier.broker.connection import Backoff, Broker, BrokerError, Connection
from notifier.broker.losses import Losses
from notifier.core.errors import Unavailable
from notifier.journal.appends import Appends, Batch, Entry

log: Final = logging.getLogger(__name__)
ALARM_POLL_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 1.0  # An append waits for a lost connection that long; after that it is refused at once.
SETUP_SECONDS: Final = 10.0  # The most that all before the first message may take on a connection that is open.


class Publisher(Generic[Entry]):
    """Appends to one stream. `run` must run as long as it is used.

    Args:
        broker: where the stream is; `role` names the connection there.
        exchange: what is published to; it is bound to the stream.
        prepare: declares or checks what is needed, on a connection that was just opened. Raises BrokerError.
        size_of: about the bytes that an entry takes in a message.
        message_of: makes the message of some entries.
        timeout_seconds: a message that takes longer to be confirmed is refused.
        opened: told that a channel was opened; it is known to work once something was confirmed on it.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        role: str,
        exchange: str,
        prepare: Callable[[Connection], Awaitable[None]],
        size_of: Callable[[Entry], int],
        message_of: Callable[[Sequence[Entry]], Message],
        timeout_seconds: float,
        opened: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._role = role
        self._exchange = exchange
        self._prepare = prepare
        self._message_of = message_of
        self._timeout_seconds = timeout_seconds
        self._opened = opened
        self._appends = Appends(size_of)
        self._connection: Connection | None = None  # While it is open.
        self._is_open = False  # Whether its channel takes messages; `changed_at` is when that was last another.
        self.changed_at = time.monotonic()
        self.is_blocked = False  # By an alarm of the broker.
        self.losses = Losses(role, broker)

    @property
    def is_writable(self) -> bool:
        """Whether messages can be published, as far as is known."""
        return self._is_open and not self.is_blocked

    async def append(self, entries: Sequence[Entry]) -> None:
        """Return when the stream has the entries. Raises Unavailable when it does not take them, or nobody knows."""
        is_outage = not self._is_open and time.monotonic() - self.changed_at > PATIENCE_SECONDS
        if is_outage or self.is_blocked:
            raise self.unavailable()
        await self._appends.append(entries)

    async def append_anyway(self, entries: Sequence[Entry]) -> None:
        """The same, whatever is known: somebody has to try first."""
        await self._appends.append(entries)

    def unavailable(self) -> Unavailable:
        """Why nothing can be appended now."""
        if self.is_blocked:
            return _blocked()
        return Unavailable("journal_unavailable", "the broker cannot be reached, or takes no records")

    async def run(self) -> None:
        """Publish what is appended. Never returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_publishing())
            tasks.create_task(self._keep_looking_for_alarms())

    async def _keep_publishing(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with self._broker.connect(self._role) as self._connection:
                    await self._connection.run(self._publish(self._connection, backoff))
            except BrokerError as error:
                self.losses.note(error)
            finally:
                self._connection = None
                self._note_open(False)
            await backoff.pause()

    async def _publish(self, connection: Connection, backoff: Backoff) -> None:
        while True:
            async with asyncio.timeout(SETUP_SECONDS):
                await self._prepare(connection)
                channel = await connection.open_channel()
            self._opened()  # A channel is open once something was confirmed on it: permissions show only then.
            await self._publish_until_refused(connection, channel, backoff)
            self._note_open(False)
            # The channel is closed before anything else is written: a broker that answers that has read the message
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
                elif await self._publish_message(exchange, batch):
                    backoff.reset()
                else:
                    return
            except BaseException:
                self._appends.refuse(
                    batch, Unavailable("journal_unavailable", "the broker was lost before it confirmed")
                )
                raise

    async def _publish_message(self, exchange: AbstractExchange, batch: Batch[Entry]) -> bool:
        message = self._message_of([entry for _, entry in batch])
        try:
            await exchange.publish(message, "", mandatory=True, timeout=self._timeout_seconds)
        except (AMQPError, TimeoutError) as error:
            reason = BrokerError.because(error)
            log.warning("record refused", extra={"role": self._role, "items": len(batch), "reason": str(reason)})
            self._appends.refuse(batch, Unavailable("journal_unavailable", "the broker did not confirm"))
            return False
        self._note_open(True)
        self.losses.end()
        self._appends.confirm(batch)
        return True

    async def _keep_looking_for_alarms(self) -> None:
        """Refuse all while the broker does not read: what was written now would be appended when the alarm is over."""
        while True:
            self.is_blocked = self._connection is not None and await self._connection.is_blocked()
            if self.is_blocked:
                self._appends.refuse_all(_blocked())
            await asyncio.sleep(ALARM_POLL_SECONDS)

    def _note_open(self, is_open: bool) -> None:
        if is_open != self._is_open:
            self._is_open, self.changed_at = is_open, time.monotonic()


def _blocked() -> Unavailable:
    # A new one each time: an exception keeps the frames of all who have raised it.
    return Unavailable("journal_blocked", "the broker takes no messages now: an alarm over memory or disk")
