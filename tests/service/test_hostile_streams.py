"""Streams of events to clients that read slowly or never, or are gone without a word."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, eventually, sessions_of
from tests.service.conftest import on_both_paths
from tests.service.events import raw
from tests.tokens import bearer

pytestmark = on_both_paths
STALL_SECONDS = 1


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """One that keeps little in buffers, and waits for nobody long."""
    settings = {
        "NOTIFIER_SESSIONS__STALL_TIMEOUT_SECONDS": str(STALL_SECONDS),
        "NOTIFIER_HTTP__SEND_BUFFER_BYTES": "4096",
        "NOTIFIER_SESSIONS__WRITE_LIMIT_BYTES": "4096",
        "NOTIFIER_LIMITS__BATCH": "100000/second",
    }
    replica = Replica(tmp_path_factory.mktemp("replica") / "replica.log", settings, module=module)
    yield replica
    replica.stop()


async def flood(replica: Replica, user: str, count: int) -> None:
    """More than the buffers hold."""
    batch = [{"to": {"users": [user]}, "type": "tick", "data": {"n": n, "pad": "x" * 300}} for n in range(count)]
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer()) as backend:
        assert (await backend.post("/notify/batch", json=batch)).status_code == 202


async def is_open(replica: Replica, user: str) -> bool:
    return bool(await sessions_of(replica.operations_url, user))


async def state(replica: Replica, user: str) -> str:
    sessions = await sessions_of(replica.operations_url, user)
    return str(sessions[0]["state"]) if sessions else "gone"


async def test_a_slow_reader_falls_behind_and_loses_nothing(replica: Replica) -> None:
    """T-30: it costs a position, not a queue."""
    async with raw(replica.port, "slow", version="1.0", receive_buffer_bytes=4_096) as (reader, _):
        await eventually(lambda: is_open(replica, "slow"))
        await flood(replica, "slow", 1_000)
        await eventually(lambda: _is(replica, "slow", "behind"))
        numbers: list[object] = []
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(numbers) < 1_000:
                line = (await reader.readline()).decode()
                if line.startswith('data: {"type":"notification"'):
                    numbers.append(json.loads(line.removeprefix("data: "))["notification"]["data"]["n"])
        await eventually(lambda: _is(replica, "slow", "live"))

    assert numbers == list(range(1_000))


async def test_a_reader_that_stops_is_closed_and_its_socket_freed(replica: Replica) -> None:
    """T-32."""
    async with raw(replica.port, "frozen", receive_buffer_bytes=4_096):
        await eventually(lambda: is_open(replica, "frozen"))
        await flood(replica, "frozen", 1_000)
        await eventually(lambda: _is(replica, "frozen", "gone"), 5 * STALL_SECONDS + DEADLINE_SECONDS)

        async def is_told() -> bool:
            lines = [line for line in replica.log_lines() if line.get("user") == "frozen"]
            return [(line["code"], line["reason"]) for line in lines] == [(4000, "fell_behind")]

        await eventually(is_told)


async def test_a_client_that_resets_its_connection_is_noticed(replica: Replica) -> None:
    async with raw(replica.port, "reset") as (_, writer):
        await eventually(lambda: is_open(replica, "reset"))
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

        await eventually(lambda: _is(replica, "reset", "gone"))


async def test_other_methods_are_refused(replica: Replica) -> None:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer()) as client:
        posted, headed = await client.post("/events"), await client.head("/events")

    assert [(answer.status_code, answer.headers["allow"]) for answer in (posted, headed)] == [(405, "GET")] * 2


async def _is(replica: Replica, user: str, expected: str) -> bool:
    return await state(replica, user) == expected
