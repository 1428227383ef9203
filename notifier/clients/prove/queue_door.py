"""Sending through the request queue: published with confirms, and returned when there is no queue behind."""

import asyncio
import json
from contextlib import suppress
from typing import Final

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange
from aio_pika.exceptions import AMQPError, ChannelInvalidStateError, DeliveryError, PublishError

from notifier.clients.prove.answers import Answer, Item

ATTEMPT_SECONDS: Final = 10.0
OPEN_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
HEARTBEAT_SECONDS: Final = 10


class QueueDoor:
    """Publishes on one connection, which is opened anew after a loss.

    Args:
        url: of the broker, `amqp://` or `amqps://`; never shown.
        tenant: whose notifications these are.
    """

    def __init__(self, url: str, *, prefix: str, tenant: str) -> None:
        self._url = url
        self._name = f"{prefix}.ingest"
        self._tenant = tenant
        self._connection: AbstractConnection | None = None  # None until it is needed, and after a loss.
        self._exchange: AbstractExchange | None = None
        self._opening = asyncio.Lock()

    async def attempt(self, item: Item, _: int, /) -> Answer:
        exchange: AbstractExchange | None = None
        try:
            exchange = await self._open()
            async with asyncio.timeout(ATTEMPT_SECONDS):
                await exchange.publish(self._message(item), self._routing_key(item), mandatory=True)
        except PublishError:
            return Answer("none", "returned", self._name)
        except DeliveryError:
            return Answer("none", "nack", self._name)
        except (AMQPError, ChannelInvalidStateError, OSError, TimeoutError) as error:
            # What is under way on the connection gets its answer from the next one: never twice at a time on one.
            await self._drop(exchange)
            return Answer("none", type(error).__name__, self._name)
        except asyncio.CancelledError:
            # aiormq cancels whoever waits for a confirm when another attempt closes the connection.
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return Answer("none", "ConnectionClosed", self._name)
        return Answer("accepted", "confirmed", self._name)

    async def close(self) -> None:
        await self._drop(self._exchange)

    async def _open(self) -> AbstractExchange:
        async with self._opening:
            if self._exchange is None:
                async with asyncio.timeout(OPEN_SECONDS):
                    connection = await aio_pika.connect(self._url, heartbeat=HEARTBEAT_SECONDS)
                    try:
                        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
                        self._exchange = await channel.get_exchange(self._name, ensure=False)
                    except BaseException:
                        await _end(connection)
                        raise
                self._connection = connection
            return self._exchange

    async def _drop(self, exchange: AbstractExchange | None) -> None:
        """Give the connection up, unless another attempt did and there may be a new one."""
        if exchange is not None and exchange is self._exchange and self._connection is not None:
            connection, self._connection, self._exchange = self._connection, None, None
            await _end(connection)

    def _routing_key(self, item: Item) -> str:
        return f"{self._tenant}.{'broadcast' if item.audience.everyone else 'send'}"

    @staticmethod
    def _message(item: Item) -> aio_pika.Message:
        audience = item.audience
        to = {"users": audience.users, "topics": audience.topics, "everyone": audience.everyone}
        return aio_pika.Message(
            json.dumps({"to": to, **item.body}).encode(),
            content_type="application/json",
            message_id=item.key,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )


async def _end(connection: AbstractConnection) -> None:
    """Close within a time, whatever state it is in."""
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await connection.close()
