"""The queue of dead letters, looked at without taking anything out, until something is replayed or dropped.

Letters that are looked at are held, and go back when the connection ends, however it ends. RabbitMQ puts what comes
back behind what came back before, and in front of what nobody has seen: so whoever has looked at some goes on to the
first that was never delivered, and all is in its order again. Each look counts as a delivery, which that queue does
not limit.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import DeliveryError, PublishError

from notifier.broker.connection import BrokerError, Connection
from notifier.broker.lenient import UNDECODABLE
from notifier.broker.topology import Names
from notifier.ingress.letters import ERROR, ERROR_AT, ERROR_CODE, copy_headers, header_bytes

ARRIVAL_SECONDS: Final = 5.0
FIRST_PREFETCH: Final = 100
PREFETCH_LIMIT: Final = 65_535  # Of the protocol.
PUBLISH_SECONDS: Final = 5.0
BLOCKED: Final = "the broker takes no messages now: an alarm over memory or disk"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them. `number` counts from the front of the queue, from 1."""

    number: int
    message: AbstractIncomingMessage

    @property
    def code(self) -> str:
        """Why it is here: the code of notifier's problem, or the broker's reason, such as `delivery_limit`."""
        return str(self.message.headers.get(ERROR_CODE) or self._death.get("reason") or "unknown")

    @property
    def detail(self) -> str | None:
        """The same in a sentence, where notifier has one."""
        detail = self.message.headers.get(ERROR)
        return None if detail is None else str(detail)

    @property
    def flaw(self) -> str | None:
        """Which of its properties cannot be decoded; None for a whole one."""
        flaw = self.message.headers.get(UNDECODABLE)
        return None if flaw is None else str(flaw)

    @property
    def died_at(self) -> datetime | None:
        """When it became a dead letter; None where nobody has said so."""
        at = self.message.headers.get(ERROR_AT) or self._death.get("time")
        return at if isinstance(at, datetime) else None

    @property
    def age(self) -> timedelta | None:
        """How long it has been one."""
        return None if self.died_at is None else datetime.now(UTC) - self.died_at

    @property
    def _death(self) -> dict[str, Any]:
        """What the broker has noted last."""
        deaths = self.message.headers.get("x-death")
        last = deaths[0] if isinstance(deaths, list) and deaths else None
        return last if isinstance(last, dict) else {}


class NotReplayed(Exception):
    """The letter is where it was; the text says why."""


class DeadLetters:
    """The dead letters of one installation.

    Args:
        reading: a connection that reads everything, see `LenientBroker`.
        writing: another, since an alarm stops the broker from reading what comes over one that publishes.
    """

    def __init__(self, reading: Connection, writing: Connection, names: Names) -> None:
        self._writing = writing
        self._names = names
        self._letters = _Front(reading, names.dead)
        self._channel: AbstractChannel | None = None  # For publishing; None until it is needed.

    @property
    def waiting(self) -> int:
        """Letters in the queue when reading began."""
        return self._letters.waiting

    async def read(self, *, limit: int) -> AsyncGenerator[DeadLetter, None]:
        """Yield those that are there now, from the front, until so many are left: neither dropped nor replayed.

        Raises BrokerError, also when somebody else holds some.
        """
        number = left = 0
        await self._letters.count()
        while number < self.waiting and left < limit:
            message, number = await self._letters.next(), number + 1
            yield DeadLetter(number, message)
            left += not message.processed

    async def settle(self) -> None:
        """Leave the letters in their order."""
        await self._letters.take_all_seen()

    async def drop(self, letter: DeadLetter) -> None:
        """Take it out."""
        await letter.message.ack()

    async def replay(self, letter: DeadLetter) -> list[str]:
        """Put it back into the queue of requests, and then take it out. Raises NotReplayed, BrokerError.

        Returns: the names of headers that cannot be written.
        """
        if letter.flaw is not None:
            raise NotReplayed(f"cannot be decoded: {letter.flaw}")
        request = _request(letter.message)
        left_out = copy_headers(letter.message, request, room_bytes=header_bytes(self._writing))
        try:
            await self._publish(request, letter.message.routing_key or "")
        except PublishError:
            raise NotReplayed(f"nothing is bound to {self._names.ingest}") from None
        except DeliveryError:
            raise NotReplayed(f"the broker refused it: {self._names.requests} is full") from None
        await letter.message.ack()
        return left_out

    async def _publish(self, request: Message, routing_key: str) -> None:
        if self._channel is None:
            self._channel = await self._writing.open_channel()
        exchange = await self._channel.get_exchange(self._names.ingest, ensure=False)
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                await exchange.publish(request, routing_key, mandatory=True)
        except TimeoutError:
            is_blocked = await self._writing.is_blocked()
            raise BrokerError(BLOCKED if is_blocked else "the broker did not confirm in time") from None


class _Front:
    """The messages of a queue, from its front; who gets one may acknowledge it before the next.

    A consumer holds as many as its prefetch. For more there is another one, with twice as many: few messages are on
    their way, and few consumers are needed. RabbitMQ returns what they hold by their tags, in order up to 32 of them.
    """

    def __init__(self, connection: Connection, queue: str) -> None:
        self._connection = connection
        self._queue = queue
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        self._channel: AbstractChannel | None = None  # None until the first message is asked for.
        self._consumers = 0
        self._room = 0  # How many messages the consumers hold at most.
        self._held = 0  # How many of them were not acknowledged, the last one aside.
        self._last: AbstractIncomingMessage | None = None  # None before the first.
        self._taken = 0
        self.waiting = 0

    async def count(self) -> None:
        """Note how many there are."""
        channel = await self._connection.open_channel()
        queue = await channel.declare_queue(self._queue, passive=True)
        self.waiting = queue.declaration_result.message_count or 0
        await channel.close()

    async def next(self) -> AbstractIncomingMessage:
        """The next of those that were counted. Raises BrokerError when it does not come."""
        if self._last is not None and not self._last.processed:
            self._held += 1
        if self._held == self._room:
            await self._make_room()
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS):
                self._last = await self._arrived.get()
        except TimeoutError:
            raise BrokerError("not all of them came: somebody else holds some") from None
        self._taken += 1
        return self._last

    async def take_all_seen(self) -> None:
        """Go on to the first that was never delivered before."""
        while self._last is not None and self._last.redelivered and self._taken < self.waiting:
            await self.next()

    async def _make_room(self) -> None:
        if self._channel is None:
            self._channel = await self._connection.open_channel()
        prefetch = min(FIRST_PREFETCH << self._consumers, PREFETCH_LIMIT)
        await self._channel.set_qos(prefetch_count=prefetch)  # For consumers from now on.
        queue = await self._channel.get_queue(self._queue, ensure=False)
        await queue.consume(self._take, consumer_tag=f"{self._consumers:02}")
        self._consumers += 1
        self._room += prefetch

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(message)


def _request(message: AbstractIncomingMessage) -> Message:
    """The message as it was sent, but for what the broker acts on: who it was and whom to answer is long over."""
    return Message(
        message.body,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=message.priority,
        correlation_id=message.correlation_id,
        message_id=message.message_id,
        timestamp=message.timestamp,
        type=message.type,
        app_id=message.app_id,
    )
