"""A deployment under test: replicas in processes of their own on a broker, each part to be broken alone."""

import asyncio
import contextlib
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from notifier.clients.prove.proof import Proof
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import complaints, eventually
from tests.service.proof import SCOPES, proof
from tests.tcp_proxy import TcpProxy
from tests.tokens import bearer, token

IN_ORDER: Final = {
    "journal": "ok",
    "control": "ok",
    "keys": "none",  # They stand in the settings.
    "queue": "ok",
    "canary": "ok",
    "workers": "ok",
    "drain": "ok",
}  # The checks of `/readyz`.
# What a replica holds, and how much more of it may be between two looks: an HTTP connection or two.
HELD: Final = {"process_open_fds": 2, "notifier_tasks": 6}
# All of the load comes from one address and a few callers.
OPEN_LIMITS: Final = {
    "NOTIFIER_LIMITS__ADDRESS": "1000000/second",
    "NOTIFIER_LIMITS__SEND": "1000000/second",
    "NOTIFIER_LIMITS__BROADCAST": "1000000/second",
    "NOTIFIER_LIMITS__TENANT": "1000000/second",
    "NOTIFIER_LIMITS__HANDSHAKES": "1000000/second",
    "NOTIFIER_LIMITS__ADDRESS_HANDSHAKES": "1000000/second",
}


class Booting(Replica):
    """A replica that need not be ready to count as started: it may have no broker yet."""

    def _await_ready(self) -> None:
        pass


class Place:
    """Where one replica runs: what stays the same over the processes that begin and end there.

    Attributes: `url`, `ws_url` and `operations_url`; `proxy`, between the replica and the broker, None without one;
    `settings`, of the next start.
    """

    def __init__(self, number: int, directory: Path, settings: Mapping[str, str], proxy: TcpProxy | None) -> None:
        self.number = number
        self.proxy = proxy
        self._directory = directory
        # Bound and never listening, so that nobody takes a port while the replica is down; Linux allows both.
        self._reserved = [_reserve_port() for _ in range(2)]
        port, operations_port = (held.getsockname()[1] for held in self._reserved)
        self.port: int = port
        self.url = f"http://127.0.0.1:{port}"
        self.ws_url = f"ws://127.0.0.1:{port}/ws"
        self.operations_url = f"http://127.0.0.1:{operations_port}"
        self.settings = {
            **settings,
            "NOTIFIER_HTTP__PORT": str(port),
            "NOTIFIER_OPERATIONS__PORT": str(operations_port),
        }
        self._replicas: list[Replica] = []  # One after the other; only the last one may run.
        self._told = 0  # Complaints that were asked for before.

    def __str__(self) -> str:
        return f"replica {self.number}"

    @property
    def is_running(self) -> bool:
        return bool(self._replicas) and self._replicas[-1].process.poll() is None

    @property
    def pid(self) -> int:
        return self._replicas[-1].process.pid

    async def start(self, *, awaits_ready: bool = True) -> None:
        """Start a replica here, and return when it is ready, or when it listens."""
        assert not self.is_running, f"{self} is running"
        log_path = self._directory / f"replica-{self.number}-{len(self._replicas)}.log"
        kind = Replica if awaits_ready else Booting
        self._replicas.append(await asyncio.to_thread(kind, log_path, self.settings))

    def kill(self) -> None:
        """End the replica with SIGKILL."""
        if self._replicas:
            self._replicas[-1].process.kill()
            self._replicas[-1].process.wait()

    async def stop(self) -> int:
        """End the replica in good order. Returns its exit code."""
        return await asyncio.to_thread(self._replicas[-1].stop)

    def signal(self, number: int) -> None:
        """Send a signal to the replica, and do not wait."""
        self._replicas[-1].process.send_signal(number)

    async def ended(self, *, within_seconds: float) -> int:
        """Wait until the process has ended. Returns its exit code."""
        return await asyncio.to_thread(self._replicas[-1].process.wait, within_seconds)

    def suspend(self) -> None:
        """Freeze the process: its connections stay open, and nothing answers."""
        self._replicas[-1].process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._replicas[-1].process.send_signal(signal.SIGCONT)

    async def metrics(self, name: str) -> float:
        """A reading of `/metrics` by its full name, such as `notifier_accepted_total`; the sum over its labels."""
        async with httpx.AsyncClient(base_url=self.operations_url, verify=False) as operator:
            page = (await operator.get("/metrics")).raise_for_status().text
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        found = [sample.value for sample in samples if sample.name == name]
        assert found, f"no metric {name}"
        return sum(found)

    async def probe(self, path: str) -> tuple[int, dict[str, Any]]:
        """The status and the body of `/livez` or `/readyz`; 0 while nothing answers."""
        try:
            async with httpx.AsyncClient(base_url=self.operations_url, verify=False) as operator:
                answer = await operator.get(path)
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    def log_lines(self) -> list[dict[str, Any]]:
        """The logs of all replicas that ran here. A line that is not JSON is a failure of the service."""
        return [line for replica in self._replicas for line in replica.log_lines()]

    def complaints(self) -> list[str]:
        """What the logs have said since the last call that somebody must look at."""
        lines = [line for replica in self._replicas for line in complaints(replica.log_path)]
        told, self._told = self._told, len(lines)
        return lines[told:]

    def close(self) -> None:
        """End what runs, and let the ports go."""
        self.kill()
        for held in self._reserved:
            held.close()


