"""Streams of events on the wire: through a real nginx, to curl, over HTTP/1.0, and with requests sent ahead."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.nginx import AS_SHIPPED, CONFIGURATION, nginx
from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, eventually, sessions_of
from tests.service.events import messages, raw, stream, ticket_of, unchunked
from tests.tokens import bearer, token


@pytest.mark.parametrize("template", [AS_SHIPPED, CONFIGURATION], ids=["as shipped", "for sockets"])
async def test_nginx_holds_nothing_back(
    tmp_path: Path, replica: Replica, backend: httpx.AsyncClient, template: str
) -> None:
    """One small event at a time: nginx buffers answers, and the header X-Accel-Buffering has it not do so."""
    with nginx(replica.port, tmp_path, template=template) as port:
        url = f"http://127.0.0.1:{port}"
        async with stream(url, ticket=await ticket_of(url, bearer("nina"))) as listening:
            for title in ("one", "two", "three"):
                await backend.post("/notify", json={"to": {"users": ["nina"]}, "type": "t", "title": title})
                assert await listening.titles(1) == [title]
            assert listening.headers["content-type"] == "text/event-stream"
            assert "content-encoding" not in listening.headers

        async def is_gone() -> bool:
            return not await sessions_of(replica.operations_url, "nina")

        await eventually(is_gone)  # nginx lets go of the stream when its client has.


async def test_curl_reads_a_stream(replica: Replica, backend: httpx.AsyncClient) -> None:
    """As the protocol page has it."""
    command = ["curl", "--no-buffer", "--silent", "--header", f"Authorization: Bearer {token('carl')}"]
    curl = await asyncio.create_subprocess_exec(*command, f"{replica.url}/events", stdout=asyncio.subprocess.PIPE)
    try:
        assert curl.stdout is not None

        await eventually(lambda: is_open(replica, "carl"))
        await backend.post("/notify", json={"to": {"users": ["carl"]}, "type": "t", "title": "hello"})
        async with asyncio.timeout(DEADLINE_SECONDS):
            lines = [(await curl.stdout.readline()).decode() for _ in range(7)]
    finally:
        curl.kill()
        await curl.wait()

    assert [line.partition(":")[0].strip() for line in lines] == ["retry", "", "id", "data", "", "id", "data"]
    assert '"title":"hello"' in lines[-1]


async def test_what_follows_the_request_is_not_answered_nor_kept(replica: Replica, backend: httpx.AsyncClient) -> None:
    """A stream is the last answer on its connection: no request can hide behind it, and a flood is cut."""
    async with raw(replica.port, "more") as (reader, writer):
        await eventually(lambda: is_open(replica, "more"))
        writer.write(b"POST /notify HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await backend.post("/notify", json={"to": {"users": ["more"]}, "type": "t", "title": "heard"})
        async with asyncio.timeout(DEADLINE_SECONDS):
            answered = await reader.readuntil(b'"title":"heard"')
        with pytest.raises(OSError):  # noqa: PT011 - a reset, or a broken pipe
            await _write_until_cut(writer)

    assert answered.count(b"HTTP/1.1 ") == 1


async def test_http_1_0_gets_no_chunks_and_1_1_gets_an_orderly_end(replica: Replica) -> None:
    """RFC 9112, 6.1 and 7.1."""
    async with raw(replica.port, "old", version="1.0") as (old, _), raw(replica.port, "new") as (new, _):
        await eventually(lambda: is_open(replica, "old"))
        await eventually(lambda: is_open(replica, "new"))
        async with httpx.AsyncClient(base_url=replica.operations_url) as operator:
            await operator.post("/rebalance?fraction=1")
        async with asyncio.timeout(DEADLINE_SECONDS):
            plain, chunked = (await old.read()).decode(), await new.read()

    head, _, body = plain.partition("\r\n\r\n")
    assert "transfer-encoding" not in head.lower()
    assert [frame["type"] for frame in messages(body)] == ["welcome", "reconnect"]
    head, _, rest = chunked.decode().partition("\r\n\r\n")
    assert "transfer-encoding: chunked" in head
    assert rest.endswith("\n\n\r\n0\r\n\r\n")
    assert [frame["type"] for frame in messages(unchunked(rest.encode()))] == ["welcome", "reconnect"]


async def is_open(replica: Replica, user: str) -> bool:
    return bool(await sessions_of(replica.operations_url, user))


async def _write_until_cut(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
