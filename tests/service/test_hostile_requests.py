"""Requests without end: a head, trailers, or nothing at all; each is cut, and the next good request works."""

import asyncio
import resource
import time
from pathlib import Path

import httpx

from tests.replica import Replica

DEADLINE_SECONDS = 20.0
MIB = 1024 * 1024


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


async def test_a_connection_that_never_finishes_its_first_head_is_closed(replica: Replica) -> None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost:")

    async with asyncio.timeout(DEADLINE_SECONDS):
        rest = await reader.read()

    assert rest == b""
    assert time.monotonic() - began > 5
    writer.close()
