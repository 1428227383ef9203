"""What notifier needs on a broker: exchanges, queues and bindings with their arguments, as data; declared or checked.

Names are versioned, because the arguments of a queue cannot be changed: another set of them is a new name.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPError, ChannelAccessRefused

from notifier.broker.connection import BrokerError, Connection
from notifier.broker.probes import check_version, try_consume
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
CONTROL_BYTES: Final = 256 * 1024 * 1024
CONTROL_SEGMENT_BYTES: Final = 1024 * 1024  # It fills slowly, and is read from its start at each boot.
# What differs in one of these does another thing. Others are bounds, and let pass with a warning.
DECISIVE: Final = frozenset({"type", "internal", "durable", "auto_delete", "x-queue-type"})
LOOKING: Final = ", which RabbitMQ 4.3.0 wants even to look; 4.3.1 is content with any permission on it"
MOST_DIFFERENCES: Final = 30  # More than there are arguments: a broker that goes on is not asked for ever.
REMEDY: Final = "notifier topology prints how to create it, and NOTIFIER_BROKER__DECLARE=true does"


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

    def having(self, argument: str, value: str | int | bool | None) -> "Queue":
        """The same with another value of an argument; None leaves it out."""
        others = {name: present for name, present in self.arguments.items() if name != argument}
        return replace(self, arguments=others if value is None else others | {argument: value})


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

    @property
    def control(self) -> str:
        """The exchange of what replicas tell each other beside notifications."""
        return f"{self.prefix}.control"

    @property
    def control_stream(self) -> str:
        """The stream of it, which every replica reads from its start."""
        return f"{self.prefix}.control.v1"


@dataclass(frozen=True, slots=True)
class Topology:
    """All that one installation needs on one broker."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]

    def __add__(self, other: "Topology") -> "Topology":
        return Topology(self.exchanges + other.exchanges, self.queues + other.queues)

    @property
    def queue_types(self) -> frozenset[str]:
        """The types that its queues have."""
        return frozenset(str(queue.arguments["x-queue-type"]) for queue in self.queues)

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


def control_topology(names: Names, *, max_age_seconds: int) -> Topology:
    """The stream of revocations. Its age bounds it; its size only where somebody revokes without end."""
    arguments: Arguments = {
        "x-queue-type": "stream",
        "x-max-age": f"{max_age_seconds}s",
        "x-max-length-bytes": CONTROL_BYTES,
        "x-stream-max-segment-size-bytes": CONTROL_SEGMENT_BYTES,
        "x-initial-cluster-size": 3,
    }
    return Topology((Exchange(names.control),), (Queue(names.control_stream, names.control, arguments),))


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
    check_version(connection, topology.queue_types)
    for part in topology.parts:
        if differences := await prepare_part(connection, part, declares=declares):
            listed = list(map(str, differences))
            log.warning("broker object differs", extra={"object": str(part), "differences": listed})


async def prepare_part(connection: Connection, part: Part, *, declares: bool) -> list[Difference]:
    """Declare or check one part. Returns how it differs, where it is there and does its work. Raises BrokerError."""
    differences: list[Difference] = []
    while difference := await _attempt(connection, part, declares=declares):
        if difference.argument in DECISIVE:
            raise BrokerError(f"the {part} is of another kind: {difference}")
        differences.append(difference)
        # The broker names one at a time: what is there is asked for, until nothing differs any more.
        if not isinstance(part, Queue) or len(differences) == MOST_DIFFERENCES:
            declares = False
        else:
            part = part.having(difference.argument, difference.present)
    return differences


async def _attempt(connection: Connection, part: Part, *, declares: bool) -> Difference | None:
    """Declare or check it on a channel of its own, which a refusal closes. Returns the difference it failed over."""
    channel = await connection.open_channel()
    try:
        await (_declare(channel, part) if declares else _look_at(channel, part))
        await channel.close()
    except AMQPError as error:
        if difference := Difference.read(error):
            return difference
        raise await _problem(connection, part, error, declares=declares) from error
    return None


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
        problem = explain(error, f"the {part} cannot be checked", {}, remedy=REMEDY)
        return BrokerError(f"{problem}{LOOKING}") if isinstance(error, ChannelAccessRefused) else problem
    failed = f"the {part} cannot be declared"
    if isinstance(part, Exchange):
        return explain(error, failed, {"exchange": "configure"})
    if isinstance(part, Binding):
        return explain(error, failed, {"queue": "write", "exchange": "read"})
    needed = {"queue": "configure", "exchange": "write"}
    if isinstance(error, ChannelAccessRefused) and "x-dead-letter-exchange" in part.arguments:
        try:
            await try_consume(connection, part.name)  # Only who may read a queue may send its messages elsewhere.
        except BrokerError as problem:
            if isinstance(problem.__cause__, ChannelAccessRefused):
                needed["queue"] = "read"
    return explain(error, failed, needed)
