"""Tries on a broker that change nothing: whether an exchange may be published to, and a queue or a stream consumed."""

from typing import Final

from aiormq.exceptions import AMQPError, ChannelPreconditionFailed

from notifier.broker.connection import Connection
from notifier.broker.consumer import Consumer
from notifier.broker.refusals import explain

_UNACCEPTABLE: Final = "x-priority"


async def try_publish(connection: Connection, exchange: str, routing_key: str = "") -> None:
    """Publish in a transaction that is rolled back: permissions are checked, and nothing arrives. Raises BrokerError.

    The empty name stands for the default exchange.
    """
    channel = connection.channel(publisher_confirms=False)
    await channel.initialize()
    inner = await channel.get_underlay_channel()
    try:
        await inner.tx_select()
        await inner.basic_publish(b"", exchange=exchange, routing_key=routing_key)
        await inner.tx_rollback()
        await channel.close()
    except AMQPError as error:
        what = f"the exchange {exchange}" if exchange else "the default exchange"
        raise explain(error, f"{what} cannot be published to", {"exchange": "write"}) from error


async def try_consume(connection: Connection, queue: str) -> None:
    """Ask for a consumer that is refused after its permission was checked, so it takes no message. Raises BrokerError.

    Consuming and cancelling would take messages away from those whose turn it is, and count as a delivery of each.
    """
    channel = await connection.open_channel(prefetch=1)
    inner = await channel.get_underlay_channel()
    try:
        await inner.basic_consume(queue, _ignore, arguments={_UNACCEPTABLE: "none"})
        await channel.close()
    except ChannelPreconditionFailed as error:
        if _UNACCEPTABLE not in str(error):
            raise explain(error, f"the queue {queue} cannot be consumed", {"queue": "read"}) from error
    except AMQPError as error:
        raise explain(error, f"the queue {queue} cannot be consumed", {"queue": "read"}) from error


async def try_stream(connection: Connection, stream: str) -> None:
    """Read a stream from its end on, and stop. Raises BrokerError."""
    try:
        consumer = await Consumer.open(connection, stream, prefetch=1, arguments={"x-stream-offset": "next"})
        await consumer.close()
    except AMQPError as error:
        raise explain(error, f"the stream {stream} cannot be read", {"queue": "read"}) from error


async def _ignore(_: object) -> None:
    """Take no notice of a message."""
