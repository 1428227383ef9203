"""Consuming a queue or a stream: its messages in order, and the news that no more will come."""

import asyncio
from collections.abc import Mapping

from aio_pika import IncomingMessage
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.abc import AbstractChannel as InnerChannel
from aiormq.abc import DeliveredMessage

from notifier.broker.connection import BrokerError, Connection


class Consumer:
    """What a broker delivers over one channel, as messages (`get`) or as they came (`take`), which costs half as much.

    Both raise BrokerError once the channel or the consumer is gone.
    """

    def __init__(self, connection: Connection, channel: AbstractChannel, inner: InnerChannel) -> None:
        self._connection = connection
        self._channel = channel
        self._inner = inner
        self._arrived: asyncio.Queue[DeliveredMessage | BrokerError] = asyncio.Queue()

    @classmethod
    async def open(
        cls,
        connection: Connection,
        queue_name: str,
        *,
        prefetch: int,
        arguments: Mapping[str, str | int] | None = None,
    ) -> "Consumer":
        """Consume on a channel of its own, which lives as long as the connection."""
        channel = await connection.open_channel(prefetch=prefetch)
        inner = await channel.get_underlay_channel()
        consumer = cls(connection, channel, inner)
        inner.on_consumer_cancel_callbacks.add(consumer._on_cancel)
        channel.close_callbacks.add(consumer._on_close)
        await inner.basic_consume(queue_name, consumer._on_message, arguments=dict(arguments or {}))
        return consumer

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived that was not taken yet."""
        return self._arrived.empty()

    async def get(self) -> AbstractIncomingMessage:
        """The next message."""
        return IncomingMessage(await self.take())

    async def take(self) -> DeliveredMessage:
        """The next message, as it was delivered."""
        arrived = await self._arrived.get()
        if isinstance(arrived, BrokerError):
            self._arrived.put_nowait(arrived)  # For whoever asks again.
            raise arrived
        return arrived

    async def acknowledge_to(self, delivered: DeliveredMessage) -> None:
        """Acknowledge a message and all before it."""
        assert delivered.delivery_tag is not None, "it was not delivered to a consumer"
        await self._inner.basic_ack(delivered.delivery_tag, multiple=True, wait=False)

    async def close(self) -> None:
        """Close the channel: what was not acknowledged goes back to the queue."""
        await self._channel.close()

    async def _on_message(self, message: DeliveredMessage) -> None:
        # One task per message (aiormq): they begin in order, and this one never waits, so order is kept.
        self._arrived.put_nowait(message)

    def _on_cancel(self, _: object) -> None:
        self._arrived.put_nowait(BrokerError("the broker ended the consumer: the queue was deleted, or its node left"))

    def _on_close(self, _: object, error: BaseException | None) -> None:
        self._arrived.put_nowait(self._connection.loss(error))
