"""What the kernel tells of a client: on a line that is slow, that is frozen, and that is neither."""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from notifier.transports.kernel import Sent, sent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
SO_MAX_PACING_RATE = 47  # Of asm-generic/socket.h; Python has no name for it.
PACE = 40_000
CONTENT = b"x" * 30_000


@asynccontextmanager
async def line(*, pace: int | None = None, receive_buffer_bytes: int = 65_536) -> AsyncIterator[asyncio.Transport]:
    """A connection to a client that reads nothing, at a pace in bytes a second."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_448)
        client.connect(server.getsockname())
        ours, _ = server.accept()
        if pace is not None:
            ours.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, pace)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
        try:
            yield transport
        finally:
            transport.abort()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(0.01)  # Between two looks.


async def test_a_line_that_is_slow_takes_some_of_what_waited() -> None:
    async with line(pace=PACE) as transport:
        transport.write(CONTENT)
        before = sent(transport)
        assert before is not None
        await until(lambda: (now := sent(transport)) is None or now.confirmed > before.confirmed)
        now = sent(transport)
        await until(lambda: sent(transport) is None)

    assert now is not None
    assert (before.written, now.written) == (len(CONTENT), len(CONTENT))
    assert now.is_being_taken(before)
    assert before.at < now.at <= time.monotonic()


async def test_of_what_waits_for_a_client_that_reads_nothing_none_is_taken() -> None:
    async with line(receive_buffer_bytes=4_096) as transport:
        transport.write(CONTENT)
        looks: list[int] = []

        def is_full() -> bool:
            now = sent(transport)
            looks.append(0 if now is None else now.confirmed)
            return looks[-20:] == [looks[-1]] * 20

        await until(is_full)
        before = sent(transport)
        transport.write(b"heartbeat")
        now = sent(transport)

    assert before is not None
    assert now is not None
    assert now.written == before.written + len(b"heartbeat") == len(CONTENT) + len(b"heartbeat")
    assert not now.is_being_taken(before)


def test_what_is_confirmed_of_later_writes_is_no_sign_that_older_ones_were_waiting() -> None:
    """A frozen process, whose kernel has room: each heartbeat is confirmed."""
    before, taken, later = Sent(0.0, 100, 150), Sent(25.0, 150, 180), Sent(25.0, 160, 180)

    assert not taken.is_being_taken(before)
    assert not later.is_being_taken(before)
    assert Sent(25.0, 149, 180).is_being_taken(before)


async def test_nothing_is_told_where_nothing_waits_or_the_connection_is_gone() -> None:
    async with line() as transport:
        assert sent(transport) is None

    assert sent(transport) is None
