"""What users have to be allowed on a broker, and no more: regular expressions of exactly the names they need."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from notifier.broker.topology import Names, Topology

NOTHING: Final = "^$"
DEFAULT_EXCHANGE: Final = "amq.default"  # Its name where permissions are concerned.


@dataclass(frozen=True, slots=True)
class Permission:
    """What a user may do in a virtual host: regular expressions for the names of exchanges and queues."""

    user: str
    configure: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class TopicPermission:
    """With which routing keys a user may publish to an exchange, and bind to it: regular expressions."""

    user: str
    exchange: str
    write: str
    read: str


def service_permission(topology: Topology, *, user: str, declares: bool, answers: bool) -> Permission:
    """What notifier needs: `notifier serve`, `notifier dlq` and, where it `declares`, making all of it.

    Declaring is configure; binding is write on the queue and read on the exchange; `answers`, to messages that ask
    for one, go through the default exchange.
    """
    exchanges = [exchange.name for exchange in topology.exchanges]
    queues = [queue.name for queue in topology.queues]
    default = [DEFAULT_EXCHANGE] if answers else []
    if not declares:
        return Permission(user, NOTHING, exactly([*exchanges, *default]), exactly(queues))
    everything = [*exchanges, *queues]
    return Permission(user, exactly(everything), exactly([*everything, *default]), exactly(everything))


def publisher_permission(names: Names, *, user: str) -> Permission:
    """What a backend needs: to publish requests."""
    return Permission(user, NOTHING, exactly([names.ingest]), NOTHING)


def publisher_topics(names: Names, *, user: str, tenants: Sequence[str], broadcasts: bool) -> TopicPermission:
    """For which tenants a backend may send; and to everyone of them, where it `broadcasts`."""
    verbs = "(send|broadcast)" if broadcasts else "send"
    return TopicPermission(user, names.ingest, rf"^({'|'.join(tenants)})\.{verbs}$", NOTHING)


def exactly(names: Iterable[str]) -> str:
    """A regular expression for these names alone. They are made of letters, digits, `_`, `-` and dots."""
    escaped = [name.replace(".", r"\.") for name in names]
    return f"^{escaped[0]}$" if len(escaped) == 1 else f"^({'|'.join(escaped)})$"