class Cluster:
    """Replicas on one broker, which the test that owns it may kill as well.

    Args:
        directory: for the logs.
        is_proxied: put a `TcpProxy` between each replica and the broker; then the cluster must be entered.
        settings: of all replicas, by full name; they win over open limits and a prefix.
    """

    def __init__(
        self,
        broker: RabbitMQ,
        directory: Path,
        *,
        prefix: str,
        replicas: int = 3,
        is_proxied: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.broker = broker
        self.prefix = prefix
        common = {**OPEN_LIMITS, "NOTIFIER_BROKER__PREFIX": prefix, **(settings or {})}
        self.places: list[Place] = []
        for number in range(replicas):
            proxy = TcpProxy("127.0.0.1", broker.port) if is_proxied else None
            url = proxy.url(broker.url()) if proxy else broker.url()
            self.places.append(Place(number, directory, {"NOTIFIER_JOURNAL__URL": url, **common}, proxy))
        self._proxies = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for place in self.places:
            if place.proxy is not None:
                await self._proxies.enter_async_context(place.proxy)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        await self._proxies.aclose()

    def close(self) -> None:
        """End every replica, and let the ports go."""
        for place in self.places:
            place.close()

    def __getitem__(self, number: int) -> Place:
        return self.places[number]

    @property
    def urls(self) -> list[str]:
        """Where the replicas are, running or not."""
        return [place.url for place in self.places]

    async def start(self, *, awaits_ready: bool = True) -> None:
        """Start every replica that does not run, all at a time."""
        down = [place for place in self.places if not place.is_running]
        # Each to its end, also beside one that fails: a thread that is left behind would leave its process behind.
        starts = (place.start(awaits_ready=awaits_ready) for place in down)
        for outcome in await asyncio.gather(*starts, return_exceptions=True):
            if outcome is not None:
                raise outcome

    def kill(self) -> None:
        """End every replica with SIGKILL."""
        for place in self.places:
            place.kill()

    async def kill_broker(self) -> None:
        """End the broker with SIGKILL."""
        await asyncio.to_thread(self.broker.kill)

    async def start_broker(self) -> None:
        """Start the broker on the data that it has; seconds."""
        await asyncio.to_thread(self.broker.start)

    async def metrics(self, name: str) -> list[float]:
        """A reading of every replica that runs, as `Place.metrics`."""
        return [await place.metrics(name) for place in self.places if place.is_running]

    async def all_following(self, *, within_seconds: float) -> None:
        """Wait until every replica is ready and in touch with the broker: by its policy it may be ready without."""

        async def are_following() -> bool:
            return all([(await place.probe("/readyz"))[1].get("checks") == IN_ORDER for place in self.places])

        await eventually(are_following, within_seconds)

    def complaints(self) -> list[str]:
        """What the logs have said since the last call that somebody must look at."""
        return [f"{place}: {line}" for place in self.places for line in place.complaints()]

    def proof(self, **options: Any) -> Proof:
        """A proof on this cluster, with HTTP alone unless `amqp_share` is given; other arguments as of `Proof`."""
        options.setdefault("amqp_share", 0.0)
        if options["amqp_share"]:
            options |= {"amqp_url": self.broker.url(), "prefix": self.prefix}
        return proof(**{"urls": self.urls, **options})


class Baseline:
    """What every replica holds while nobody is connected, to be compared with what it holds when all have left."""

    def __init__(self, held: Mapping[Place, Mapping[str, float]]) -> None:
        self._held = held

    @classmethod
    async def of(cls, cluster: Cluster) -> Self:
        return cls({place: {name: await place.metrics(name) for name in HELD} for place in cluster.places})

    async def restored(self, *, within_seconds: float) -> None:
        """Wait until no session and no more open files or tasks are left than before."""
        await eventually(self._is_restored, within_seconds)

    async def _is_restored(self) -> bool:
        for place, held in self._held.items():
            if await place.metrics("notifier_sessions"):
                return False
            for name, value in held.items():
                if await place.metrics(name) > value + HELD[name]:
                    return False
        return True


class Caller:
    """A backend that posts once in a while to each replica in turn, without a retry, and notes every answer.

    Attributes:
        answers: (status, whether it has Retry-After, seconds) of each; status 0 for none at all.
    """

    def __init__(self, urls: list[str], *, every_seconds: float = 0.1) -> None:
        self.answers: list[tuple[int, bool, float]] = []
        self._urls = urls
        self._every_seconds = every_seconds

    @property
    def statuses(self) -> Counter[int]:
        return Counter(status for status, _, _ in self.answers)

    @property
    def slowest_seconds(self) -> float:
        return max(seconds for _, _, seconds in self.answers)

    @contextlib.asynccontextmanager
    async def calling(self) -> AsyncIterator[Self]:
        """Call until the end of the block, and wait for the answers that are still to come."""
        async with (
            httpx.AsyncClient(headers=bearer("caller"), verify=False, timeout=10) as client,
            asyncio.TaskGroup() as calls,
        ):
            going = calls.create_task(self._go_on(client, calls))
            yield self
            going.cancel()

    async def _go_on(self, client: httpx.AsyncClient, calls: asyncio.TaskGroup) -> None:
        while True:
            for url in self._urls:
                calls.create_task(self._call(client, url))
                await asyncio.sleep(self._every_seconds)

    async def _call(self, client: httpx.AsyncClient, url: str) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        body = {"to": {"users": ["nobody"]}, "type": "faults.call", "title": "a call"}
        try:
            answer = await client.post(f"{url}/notify", json=body)
        except httpx.TransportError:
            self.answers.append((0, False, loop.time() - began))
        else:
            self.answers.append((answer.status_code, "retry-after" in answer.headers, loop.time() - began))


def sender_token(user: str) -> str:
    """The token of a backend."""
    return token(user, scopes=SCOPES)


async def holds(condition: Callable[[], bool], *, within_seconds: float) -> None:
    """Wait until something in this process is so that has no event to wait for."""

    async def is_so() -> bool:
        return condition()

    await eventually(is_so, within_seconds)


def _reserve_port() -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
