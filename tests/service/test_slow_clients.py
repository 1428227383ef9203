"""A client that reads slowly, later, or never: it costs a position, not a queue, and delays nobody."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from tests.replica import Replica
from tests.service.client import Client, complaints, eventually, session, sessions_of
from tests.service.conftest import StartReplica, on_both_paths
from tests.service.raw import control
from tests.tokens import bearer

pytestmark = on_both_paths

SMALL_BYTES = 4_096
STALL_SECONDS = 2
USER_TIMEOUT_SECONDS = 5
IS_FULL = os.environ.get("NOTIFIER_TEST_FULL") == "1"
FROZEN, BRISK, PAD_BYTES = (200, 800, 10_000) if IS_FULL else (60, 1, 50_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """A replica with small buffers and a window of 5,000 addresses."""
    log_path = tmp_path_factory.mktemp("small") / "replica.log"
    settings = {
        "HTTP__SEND_BUFFER_BYTES": str(SMALL_BYTES),
        "WINDOW__MAX_INDEX_ENTRIES": "5000",
        "LIMITS__BATCH": "1000000/second",
        "LIMITS__HANDSHAKES": "100000/second",
        "LIMITS__ADDRESS_HANDSHAKES": "100000/second",
    }
    replica = Replica(log_path, {f"NOTIFIER_{name}": value for name, value in settings.items()}, module=module)
    yield replica
    replica.stop()
    assert complaints(log_path) == []


@pytest.fixture
async def sender(small: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A backend that talks to the replica with small buffers."""
    async with httpx.AsyncClient(base_url=small.url, headers=bearer(), verify=False) as client:
        yield client


async def test_a_session_that_stops_reading_falls_behind_and_gets_everything_in_order_later(
    small: Replica, sender: httpx.AsyncClient
) -> None:
    async with (
        session(small.ws_url, "slow", receive_buffer_bytes=SMALL_BYTES) as slow,
        session(small.ws_url, "brisk") as brisk,
    ):
        await send(sender, "slow", range(2_000))
        await eventually(lambda: is_in_state(small, "slow", "behind"))
        await send(sender, "slow", range(2_000, 3_000))
        await send(sender, "brisk", range(1))
        meanwhile = await brisk.notification()
        still = [each["state"] for each in await sessions_of(small.operations_url, "slow")]
        numbers = [(await slow.notification())["data"]["n"] for _ in range(3_000)]
        await eventually(lambda: is_in_state(small, "slow", "live"))
        await send(sender, "slow", range(3_000, 3_001))

        assert meanwhile["data"] == {"n": 0, "pad": "x" * 300}
        assert still == ["behind"]
        assert numbers == list(range(3_000))
        assert (await slow.notification())["data"]["n"] == 3_000


async def test_a_session_whose_window_is_evicted_beneath_it_is_closed_with_4000(
    small: Replica, sender: httpx.AsyncClient
) -> None:
    async with session(small.ws_url, "outrun", receive_buffer_bytes=SMALL_BYTES) as outrun:
        await send(sender, "outrun", range(2_000))
        await eventually(lambda: is_in_state(small, "outrun", "behind"))
        await send(sender, "other", range(6_000))
        frames, code, reason = await outrun.rest()

    numbers = [frame["notification"]["data"]["n"] for frame in frames]
    assert (code, reason) == (4000, "fell_behind")
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < 2_000


async def test_a_session_that_vanishes_while_its_questions_wait_is_let_go(
    small: Replica, sender: httpx.AsyncClient
) -> None:
    """Its reader waits for the answers to be taken, which they never are."""
    async with session(small.ws_url, "vanished", receive_buffer_bytes=SMALL_BYTES) as vanished:
        await send(sender, "vanished", range(2_000))
        await eventually(lambda: is_in_state(small, "vanished", "behind"))
        for number in range(3):
            await vanished.say(type="ping", ref=number)
        await vanished.abort()

        await eventually(lambda: has_none(small, "vanished"))


async def test_a_client_that_pings_and_never_reads_the_pongs_is_cut(small: Replica, sender: httpx.AsyncClient) -> None:
    """T-32: the pongs would wait in memory without end. Checklist 2.1."""
    async with session(small.ws_url, "flood", receive_buffer_bytes=SMALL_BYTES) as flood:
        await send(sender, "flood", range(2_000))
        await eventually(lambda: is_in_state(small, "flood", "behind"))
        for number in range(100):
            with_payload = number.to_bytes(4, "big") * 25
            try:
                _unanswered = await flood.connection.ping(with_payload)
            except ConnectionClosed:
                break

        await eventually(lambda: has_none(small, "flood"))


async def test_a_ping_of_a_client_that_is_behind_is_answered_when_it_reads(
    small: Replica, sender: httpx.AsyncClient
) -> None:
    async with session(small.ws_url, "pinging", receive_buffer_bytes=SMALL_BYTES) as slow:
        await send(sender, "pinging", range(2_000))
        await eventually(lambda: is_in_state(small, "pinging", "behind"))
        answered = await slow.connection.ping()
        numbers = [(await slow.notification())["data"]["n"] for _ in range(2_000)]
        async with asyncio.timeout(10):
            await answered

    assert numbers == list(range(2_000))


