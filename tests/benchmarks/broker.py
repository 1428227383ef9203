"""Figures with the journal and the queue on RabbitMQ: a private node beside the replicas, on the load's core."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Final

import aio_pika
import httpx
from aio_pika.abc import AbstractExchange
from websockets.asyncio.client import ClientConnection

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Load, LoadFailed, Messages, Opening
from tests.benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned_to
from tests.benchmarks.requests import BATCH_ITEMS, batch_to_users, one_notification, session_tokens
from tests.benchmarks.sending import RATE_PER_SECOND, steady
from tests.benchmarks.server import SETTINGS, target
from tests.rabbitmq import RabbitMQ, find_server
from tests.replica import Replica
from tests.service.client import session
from tests.tokens import bearer

RELAY_QUEUE: Final = "bench.relay.requests"
RELAY_STREAM: Final = "bench.relay.records"
LATENCY_COUNT: Final = 1_200
WARM_COUNT: Final = 200
FOLLOWED_BATCHES: Final = 150
BATCH_CPU_SECONDS: Final = 2.0
SINGLE_RECORDS: Final = 4_000
PREFIX: Final = "bench"

OVER_RELAY_P50: Final = "Queue to screen less bare relay, p50"
OVER_RELAY_P99: Final = "Queue to screen over bare relay, p99"
FOLLOWER: Final = "Journal on RabbitMQ into a hub of 1,000 users"
BATCH_DOOR: Final = "POST /notify/batch, journal on RabbitMQ"


def queue_to_screen() -> list[Figure]:
    """From publishing a request to the screen, and the same through a bare relay on the same core; 200 a second."""
    with running_broker() as broker, running_replicas(broker, 1) as (replica,):
        ours = asyncio.run(_screen_latencies(broker, replica))
        bare = _relay_latencies(broker)
    return [
        *_latency_figures(f"Queue to screen at {RATE_PER_SECOND}/s", ours),
        *_latency_figures(f"Bare relay at {RATE_PER_SECOND}/s", bare),
        Figure(OVER_RELAY_P50, "ms", median(ours) - median(bare)),
        Figure(OVER_RELAY_P99, "times", _p99(ours) / _p99(bare)),
    ]


def following() -> list[Figure]:
    """What a follower pays, and what goes through the batch door of one replica; one core for each of them."""
    messages = Messages(receipts=1, in_flight=4, most=FOLLOWED_BATCHES, warm=3, cpu_seconds=BATCH_CPU_SECONDS)
    with TemporaryDirectory(prefix="notifier-bench-") as name, running_broker() as broker:
        with running_replicas(broker, 1) as (replica,):
            load = Load(target([replica], batch_to_users()), Path(name))
            _, measured = load.run(Opening(1), messages, tokens=session_tokens(1))
        items = int(measured["messages"]) * BATCH_ITEMS
        with pinned_to(SERVER_CORE):
            rate = float(_run_module("follower", broker.url(), PREFIX, str(items)))
    return [
        Figure(FOLLOWER, "notifications / CPU s", rate),
        Figure(BATCH_DOOR, "items / CPU s", items / measured["cpu_seconds"]),
        Figure(BATCH_DOOR, "items / s", items / measured["seconds"]),
    ]


def start_up() -> list[Figure]:
    """What a replica pays at its start for each record of the past hour that holds one notification, the dearest."""
    messages = Messages(receipts=1, in_flight=1, most=SINGLE_RECORDS)
    with TemporaryDirectory(prefix="notifier-bench-") as name, running_broker() as broker:
        with running_replicas(broker, 1) as (replica,):
            load = Load(target([replica], one_notification({"users": ["user-0"]})), Path(name))
            load.run(Opening(1), messages, tokens=session_tokens(1))
        with pinned_to(SERVER_CORE):
            rate = float(_run_module("follower", broker.url(), PREFIX, str(SINGLE_RECORDS)))
    return [Figure("Records of one notification each, read at a start", "records / CPU s", rate)]


def replicas() -> list[Figure]:
    """What each further replica pays for a POST that another one takes, and what it does to the way to the screen."""
    figures: list[Figure] = []
    for count in (1, 2, 3):
        with (
            TemporaryDirectory(prefix="notifier-bench-") as name,
            running_broker() as broker,
            running_replicas(broker, count) as running,
        ):
            before = [_cpu_seconds(replica) for replica in running]
            load = Load(target(running[:1], one_notification({"users": ["user-0"]})), Path(name))
            _, measured = load.run(Opening(1), steady(), tokens=session_tokens(1))
            spent = [_cpu_seconds(replica) - had for replica, had in zip(running, before, strict=True)]
        sent = measured["messages"] + RATE_PER_SECOND // 2
        title = f"POST to screen at {RATE_PER_SECOND}/s, {count} replica{'s' if count > 1 else ''}"
        figures += [
            Figure(f"{title}, p50", "ms", measured["p50_milliseconds"]),
            Figure(f"{title}, p99", "ms", measured["p99_milliseconds"]),
            Figure(f"{title}, who takes it", "CPU µs / notification", spent[0] / sent * 1e6),
        ]
        if count > 1:
            figures.append(Figure(f"{title}, each other", "CPU µs / notification", median(spent[1:]) / sent * 1e6))
    return figures


def restart() -> list[Figure]:
    """From when a broker that was killed takes connections again to the first delivery; sessions stayed open."""
    with running_broker() as broker, running_replicas(broker, 2) as (first, second):
        seconds = asyncio.run(_recovery_seconds(broker, first, second))
    return [Figure("Broker back to first delivery", "s", seconds)]


@contextmanager
def running_broker(core: int | None = LOAD_CORE) -> Iterator[RabbitMQ]:
    """Start a private node, and stop it."""
    server = find_server()
    if server is None:
        raise LoadFailed("no RabbitMQ here: make bench looks for Debian's; NOTIFIER_TEST_RABBITMQ names another")
    with pinned_to(core), RabbitMQ(server) as broker:
        yield broker


@contextmanager
def running_replicas(broker: RabbitMQ, count: int, *, cores: Sequence[int] = (SERVER_CORE,)) -> Iterator[list[Replica]]:
    """Start so many replicas on a broker, on these cores in turn, and stop them."""
    settings = {**SETTINGS, "NOTIFIER_JOURNAL__URL": broker.url(), "NOTIFIER_BROKER__PREFIX": PREFIX}
    running: list[Replica] = []
    with TemporaryDirectory(prefix="notifier-bench-") as name:
        try:
            for number in range(count):
                with pinned_to(cores[number % len(cores)]):
                    running += [Replica(Path(name) / f"replica-{number}.log", settings)]
            yield running
        finally:
            for replica in running:
                replica.stop()


async def _screen_latencies(broker: RabbitMQ, replica: Replica) -> list[float]:
    async with session(replica.ws_url, "user-0") as screen, _publisher(broker, f"{PREFIX}.ingest") as exchange:
        receiving = asyncio.create_task(_receive(screen.connection, LATENCY_COUNT + WARM_COUNT))
        await _publish_paced(
            exchange, "default.send", lambda due: {"to": {"users": ["user-0"]}, "type": "b", "data": {"sent": due}}
        )
        return (await receiving)[WARM_COUNT:]


async def _publish_paced(exchange: AbstractExchange, routing_key: str, body: Callable[[float], Any]) -> None:
    """Publish at the rate, whatever the confirms do; the body tells when it was due."""
    async with asyncio.TaskGroup() as sending:
        begin = time.monotonic() + 0.1
        for number in range(LATENCY_COUNT + WARM_COUNT):
            due = begin + number / RATE_PER_SECOND
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            message = aio_pika.Message(json.dumps(body(due)).encode(), message_id=f"{due}-{number}")
            sending.create_task(exchange.publish(message, routing_key, timeout=10))


async def _receive(screen: ClientConnection, count: int) -> list[float]:
    latencies: list[float] = []
    while len(latencies) < count:
        frame = json.loads(await screen.recv())
        if frame["type"] == "notification":
            latencies.append((time.monotonic() - frame["notification"]["data"]["sent"]) * 1000)
    return latencies


def _relay_latencies(broker: RabbitMQ) -> list[float]:
    count = LATENCY_COUNT + WARM_COUNT
    with pinned_to(SERVER_CORE):
        relay = _start_module("relay", broker.url(), str(count))
    assert relay.stdout is not None
    assert relay.stdout.readline() == "ready\n"
    asyncio.run(_feed_relay(broker))
    measured: list[float] = json.loads(relay.communicate(timeout=60)[0])
    return measured[WARM_COUNT:]


async def _feed_relay(broker: RabbitMQ) -> None:
    async with _publisher(broker, "") as exchange:
        await _publish_paced(exchange, RELAY_QUEUE, lambda due: {"sent": due})


@asynccontextmanager
async def _publisher(broker: RabbitMQ, exchange: str) -> AsyncIterator[AbstractExchange]:
    async with await aio_pika.connect(broker.url()) as connection:
        channel = await connection.channel(on_return_raises=True)
        yield await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange


async def _recovery_seconds(broker: RabbitMQ, first: Replica, second: Replica) -> float:
    async with (
        session(second.ws_url, "user-0") as screen,
        httpx.AsyncClient(base_url=first.url, headers=bearer(), verify=False) as backend,
    ):
        broker.kill()
        await asyncio.to_thread(broker.start)
        began = time.monotonic()
        while (await backend.post("/notify", json={"to": {"users": ["user-0"]}, "type": "b", "body": "x"})).is_error:  # noqa: ASYNC110 - the answer is what is waited for
            await asyncio.sleep(0.02)
        while json.loads(await screen.connection.recv())["type"] != "notification":
            pass
        return time.monotonic() - began


def _latency_figures(name: str, latencies: list[float]) -> list[Figure]:
    return [Figure(f"{name}, p50", "ms", median(latencies)), Figure(f"{name}, p99", "ms", _p99(latencies))]


def _p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[98]


def _cpu_seconds(replica: Replica) -> float:
    """User and system time of the process so far (proc(5), fields 14 and 15, in hundredths)."""
    fields = Path(f"/proc/{replica.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _start_module(name: str, *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _run_module(name: str, *arguments: str) -> str:
    return _start_module(name, *arguments).communicate(timeout=120)[0]
