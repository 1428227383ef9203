"""Consuming a queue or a stream: its messages in order, and the news that no more will come."""

import asyncio
from collections.abc import Mapping

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from notifier.broker.connection import BrokerError, Connection


class Consumer:
    """What a broker delivers over one channel. `get` raises BrokerError once the channel or the consumer is gone."""

    def __init__(self, connection: Connection, channel: AbstractChannel) -> None:
        self._connection = connection
        self._channel = channel
        self._arrived: asyncio.Queue[AbstractIncomingMessage | BrokerError] = asyncio.Queue()

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
        consumer = cls(connection, channel)
        inner = await channel.get_underlay_channel()
        inner.on_consumer_cancel_callbacks.add(consumer._on_cancel)
        channel.close_callbacks.add(consumer._on_close)
        queue = await channel.get_queue(queue_name, ensure=False)
        await queue.consume(consumer._on_message, arguments=dict(arguments or {}))
        return consumer

    @property
    def is_empty(self) -> bool:
        """Whether `get` would wait."""
        return self._arrived.empty()

    async def get(self) -> AbstractIncomingMessage:
        """The next message."""
        arrived = await self._arrived.get()
        if isinstance(arrived, BrokerError):
            self._arrived.put_nowait(arrived)  # For whoever asks again.
            raise arrived
        return arrived

    async def close(self) -> None:
        """Close the channel: what was not acknowledged goes back to the queue."""
        await self._channel.close()

    async def _on_message(self, message: AbstractIncomingMessage) -> None:
        # One task per message (aiormq): they begin in order, and this one never waits, so order is kept.
        self._arrived.put_nowait(message)

    def _on_cancel(self, _: object) -> None:
        self._arrived.put_nowait(BrokerError("the broker ended the consumer: the queue was deleted, or its node left"))

    def _on_close(self, _: object, error: BaseException | None) -> None:
        self._arrived.put_nowait(self._connection.loss(error))
