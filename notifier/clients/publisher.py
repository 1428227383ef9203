"""Publishing to the request queue, with confirms, on one connection that is opened anew after a loss."""

import asyncio
from contextlib import suppress
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError
from yarl import URL

from notifier.clients.unpublished import Unpublished, unconfirmed, unopened

ATTEMPT_SECONDS: Final = 10.0
OPEN_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
HEARTBEAT_SECONDS: Final = 10


class Publisher:
    """Publishes to one exchange. Tasks may share it.

    Args:
        url: of the broker, `amqp://` or `amqps://`; its password is never shown.
        exchange: must be there already; a publisher needs no permission but to write to it.

    Raises:
        ValueError: the URL is none of a broker.
    """

    def __init__(self, url: str, *, exchange: str) -> None:
        self._url = URL(url)
        if self._url.scheme not in ("amqp", "amqps") or not self._url.host:
            raise ValueError("the URL of a broker is amqp:// or amqps:// and a host")
        self._name = exchange
        self._connection: AbstractConnection | None = None  # None until it is needed, and after a loss.
        self._exchange: AbstractExchange | None = None
        self._opening = asyncio.Lock()

    async def publish(self, body: bytes, *, key: str, routing_key: str) -> None:
        """Return once the broker has it in a queue. Raises Unpublished, within 15 s."""
        exchange: AbstractExchange | None = None
        message = aio_pika.Message(
            body,
            content_type="application/json",
            message_id=key,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        try:
            exchange = await self._open()
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await exchange.publish(message, routing_key, mandatory=True)
        except DeliveryError as error:
            raise unconfirmed(error, self._name, routing_key) from None
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            # What is under way on the connection gets its answer from the next one: never twice at a time on one.
            await self._drop(exchange)
            raise unconfirmed(error, self._name, routing_key) from error
        except asyncio.CancelledError:
            # aiormq cancels whoever waits for a confirm when another publish closes the connection.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            raise Unpublished("ConnectionClosed", "no_confirm", "the connection was closed") from None

    async def close(self) -> None:
        """Close the connection, within a time."""
        await self._drop(self._exchange)

    async def _open(self) -> AbstractExchange:
        async with self._opening:
            if self._exchange is None:
                try:
                    async with asyncio.timeout(OPEN_SECONDS):
                        self._exchange = await self._connect()
                except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
                    raise unopened(error, self._url) from error
            return self._exchange

    async def _connect(self) -> AbstractExchange:
        connection = await aio_pika.connect(self._url, heartbeat=HEARTBEAT_SECONDS)
        try:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            exchange = await channel.get_exchange(self._name, ensure=False)
        except BaseException:
            await _end(connection)
            raise
        self._connection = connection
        return exchange

    async def _drop(self, exchange: AbstractExchange | None) -> None:
        """Give the connection up, unless another publish did and there may be a new one."""
        if exchange is not None and exchange is self._exchange and self._connection is not None:
            connection, self._connection, self._exchange = self._connection, None, None
            await _end(connection)


async def _end(connection: AbstractConnection) -> None:
    """Close within a time, whatever state it is in."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
