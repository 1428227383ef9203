"""Reading a RabbitMQ stream over one connection: its messages in order, until the connection is lost or silent."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Final

from aiormq.abc import DeliveredMessage

from notifier.broker.connection import BrokerError, Connection
from notifier.broker.consumer import Consumer
from notifier.journal.epochs import Message

OFFSET: Final = "x-stream-offset"
IDLE_SECONDS: Final = 1.0  # The broker closes a channel that leaves a message unacknowledged for half an hour.


class Silence(BrokerError):
    """Nothing came for so long that the broker is taken for hung, or the place for wrong."""


class StreamReader:
    """What a consumer of a stream gets."""

    def __init__(self, consumer: Consumer, *, prefetch: int) -> None:
        self._consumer = consumer
        self._prefetch = prefetch

    @classmethod
    async def open(cls, connection: Connection, stream: str, start: int | str, *, prefetch: int) -> "StreamReader":
        """Begin at an offset, at `next` or `last`, or at an age such as `3600s`.

        An offset before the first message is clamped to it, in silence; beyond the last one, nothing comes until the
        stream has grown that far (RabbitMQ 3.10).
        """
        consumer = await Consumer.open(connection, stream, prefetch=prefetch, arguments={OFFSET: start})
        return cls(consumer, prefetch=prefetch)

    async def messages(self, silence_seconds: Callable[[], float]) -> AsyncGenerator[Message, None]:
        """The messages, for as long as they come.

        Without one for so long the broker is taken for hung, which has happened to streams
        (rabbitmq/rabbitmq-server#4133, #12785): raises Silence.
        """
        unacknowledged, acknowledged_at = 0, time.monotonic()
        while True:
            arrived = await self._next(silence_seconds())
            properties = arrived.header.properties
            yield Message(_offset(arrived), properties.message_id, properties.correlation_id, arrived.body)
            unacknowledged += 1
            is_idle = self._consumer.is_empty and time.monotonic() - acknowledged_at > IDLE_SECONDS
            # Acknowledging removes nothing from a stream: it asks for more.
            if is_idle or unacknowledged * 2 >= self._prefetch:
                await self._consumer.acknowledge_to(arrived)
                unacknowledged, acknowledged_at = 0, time.monotonic()

    async def _next(self, silence_seconds: float) -> DeliveredMessage:
        if not self._consumer.is_empty:
            return await self._consumer.take()  # A deadline for each of a backlog would cost as much as reading it.
        try:
            async with asyncio.timeout(silence_seconds):
                return await self._consumer.take()
        except TimeoutError:
            raise Silence(f"nothing came for {silence_seconds:g} seconds") from None


def _offset(message: DeliveredMessage) -> int:
    offset = (message.header.properties.headers or {}).get(OFFSET)
    if not isinstance(offset, int):
        raise BrokerError(f"this is no stream: its messages have no {OFFSET}")
    return offset
