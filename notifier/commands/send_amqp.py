"""`notifier send --amqp`: publishes a request as a backend should, and prints what the broker said."""

import argparse
import asyncio
import json
import logging
import os
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from notifier.commands.failure import fail

if TYPE_CHECKING:
    from aio_pika import Message
    from aio_pika.abc import AbstractChannel

    from notifier.broker.connection import Connection

CONFIRM_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"


class NotSent(Exception):
    """It is not known to be in the queue; the text says why."""


def add_options(send: argparse.ArgumentParser) -> None:
    """Add what the command takes besides, when it sends by queue."""
    queue = send.add_argument_group("by queue")
    queue.add_argument("--amqp", metavar="URL", help="send through the request queue of this RabbitMQ, not over HTTP")
    queue.add_argument(
        "--prefix",
        default=os.environ.get("NOTIFIER_BROKER__PREFIX") or "notifier",
        help="begins the names, as NOTIFIER_BROKER__PREFIX",
    )
    queue.add_argument("--tenant", default="default", help="the tenant in the routing key")
    queue.add_argument("--wait", action="store_true", help="ask for an answer of the service, and print it")


def send(options: argparse.Namespace, request: Mapping[str, Any]) -> int:
    """Publish a request. Returns the exit code."""
    from notifier.broker.connection import BrokerError

    logging.basicConfig(level=logging.CRITICAL)  # Libraries tell of refusals too, at length.
    if urlsplit(options.amqp).scheme not in ("amqp", "amqps") or not urlsplit(options.amqp).hostname:
        return fail("--amqp takes amqp:// or amqps:// and a host", code=2)
    try:
        answer = asyncio.run(_send(options, json.dumps(request).encode()))
    except (BrokerError, NotSent) as error:
        return fail(str(error))
    print(json.dumps(answer, ensure_ascii=False))
    return 0 if answer["status"] in ("confirmed", "queued") else 1


async def _send(options: argparse.Namespace, body: bytes) -> Mapping[str, Any]:
    from aio_pika import DeliveryMode, Message

    from notifier.broker.connection import Broker
    from notifier.broker.topology import Names

    exchange = Names(options.prefix).ingest
    routing_key = f"{options.tenant}.{'broadcast' if options.everyone else 'send'}"
    message = Message(
        body,
        message_id=options.idempotency_key or str(uuid.uuid4()),
        content_type="application/json",
        delivery_mode=DeliveryMode.PERSISTENT,
    )
    async with Broker(options.amqp, name="notifier/send").connect("publish") as connection:
        channel = await connection.open_channel()
        if options.wait:
            return await _ask(connection, channel, message, exchange, routing_key)
        await _publish(connection, channel, message, exchange, routing_key)
    return {"message_id": message.message_id, "routing_key": routing_key, "status": "confirmed"}


async def _publish(
    connection: "Connection", channel: "AbstractChannel", message: "Message", exchange: str, routing_key: str
) -> None:
    """Return once the broker has it in a queue. Raises NotSent, BrokerError."""
    from aiormq.exceptions import DeliveryError, PublishError

    publishing = (await channel.get_exchange(exchange, ensure=False)).publish(message, routing_key, mandatory=True)
    try:
        async with asyncio.timeout(CONFIRM_SECONDS):
            await publishing
    except PublishError as error:
        reason = error.frame.reply_text if hasattr(error.frame, "reply_text") else error
        raise NotSent(f"the broker returned it: {reason}: no queue is bound to {exchange}") from None
    except DeliveryError:
        raise NotSent("the broker refused it: the queue is full") from None
    except TimeoutError:
        alarm = " now: an alarm over memory or disk" if await connection.is_blocked() else " in time"
        raise NotSent(f"the broker did not confirm it{alarm}; it may send it later") from None


async def _ask(
    connection: "Connection", channel: "AbstractChannel", message: "Message", exchange: str, routing_key: str
) -> Mapping[str, Any]:
    """Publish, and wait for what the service answers."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(answer: Any) -> None:  # noqa: ANN401 - a type of aio-pika, which is not imported here
        if not answered.done():
            answered.set_result(answer.body)

    queue = await channel.get_queue(DIRECT_REPLY, ensure=False)
    await queue.consume(take, no_ack=True)
    message.reply_to, message.correlation_id = DIRECT_REPLY, message.message_id
    await _publish(connection, channel, message, exchange, routing_key)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            said: Mapping[str, Any] = json.loads(await answered)
    except TimeoutError:
        silence = f"it is in the queue, and no answer came within {ANSWER_SECONDS:g} seconds"
        raise NotSent(f"{silence}: no replica takes requests, or it may not write to amq.default") from None
    return said
