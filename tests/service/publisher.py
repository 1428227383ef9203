"""A backend that sends by queue, as carefully as one should, or as wildly as one can; and what becomes of it."""

import asyncio
import json
import struct
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aio_pika import IncomingMessage
from aio_pika.abc import AbstractIncomingMessage
from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from notifier.broker.connection import Broker, Connection
from notifier.broker.consumer import Consumer
from notifier.broker.lenient import LenientBroker
from notifier.broker.topology import Names, prepare, request_topology
from tests.broker.builders import nested, short, table
from tests.broker.builders import time as at

DEADLINE_SECONDS = 20.0
Property = tuple[str, bytes]


class Publisher:
    """Publishes requests with confirms, and sees what is in the queues."""

    def __init__(self, connection: Connection, channel: AbstractChannel, names: Names) -> None:
        self.connection = connection
        self.names = names
        self._channel = channel

    async def send(
        self,
        body: object,
        *,
        key: str = "default.send",
        message_id: str | None = None,
        exchange: str | None = None,
        **properties: Any,
    ) -> str:
        """Return the message id once the broker has the message; a body that is no bytes is sent as JSON."""
        message_id = message_id or uuid.uuid4().hex
        await self._publish(
            body, Basic.Properties(message_id=message_id, delivery_mode=2, **properties), key=key, exchange=exchange
        )
        return message_id

    async def send_wild(
        self,
        body: object,
        *properties: Property,
        key: str = "default.send",
        message_id: str | None = None,
        exchange: str | None = None,
    ) -> str:
        """The same with properties as bytes, which no library would write."""
        message_id = message_id or uuid.uuid4().hex
        await self._publish(body, _WildProperties(properties, message_id=message_id), key=key, exchange=exchange)
        return message_id

    async def _publish(self, body: object, properties: Basic.Properties, *, key: str, exchange: str | None) -> None:
        await self._channel.basic_publish(
            body if isinstance(body, bytes) else json.dumps(body).encode(),
            exchange=exchange or self.names.ingest,
            routing_key=key,
            properties=properties,
            mandatory=True,
            timeout=DEADLINE_SECONDS,
        )

    async def send_many(self, bodies: Sequence[object], **properties: Any) -> list[str]:
        """Send in this order, each before the one before it was confirmed."""
        return list(await asyncio.gather(*(self.send(body, **properties) for body in bodies)))

    async def count(self, queue: str) -> int:
        """How many messages of a queue are with nobody."""
        declared = await self._channel.queue_declare(queue, passive=True)
        assert declared.message_count is not None
        return declared.message_count

    async def consumers(self, queue: str) -> int:
        """How many ask for the messages of a queue."""
        declared = await self._channel.queue_declare(queue, passive=True)
        assert declared.consumer_count is not None
        return declared.consumer_count

    async def delete(self, queue: str) -> None:
        """Take a queue away, as an operator would by mistake."""
        await self._channel.queue_delete(queue)

    async def unbind(self, queue: str, exchange: str) -> None:
        """Take away what leads from the exchange to the queue."""
        await self._channel.queue_unbind(queue, exchange, "#")

    async def private_queue(self) -> str:
        """A queue that goes with the connection."""
        declared = await self._channel.queue_declare(exclusive=True)
        assert declared.queue is not None
        return declared.queue

    async def hear_answers(self, take: Callable[[AbstractIncomingMessage], None]) -> None:
        """Take what comes over direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to) from now on."""

        async def hear(message: DeliveredMessage) -> None:
            take(IncomingMessage(message, no_ack=True))

        await self._channel.basic_consume("amq.rabbitmq.reply-to", hear, no_ack=True)

    async def holds(self, queue: str, count: int) -> bool:
        """Tell whether so many messages are with nobody."""
        return await self.count(queue) == count

    async def dead_letters(self, count: int) -> list[AbstractIncomingMessage]:
        """Wait for that many, take them out, and see that there are no more."""
        return await self.taken(self.names.dead, count)

    async def taken(self, queue: str, count: int) -> list[AbstractIncomingMessage]:
        """Wait for so many messages, take them out, and see that there are no more."""
        consumer = await Consumer.open(self.connection, queue, prefetch=count + 1)
        messages: list[AbstractIncomingMessage] = []
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(messages) < count:
                    messages.append(await consumer.get())
        except TimeoutError:
            raise AssertionError(f"only {len(messages)} messages of {count} came") from None
        if messages:
            await messages[-1].ack(multiple=True)
        await consumer.close()
        assert await self.count(queue) == 0
        return messages


class _WildProperties(Basic.Properties):
    """Properties that are written as they were given."""

    __slots__ = ("given",)

    def __init__(self, given: Sequence[Property], *, message_id: str) -> None:
        super().__init__(message_id=message_id)
        self.given = {"message_id": short(message_id.encode())} | dict(given)

    def marshal(self) -> bytes:
        names = [name for name in Basic.Properties.__slots__ if name in self.given]
        flags = sum(Basic.Properties.flags[name] for name in names)
        return struct.pack(">H", flags) + b"".join(self.given[name] for name in names)


@asynccontextmanager
async def publisher(amqp_url: str, prefix: str) -> AsyncIterator[Publisher]:
    """A backend, connected; the queues are declared, since a replica is ready before it has done so."""
    names = Names(prefix)
    async with LenientBroker.of(Broker(amqp_url, name="backend")).connect("tests") as connection:
        await prepare(connection, request_topology(names, is_ordered=True), declares=True)
        channel = await connection.open_channel()
        yield Publisher(connection, await channel.get_underlay_channel(), names)


async def address_of_nobody(amqp_url: str, prefix: str) -> str:
    """Where an answer would have gone, had its connection not ended."""
    asked: asyncio.Queue[str | None] = asyncio.Queue()

    async def note(message: DeliveredMessage) -> None:
        asked.put_nowait(message.header.properties.reply_to)

    async with publisher(amqp_url, prefix) as gone:
        await gone.hear_answers(lambda _: None)
        queue = await gone.private_queue()
        await gone._channel.basic_consume(queue, note, no_ack=True)
        await gone._channel.basic_publish(
            b"", routing_key=queue, properties=Basic.Properties(reply_to="amq.rabbitmq.reply-to")
        )
        async with asyncio.timeout(DEADLINE_SECONDS):
            return str(await asked.get())


IN_MICROSECONDS: Property = ("timestamp", at(1_795_000_000_000_000))
UNDECODABLE_PROPERTIES: list[Property] = [
    IN_MICROSECONDS,
    ("timestamp", at(2**64 - 1)),
    ("content_type", short(b"\xff\xfe")),
    ("correlation_id", short(b"\xff\xfe")),
    ("headers", table(short(b"\xff") + b"V")),
    ("headers", table(short(b"at") + b"T" + at(2**64 - 1))),
    ("headers", nested(1_000)),
]
"""Each ends a connection of aiormq that does not know better."""
