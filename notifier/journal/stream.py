"""Reading a RabbitMQ stream over one connection: its messages in order, until the connection is lost or silent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from notifier.broker.connection import BrokerError, Connection

OFFSET = "x-stream-offset"


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream. `batch_id` is None where its writer gave none."""

    offset: int
    batch_id: str | None
    body: bytes


class StreamReader:
    """The messages of a stream from an offset on; iterate over it.

    Args:
        silence_seconds: without a message for so long the broker is taken for hung, which has happened to streams
            (rabbitmq/rabbitmq-server#4133, #12785): whoever iterates gets a BrokerError.
    """

    def __init__(self, connection: Connection, channel: AbstractChannel, *, prefetch: int, silence_seconds: float):
        self._connection = connection
        self._channel = channel
        self._prefetch = prefetch
        self._silence_seconds = silence_seconds
        self._arrived: asyncio.Queue[AbstractIncomingMessage | BrokerError] = asyncio.Queue()

    def __aiter__(self) -> AsyncGenerator[Message, None]:
        return self._messages()

    async def consume(self, queue_name: str, start: int | str) -> None:
        """Begin at an offset, which the broker clamps in silence to what there is, or an age such as `3600s` ago."""
        channel = await self._channel.get_underlay_channel()
        channel.on_consumer_cancel_callbacks.add(self._on_cancel)
        self._channel.close_callbacks.add(self._on_close)
        queue = await self._channel.get_queue(queue_name, ensure=False)
        await queue.consume(self._on_message, arguments={OFFSET: start})

    async def _messages(self) -> AsyncGenerator[Message, None]:
        unacknowledged = 0
        while True:
            try:
                async with asyncio.timeout(self._silence_seconds):
                    arrived = await self._arrived.get()
            except TimeoutError:
                raise BrokerError(f"nothing came for {self._silence_seconds:g} seconds") from None
            if isinstance(arrived, BrokerError):
                raise arrived
            yield Message(_offset(arrived), arrived.message_id, arrived.body)
            unacknowledged += 1
            # Acknowledging removes nothing from a stream: it asks for more.
            if self._arrived.empty() or unacknowledged * 2 >= self._prefetch:
                await arrived.ack(multiple=True)
                unacknowledged = 0

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        # One task per message (aiormq): they begin in order, and this one never waits, so order is kept.
        self._arrived.put_nowait(message)

    def _on_cancel(self, _: object) -> None:
        self._arrived.put_nowait(BrokerError("the broker ended the consumer: the stream was deleted, or its node left"))

    def _on_close(self, _: object, error: BaseException | None) -> None:
        self._arrived.put_nowait(self._connection.loss(error))


@asynccontextmanager
async def open_stream(
    connection: Connection, queue_name: str, start: int | str, *, prefetch: int, silence_seconds: float
) -> AsyncGenerator[StreamReader, None]:
    """Read a stream on a channel of its own."""
    channel = await connection.open_channel(prefetch=prefetch)
    reader = StreamReader(connection, channel, prefetch=prefetch, silence_seconds=silence_seconds)
    await reader.consume(queue_name, start)
    yield reader


def _offset(message: AbstractIncomingMessage) -> int:
    offset = message.headers.get(OFFSET)
    if not isinstance(offset, int):
        raise BrokerError(f"{message.routing_key} is no stream: its messages have no {OFFSET}")
    return offset
