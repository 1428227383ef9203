"""Reading a RabbitMQ stream over one connection: its messages in order, until the connection is lost or silent."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from aio_pika.abc import AbstractIncomingMessage

from notifier.broker.connection import BrokerError, Connection
from notifier.broker.consumer import Consumer
from notifier.journal.epochs import Message

OFFSET: Final = "x-stream-offset"


class StreamReader:
    """What a consumer of a stream gets.

    Args:
        silence_seconds: without a message for so long the broker is taken for hung, which has happened to streams
            (rabbitmq/rabbitmq-server#4133, #12785): whoever reads gets a BrokerError.
    """

    def __init__(self, consumer: Consumer, *, prefetch: int, silence_seconds: float) -> None:
        self._consumer = consumer
        self._prefetch = prefetch
        self._silence_seconds = silence_seconds

    @classmethod
    async def open(
        cls, connection: Connection, stream: str, start: int | str, *, prefetch: int, silence_seconds: float
    ) -> "StreamReader":
        """Begin at an offset, which the broker clamps in silence to what there is, or at an age such as `3600s`."""
        consumer = await Consumer.open(connection, stream, prefetch=prefetch, arguments={OFFSET: start})
        return cls(consumer, prefetch=prefetch, silence_seconds=silence_seconds)

    async def messages(self) -> AsyncGenerator[Message, None]:
        """The messages, for as long as they come."""
        unacknowledged = 0
        while True:
            arrived = await self._next()
            yield Message(_offset(arrived), arrived.message_id, arrived.correlation_id, arrived.body)
            unacknowledged += 1
            # Acknowledging removes nothing from a stream: it asks for more.
            if self._consumer.is_empty or unacknowledged * 2 >= self._prefetch:
                await arrived.ack(multiple=True)
                unacknowledged = 0

    async def _next(self) -> AbstractIncomingMessage:
        try:
            async with asyncio.timeout(self._silence_seconds):
                return await self._consumer.get()
        except TimeoutError:
            raise BrokerError(f"nothing came for {self._silence_seconds:g} seconds") from None


def _offset(message: AbstractIncomingMessage) -> int:
    offset = message.headers.get(OFFSET)
    if not isinstance(offset, int):
        raise BrokerError(f"this is no stream: its messages have no {OFFSET}")
    return offset
