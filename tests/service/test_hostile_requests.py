"""Requests without end: a head, trailers, or nothing at all; each is cut, and the next good request works."""

import asyncio
import os
import resource
import time
from contextlib import suppress
from pathlib import Path

import httpx

from tests.replica import Replica
from tests.service.client import session

DEADLINE_SECONDS = 20.0
MIB = 1024 * 1024
EACH = 330 if os.environ.get("NOTIFIER_TEST_FULL") == "1" else 15
GONE_SECONDS = 15.0


async def flood(replica: Replica, begin: bytes, chunk: bytes, *, most_bytes: int) -> tuple[int, bytes]:
    """Send the beginning, then the chunk again and again until cut. Returns what was sent, and the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    sent, answer = 0, b""
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            writer.write(begin)
            while sent < most_bytes:
                writer.write(chunk)
                sent += len(chunk)
                await writer.drain()
            answer = await reader.read()
    except ConnectionError:
        answer = b"" if reader.at_eof() else await _rest(reader)
    finally:
        writer.close()
    return sent, answer


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


def resident_bytes(replica: Replica) -> int:
    """What the replica's process holds in memory."""
    pages = int(Path(f"/proc/{replica.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def is_well(replica: Replica) -> bool:
    async with httpx.AsyncClient(verify=False) as client:
        return (await client.post(f"{replica.url}/notify")).status_code == 401


async def test_a_head_without_end_is_not_collected(replica: Replica) -> None:
    before = resident_bytes(replica)

    await flood(replica, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 65_536, most_bytes=200 * MIB)

    assert resident_bytes(replica) - before < 50 * MIB
    assert await is_well(replica)


async def test_a_head_just_over_the_limit_is_told_so(replica: Replica) -> None:
    _, answer = await flood(replica, b"GET / HTTP/1.1\r\nHost: x\r\nX: ", b"a" * 66_000, most_bytes=66_000)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code": "headers_too_large"' in answer
    assert await is_well(replica)


async def test_headers_over_their_limit_together_are_told_so(replica: Replica) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.get(f"{replica.url}/ws", headers={"X-Much": "a" * 40_000})

    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    assert await is_well(replica)


async def test_trailers_without_end_are_cut(replica: Replica) -> None:
    begin = b"POST /notify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    sent, _ = await flood(replica, begin, b"a: " + b"b" * 60_000 + b"\r\n", most_bytes=200 * MIB)

    assert sent < 100 * MIB
    assert await is_well(replica)


GET = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: notifier.v1\r\n\r\n"
)
# What a client says, in two parts, and then nothing more.
UNFINISHED = {
    "silent": (b"", b""),
    "half a head": (b"GET /ws HTTP/1.1\r\nHost:", b""),
    "half a second head": (GET, b"GET /ws HTTP/1.1\r\nHost:"),
    "the body of what was answered": (b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"{"),
    "no token": (UPGRADE, b""),
    "half a frame": (UPGRADE, b"\x81"),
}


async def lasted_seconds(replica: Replica, first: bytes, second: bytes) -> float:
    """How long a client is endured that begins, and goes no further."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            writer.write(first)
            if second:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(second)
            with suppress(ConnectionError):
                while await reader.read(65_536):
                    pass
    finally:
        writer.close()
    return time.monotonic() - began


async def test_who_begins_and_goes_no_further_is_gone_in_time_and_delays_nobody(replica: Replica) -> None:
    """T-34; checklist 3.1.6, 3.1.12, 3.3.27; sharp edges 2.1 (no header or request time-out)."""
    handshakes: list[float] = []

    async def enter_now_and_then() -> None:
        while True:
            began = time.monotonic()
            async with session(replica.ws_url, "brisk"):
                handshakes.append(time.monotonic() - began)
            await asyncio.sleep(0.05)  # The pace of the look.

    entering = asyncio.create_task(enter_now_and_then())
    crowd = [asyncio.gather(*[lasted_seconds(replica, *said) for _ in range(EACH)]) for said in UNFINISHED.values()]
    lasted = dict(zip(UNFINISHED, map(max, await asyncio.gather(*crowd)), strict=True))
    entering.cancel()

    assert {name: seconds for name, seconds in lasted.items() if seconds > GONE_SECONDS} == {}
    assert min(lasted.values()) > 4
    assert sorted(handshakes)[int(len(handshakes) * 0.99)] < 1
