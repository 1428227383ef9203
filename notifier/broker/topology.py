"""What notifier needs on a broker: exchanges, queues and bindings with their arguments, as data; declared or checked.

Names are versioned, because the arguments of a queue cannot be changed: another set of them is a new name.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPError, ChannelAccessRefused

from notifier.broker.connection import BrokerError, Connection
from notifier.broker.probes import try_consume
from notifier.broker.refusals import Difference, explain

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


# The first releases that have what is used here; messages and dead letters of quorum queues as below since 3.10.
OLDEST: Final[Mapping[str, tuple[int, int]]] = {"stream": (3, 9), "quorum": (3, 10)}
# An object that differs in one of these does another thing. Others bound it, and are let pass with a warning.
DECISIVE: Final = frozenset({"type", "internal", "x-queue-type"})
GIVEN: Final = ": notifier topology prints how to create it, and NOTIFIER_BROKER__DECLARE=true does"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable topic exchange."""

    name: str

    def __str__(self) -> str:
        return f"exchange {self.name}"


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue, or stream, and the exchange that everything in it comes through."""

    name: str
    exchange: str
    arguments: Arguments

    def __str__(self) -> str:
        return f"queue {self.name}"


@dataclass(frozen=True, slots=True)
class Binding:
    """Takes everything from an exchange to a queue."""

    exchange: str
    queue: str
    routing_key: str = "#"

    def __str__(self) -> str:
        return f"binding from {self.exchange} to {self.queue}"


Part: TypeAlias = Exchange | Queue | Binding


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

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """What leads into the queues."""
        return tuple(Binding(queue.exchange, queue.name) for queue in self.queues)

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of it, in an order in which it can be declared."""
        return (*self.exchanges, *self.queues, *self.bindings)


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
    """Bring the topology into being, or only check that it is there. Raises BrokerError that says what is missing.

    Bindings cannot be checked, for AMQP has no question for them: a record that reaches no queue is refused.
    """
    check_version(connection, topology)
    for part in topology.parts:
        if difference := await prepare_part(connection, part, declares=declares):
            log.warning("broker object differs", extra={"object": str(part), "difference": str(difference)})


async def prepare_part(connection: Connection, part: Part, *, declares: bool) -> Difference | None:
    """Declare or check one part. Returns how it differs, where it is there and does its work. Raises BrokerError."""
    if isinstance(part, Binding) and not declares:
        return None
    channel = await connection.open_channel()
    try:
        await (_declare(channel, part) if declares else _look_at(channel, part))
        await channel.close()
    except AMQPError as error:
        difference = Difference.read(error)
        if difference is None:
            raise await _problem(connection, part, error, declares=declares) from error
        if difference.argument in DECISIVE:
            raise BrokerError(f"the {part} is of another kind: {difference}") from error
        await prepare_part(connection, part, declares=False)
        return difference
    return None


def check_version(connection: Connection, topology: Topology) -> None:
    """Raise BrokerError where the broker is too old for the types of the queues: some would make other ones of them."""
    product, version = identify(connection)
    if product != "RabbitMQ":
        return
    for queue in topology.queues:
        kind = str(queue.arguments["x-queue-type"])
        if version < (oldest := OLDEST[kind]):
            raise BrokerError(
                f"the {queue} needs RabbitMQ {oldest[0]}.{oldest[1]} or newer for its type, {kind}, "
                f"and this one is {'.'.join(map(str, version))}"
            )


def identify(connection: Connection) -> tuple[str, tuple[int, ...]]:
    """What the broker says it is: a product, and the numbers of its version."""
    assert connection.transport is not None
    properties = connection.transport.connection.server_properties
    numbers = str(properties.get("version", "")).partition("-")[0].partition("+")[0].split(".")
    return str(properties.get("product", "")), tuple(int(number) for number in numbers if number.isdecimal())


async def _declare(channel: AbstractChannel, part: Part) -> None:
    match part:
        case Exchange(name):
            await channel.declare_exchange(name, "topic", durable=True)
        case Queue(name, _, arguments):
            await channel.declare_queue(name, durable=True, arguments=dict(arguments))
        case Binding(exchange, name, routing_key):
            queue = await channel.get_queue(name, ensure=False)
            await queue.bind(exchange, routing_key)


async def _look_at(channel: AbstractChannel, part: Part) -> None:
    match part:
        case Exchange(name):
            await channel.declare_exchange(name, passive=True)
        case Queue(name):
            await channel.declare_queue(name, passive=True)


async def _problem(connection: Connection, part: Part, error: AMQPError, *, declares: bool) -> BrokerError:
    """Say what is missing. The permissions are those that the broker asks for, for each operation."""
    if not declares:
        # Up to 4.2 anybody may look. 4.3.0 wants configure for it, and later ones any permission on the object.
        return explain(error, f"the {part} cannot be checked", {}, hint=GIVEN)
    failed = f"the {part} cannot be declared"
    if isinstance(part, Exchange):
        return explain(error, failed, {"exchange": "configure"})
    if isinstance(part, Binding):
        return explain(error, failed, {"queue": "write", "exchange": "read"})
    if isinstance(error, ChannelAccessRefused) and "x-dead-letter-exchange" in part.arguments:
        try:
            await try_consume(connection, part.name)  # Only who may read a queue may send its messages elsewhere.
        except BrokerError as problem:
            if isinstance(problem.__cause__, ChannelAccessRefused):
                return explain(error, failed, {"queue": "read", "exchange": "write"})
    return explain(error, failed, {"queue": "configure", "exchange": "write"})
