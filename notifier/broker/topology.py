"""What notifier needs on a broker: exchanges, queues and bindings with their arguments, as data; declared or checked.

Names are versioned, because the arguments of a queue cannot be changed: another set of them is a new name.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from notifier.broker.connection import BrokerError, Connection

log: Final = logging.getLogger(__name__)
Arguments = Mapping[str, str | int | bool]

# A message that breaks its reader is given up after so many attempts. Each lost connection counts for all messages in
# flight, so a limit near 1 would give up good ones when the network flaps.
DELIVERY_LIMIT: Final = 10
# RabbitMQ 4 gives quorum queues a limit of 20, and 3.10 has no word for none. Dead letters are looked at many times.
NO_DELIVERY_LIMIT: Final = 2**31 - 1
DEAD_LETTERS_AGE_SECONDS: Final = 14 * 86_400
DEAD_LETTERS_BYTES: Final = 1024**3
REQUESTS_BYTES: Final = 1024**3
SEGMENT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, or stream, and the exchange that everything in it comes through."""

    name: str
    exchange: str
    arguments: Arguments


@dataclass(frozen=True, slots=True)
class Names:
    """What things are called under one prefix. Installations with different prefixes share a broker."""

    prefix: str = "notifier"

    @property
    def ingest(self) -> str:
        """The exchange that backends publish requests to."""
        return f"{self.prefix}.ingest"

    @property
    def requests(self) -> str:
        """The queue of requests."""
        return f"{self.prefix}.ingest.v1"

    @property
    def dead_letters(self) -> str:
        """The exchange of what cannot be sent."""
        return f"{self.prefix}.dlx"

    @property
    def dead(self) -> str:
        """The queue of what cannot be sent."""
        return f"{self.prefix}.dead.v1"

    @property
    def journal(self) -> str:
        """The exchange that notifier alone publishes to."""
        return f"{self.prefix}.journal"

    @property
    def stream(self) -> str:
        """The stream that every replica reads."""
        return f"{self.prefix}.journal.v1"


@dataclass(frozen=True, slots=True)
class Topology:
    """All that one installation needs on one broker."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]

    def __add__(self, other: "Topology") -> "Topology":
        return Topology(self.exchanges + other.exchanges, self.queues + other.queues)


def journal_topology(names: Names, *, max_age_seconds: int, max_bytes: int) -> Topology:
    """The stream. Retention drops whole segments, and never the last: small ones keep it near its bounds."""
    arguments: Arguments = {
        "x-queue-type": "stream",
        "x-max-age": f"{max_age_seconds}s",
        "x-max-length-bytes": max_bytes,
        "x-stream-max-segment-size-bytes": SEGMENT_BYTES,
        "x-initial-cluster-size": 3,
    }
    return Topology((Exchange(names.journal),), (Queue(names.stream, names.journal, arguments),))


def request_topology(names: Names, *, is_ordered: bool) -> Topology:
    """The queue of requests, and where those end that cannot be sent.

    Dead-lettering by the broker is at-least-once, which needs `reject-publish`: a publisher is told when it is full.
    """
    requests: Arguments = {
        "x-queue-type": "quorum",
        "x-single-active-consumer": is_ordered,
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-max-length-bytes": REQUESTS_BYTES,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": names.dead_letters,
        "x-dead-letter-strategy": "at-least-once",
    }
    dead: Arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": NO_DELIVERY_LIMIT,
        "x-message-ttl": DEAD_LETTERS_AGE_SECONDS * 1000,
        "x-max-length-bytes": DEAD_LETTERS_BYTES,
    }
    return Topology(
        (Exchange(names.ingest), Exchange(names.dead_letters)),
        (Queue(names.dead, names.dead_letters, dead), Queue(names.requests, names.ingest, requests)),
    )


async def prepare(connection: Connection, topology: Topology, *, declares: bool) -> None:
    """Bring the topology into being, or only check that it is there. Raises BrokerError that says what is missing."""
    for exchange in topology.exchanges:
        await _prepare_exchange(connection, exchange, declares=declares)
    for queue in topology.queues:
        await _prepare_queue(connection, queue, declares=declares)


async def _prepare_exchange(connection: Connection, exchange: Exchange, *, declares: bool) -> None:
    channel = await connection.open_channel()
    try:
        await channel.declare_exchange(exchange.name, "topic", durable=True, passive=not declares)
        await channel.close()
    except AMQPError as error:
        raise _problem(f"the exchange {exchange.name}", exchange.name, error) from error


async def _prepare_queue(connection: Connection, queue: Queue, *, declares: bool) -> None:
    channel = await connection.open_channel()
    try:
        declared = await channel.declare_queue(
            queue.name, durable=True, passive=not declares, arguments=dict(queue.arguments) if declares else None
        )
        if declares:
            await declared.bind(queue.exchange, "#")
        await channel.close()
    except ChannelPreconditionFailed as error:
        if "arg" not in str(error) or not declares:
            raise _problem(f"the queue {queue.name}", queue.name, error) from error
        log.warning("queue is there with other arguments", extra={"queue": queue.name, "reason": str(error)})
        await _prepare_queue(connection, queue, declares=False)
    except AMQPError as error:
        raise _problem(f"the queue {queue.name}", queue.name, error) from error


def _problem(what: str, name: str, error: AMQPError) -> BrokerError:
    if isinstance(error, ChannelNotFoundEntity):
        return BrokerError(f"{what} is missing: create it (notifier topology), or set NOTIFIER_BROKER__DECLARE=true")
    if isinstance(error, ChannelAccessRefused):
        return BrokerError(f"{what}: a permission is missing, configure on {name} or another: {error}")
    return BrokerError(f"{what}: {error}")