async def test_a_client_that_closes_and_reads_no_more_is_freed(small: Replica, sender: httpx.AsyncClient) -> None:
    before = open_files(small)
    async with session(small.ws_url, "rude", receive_buffer_bytes=SMALL_BYTES) as rude:
        await send(sender, "rude", range(2_000))
        await eventually(lambda: is_in_state(small, "rude", "behind"))
        rude.connection.transport.write(control(Opcode.CLOSE, (1000).to_bytes(2, "big")))
        await eventually(lambda: has_none(small, "rude"))
        await sender.aclose()
        await eventually(lambda: has_open_files(small, before))
        await rude.abort()


async def test_many_that_stop_reading_cost_a_bounded_sum_and_delay_nobody(
    small: Replica, sender: httpx.AsyncClient
) -> None:
    """T-31: what waits for each of them stays under a limit, and the rest is in the window, once. Checklist 2.1."""
    everywhere: dict[str, Any] = {"topics": ["frozen"], "extra": {"topics": ["frozen"]}}
    async with AsyncExitStack() as crowd:
        brisk = [
            await crowd.enter_async_context(session(small.ws_url, f"brisk-{number}", **everywhere))
            for number in range(BRISK)
        ]
        for number in range(FROZEN):
            frozen = session(small.ws_url, f"frozen-{number}", receive_buffer_bytes=SMALL_BYTES, **everywhere)
            crowd.push_async_callback((await crowd.enter_async_context(frozen)).abort)
        before = resident_bytes(small)
        for number in range(100):
            body = {"to": {"topics": ["frozen"]}, "type": "count", "data": {"n": number, "pad": "x" * PAD_BYTES}}
            assert (await sender.post("/notify", json=body)).status_code == 202
        numbers = await asyncio.gather(*[numbers_of(each, 100) for each in brisk])
        grown = resident_bytes(small) - before

    assert numbers == [list(range(100))] * BRISK
    # The window and the journal hold 5 MB each; a queue for each of the frozen would hold 300, or 200 at full size.
    assert grown < 30_000_000 + (FROZEN - 60) * 100_000


async def test_a_session_that_never_reads_again_is_closed_and_its_socket_freed(start_replica: StartReplica) -> None:
    """T-30, T-31: the one that reads again in time learns why; the hub lets go of both at once, the kernel as well.

    Checklist 3.1.12, 2.1.
    """
    stern = start_replica(
        HTTP__SEND_BUFFER_BYTES=str(SMALL_BYTES),
        HTTP__TCP_USER_TIMEOUT_MILLISECONDS=str(USER_TIMEOUT_SECONDS * 1_000),
        SESSIONS__STALL_TIMEOUT_SECONDS=str(STALL_SECONDS),
    )
    before = open_files(stern)

    async with (
        httpx.AsyncClient(base_url=stern.url, headers=bearer(), verify=False) as sender,
        session(stern.ws_url, "sleeper", receive_buffer_bytes=SMALL_BYTES) as sleeper,
        session(stern.ws_url, "dead", receive_buffer_bytes=SMALL_BYTES) as dead,
    ):
        await send(sender, "sleeper", range(2_000))
        await send(sender, "dead", range(2_000))
        await eventually(lambda: has_none(stern, "sleeper"))
        frames, code, reason = await sleeper.rest()
        await eventually(lambda: has_none(stern, "dead"))
        await sender.aclose()
        await eventually(lambda: has_open_files(stern, before))
        await eventually(lambda: is_forgotten(stern, dead.connection.local_address[1]), USER_TIMEOUT_SECONDS + 5)
        await dead.abort()

    assert (code, reason) == (4000, "fell_behind")
    assert [frame["notification"]["data"]["n"] for frame in frames] == list(range(len(frames)))
    assert complaints(stern.log_path) == []


async def numbers_of(client: Client, count: int) -> list[int]:
    """Of its next notifications."""
    return [(await client.notification())["data"]["n"] for _ in range(count)]


async def send(sender: httpx.AsyncClient, user: str, numbers: range) -> None:
    """Number and send them, about 450 bytes each."""
    items = [{"to": {"users": [user]}, "type": "count", "data": {"n": n, "pad": "x" * 300}} for n in numbers]
    for start in range(0, len(items), 1_000):
        answer = await sender.post("/notify/batch", json=items[start : start + 1_000], timeout=30)
        assert answer.status_code == 202


async def is_in_state(replica: Replica, user: str, state: str) -> bool:
    return [each["state"] for each in await sessions_of(replica.operations_url, user)] == [state]


async def has_none(replica: Replica, user: str) -> bool:
    return await sessions_of(replica.operations_url, user) == []


async def has_open_files(replica: Replica, at_most: int) -> bool:
    return open_files(replica) <= at_most


async def is_forgotten(replica: Replica, client_port: int) -> bool:
    """Whether the kernel keeps no connection of the replica to this port, as `ss` would show it."""
    return not any(
        row[1].endswith(f":{replica.port:04X}") and row[2].endswith(f":{client_port:04X}") for row in sockets()
    )


def sockets() -> list[list[str]]:
    """The connections that the kernel knows; the first fields are number, local and remote address."""
    return [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]


def resident_bytes(replica: Replica) -> int:
    return int(Path(f"/proc/{replica.process.pid}/statm").read_text().split()[1]) * 4_096


def open_files(replica: Replica) -> int:
    """Open files of the replica, as the system counts them."""
    return len(list(Path(f"/proc/{replica.process.pid}/fd").iterdir()))
