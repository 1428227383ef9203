"""Tries on a broker that change nothing: whether an exchange may be published to, and a queue or a stream consumed."""

from collections.abc import Iterable, Mapping
from typing import Final

from aiormq.exceptions import AMQPError, ChannelPreconditionFailed

from notifier.broker.connection import BrokerError, Connection
from notifier.broker.consumer import Consumer
from notifier.broker.refusals import explain

# The first releases that have what is used here. Expiry and dead letters of quorum queues came with 3.10.
OLDEST: Final[Mapping[str, tuple[int, int]]] = {"stream": (3, 9), "quorum": (3, 10)}
_UNACCEPTABLE: Final = "x-priority"


def identify(connection: Connection) -> tuple[str, tuple[int, ...]]:
    """What the broker says it is: a product, and the numbers of its version."""
    assert connection.transport is not None
    properties = connection.transport.connection.server_properties
    numbers = str(properties.get("version", "")).partition("-")[0].partition("+")[0].split(".")
    return str(properties.get("product", "")), tuple(int(number) for number in numbers if number.isdecimal())


def check_version(connection: Connection, queue_types: Iterable[str]) -> None:
    """Raise BrokerError where the broker is too old for queues of these types: it may make other ones of them."""
    product, version = identify(connection)
    for queue_type in queue_types if product == "RabbitMQ" else ():
        if version < (oldest := OLDEST[queue_type]):
            needed, present = (".".join(map(str, numbers)) for numbers in (oldest, version))
            raise BrokerError(f"a {queue_type} queue needs RabbitMQ {needed} or newer, and this one is {present}")


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
