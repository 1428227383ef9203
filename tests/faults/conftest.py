"""Fixtures of the fault tests: a broker to break, clusters on it, and the size of the loads."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

import pytest
import pytest_asyncio

from notifier.clients.prove.verdict import Verdict
from tests.conftest import private_node
from tests.faults.cluster import Cluster, Place
from tests.rabbitmq import RabbitMQ

FULL_SECONDS: Final = 900.0
READY_SECONDS: Final = 20.0
BROKER_PASSWORD: Final = "a password for the tests"
PROXIED_SETTINGS: Final = {"NOTIFIER_WINDOW__MAX_INDEX_ENTRIES": "5000"}  # So that it passes by count, in no time.
_Size = TypeVar("_Size")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much: small loads, or the full ones of `make test-faults`."""

    is_full: bool

    def __call__(self, small: _Size, full: _Size) -> _Size:
        """The one of the two that is asked for."""
        return full if self.is_full else small


class StartCluster(Protocol):
    """Starts a cluster that ends with the test; see `Cluster`. Settings are keyword arguments, without NOTIFIER_."""

    async def __call__(
        self, replicas: int = 3, *, is_proxied: bool = False, is_started: bool = True, **settings: str
    ) -> Cluster: ...


def is_full() -> bool:
    return os.environ.get("NOTIFIER_TEST_FULL") == "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Full sizes take minutes. Those behind proxies come last, in one go: the proxies rest between them."""
    ours = [number for number, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted((items[number] for number in ours), key=lambda item: "proxied_cluster" in _fixtures(item))
    for number, item in zip(ours, ordered, strict=True):
        items[number] = item
        if is_full():
            item.add_marker(pytest.mark.timeout(FULL_SECONDS))


def _fixtures(item: pytest.Item) -> Sequence[str]:
    return item.fixturenames if isinstance(item, pytest.Function) else ()


@pytest.fixture(scope="session")
def scale() -> Scale:
    """Small loads, unless NOTIFIER_TEST_FULL=1 asks for full ones."""
    return Scale(is_full())


class Report(Protocol):
    """Notes what a fault did, for the summary of a full run."""

    def __call__(self, verdict: Verdict, **figures: object) -> None: ...


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Notes a verdict, and other figures of the test."""

    def note(verdict: Verdict, **figures: object) -> None:
        latency = verdict.latency_ms
        said = [
            f"sent {verdict.sent}, accepted {verdict.accepted}, unknown {verdict.unknown}, receipts {verdict.receipts}",
            str(verdict).splitlines()[0],
            f"p50 {latency.p50} ms, p99 {latency.p99} ms, longest {latency.longest} ms",
            f"slowest attempt {verdict.slowest_attempt_seconds} s, retries {verdict.retries}",
            f"longest absence {verdict.longest_absence_seconds} s, resets {verdict.resets}, closes {verdict.closes}",
            ", ".join(f"{name} {value}" for name, value in figures.items()),
        ]
        request.node.user_properties.append(("figures", "; ".join(part for part in said if part)))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures of a full run, or of a verbose one."""
    is_asked = is_full() or terminalreporter.verbosity > 0
    for result in terminalreporter.getreports("passed") + terminalreporter.getreports("failed") if is_asked else ():
        for name, value in result.user_properties:
            if name == "figures" and result.when == "call":
                terminalreporter.write_line(f"{result.nodeid}: {value}")


@pytest.fixture(scope="package")
def own_node() -> Iterator[RabbitMQ]:
    """One node for all fault tests; each gets it healed, as `own_rabbitmq`, and has a prefix of its own."""
    with private_node() as node:
        yield node


@pytest.fixture(scope="package")
def direct_replicas(own_node: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster behind `direct_cluster`."""
    cluster = Cluster(own_node, tmp_path_factory.mktemp("direct"), prefix="direct")
    yield cluster
    cluster.close()


@pytest.fixture
async def direct_cluster(direct_replicas: Cluster, own_rabbitmq: RabbitMQ) -> Cluster:
    """Three replicas with usual settings and nothing between them and the broker: for loads, and for kills.

    They run and follow, whatever the test before did to them. One cluster for all, since a start takes seconds.
    """
    for place in direct_replicas.places:
        if place.is_running:
            place.resume()
    await direct_replicas.start()
    await direct_replicas.all_following(within_seconds=READY_SECONDS)
    direct_replicas.complaints()  # Of the test before.
    return direct_replicas


@pytest.fixture
async def start_cluster(own_rabbitmq: RabbitMQ, prefix: str, tmp_path: Path) -> AsyncIterator[StartCluster]:
    """Starts clusters of the test's own, for settings or proxies; what they declared on the broker goes with them."""
    async with AsyncExitStack() as clusters:

        async def start(
            replicas: int = 3, *, is_proxied: bool = False, is_started: bool = True, **settings: str
        ) -> Cluster:
            named = {f"NOTIFIER_{name}": value for name, value in settings.items()}
            cluster = await clusters.enter_async_context(
                Cluster(own_rabbitmq, tmp_path, prefix=prefix, replicas=replicas, is_proxied=is_proxied, settings=named)
            )
            if is_started:
                await cluster.start()
            return cluster

        yield start
    await asyncio.to_thread(_clear, own_rabbitmq, prefix)


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def proxied_replicas(own_node: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """The cluster behind `proxied_cluster`."""
    await asyncio.to_thread(own_node.heal)
    directory = tmp_path_factory.mktemp("proxied")
    async with Cluster(own_node, directory, prefix="proxied", is_proxied=True, settings=PROXIED_SETTINGS) as cluster:
        for place in cluster.places:
            own_node.add_user(broker_user(place), BROKER_PASSWORD)
            assert place.proxy is not None
            own_url = own_node.url(broker_user(place), BROKER_PASSWORD)
            place.settings["NOTIFIER_JOURNAL__URL"] = place.proxy.url(own_url)
        cluster[2].settings["NOTIFIER_OPERATIONS__READINESS_ON_JOURNAL_LOSS"] = "fail"
        yield cluster


@pytest_asyncio.fixture(loop_scope="package")
async def proxied_cluster(proxied_replicas: Cluster) -> Cluster:
    """As `direct_cluster`, but behind proxies, each replica as a user of its own; for tests on the loop of the package.

    The last one does not stay ready while it cannot reach the broker.
    """
    await asyncio.to_thread(proxied_replicas.broker.heal)
    for place in proxied_replicas.places:
        if place.proxy is not None:
            place.proxy.restore()
    await proxied_replicas.start()
    await proxied_replicas.all_following(within_seconds=READY_SECONDS)
    proxied_replicas.complaints()  # Of the test before.
    return proxied_replicas


def broker_user(place: Place) -> str:
    """As whom a replica of `proxied_cluster` is known to the broker."""
    return f"replica-{place.number}"


def _clear(node: RabbitMQ, prefix: str) -> None:
    """Delete the queues of a test: they would slow down every later start of the node."""
    node.heal()
    for name in node.list_queues():
        if name.startswith(f"{prefix}."):
            node.delete_queue(name)
