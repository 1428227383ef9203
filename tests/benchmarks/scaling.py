"""What a second replica brings: the same sessions on one core, and shared by two, with the journal on RabbitMQ."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.broker import running_broker, running_replicas
from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Load, Measured, Messages, Opening
from tests.benchmarks.machine import LOAD_CORE, SERVER_CORE
from tests.benchmarks.requests import one_notification, session_tokens
from tests.benchmarks.server import target

SECONDS_OF_CPU: Final = 3.0


def scaling(count: int) -> list[Figure]:
    """Broadcasts to so many sessions in all, four in flight.

    One replica has a core, broker and load the other. Two replicas have a core each, and broker and load run on
    whichever the system gives them: on two cores they take from the replicas, so that deliveries per second cannot
    double. What two replicas pay for a delivery, against one, says what a third core would have shown.
    """
    one = _measured(count, cores=[SERVER_CORE], others=LOAD_CORE)
    two = _measured(count, cores=[SERVER_CORE, LOAD_CORE], others=None)
    return [
        *_figures(f"Broadcast to {count:,}, one replica on a core, broker and load on the other", one),
        *_figures(f"Broadcast to {count:,}, two replicas on a core each, broker and load on both", two),
        Figure("Two replicas over one", "times the deliveries / s", _rate(two, count) / _rate(one, count)),
        Figure("Two replicas over one", "times the CPU / delivery", _cost(two, count) / _cost(one, count)),
    ]


def _measured(count: int, *, cores: Sequence[int], others: int | None) -> Measured:
    with (
        TemporaryDirectory(prefix="notifier-bench-") as name,
        running_broker(others) as broker,
        running_replicas(broker, len(cores), cores=cores) as replicas,
    ):
        load = Load(target(replicas, one_notification({"everyone": True})), Path(name), core=others)
        messages = Messages(in_flight=4, most=10_000, warm=8, cpu_seconds=SECONDS_OF_CPU)
        return load.run(Opening(count), messages, tokens=session_tokens(count))[1]


def _figures(name: str, measured: Measured) -> list[Figure]:
    count = int(measured["sessions"])
    return [
        Figure(name, "deliveries / s", _rate(measured, count)),
        Figure(name, "CPU µs / delivery", _cost(measured, count)),
    ]


def _rate(measured: Measured, count: int) -> float:
    return measured["messages"] * count / measured["seconds"]


def _cost(measured: Measured, count: int) -> float:
    return measured["cpu_seconds"] * 1e6 / (measured["messages"] * count)
