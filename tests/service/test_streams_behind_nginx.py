"""Streams of events through a real nginx, as Debian ships it with `proxy_pass` alone, and as set up for WebSockets."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.nginx import AS_SHIPPED, CONFIGURATION, nginx
from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, eventually, sessions_of
from tests.service.events import stream, ticket_of
from tests.tokens import bearer, token


@pytest.mark.parametrize("template", [AS_SHIPPED, CONFIGURATION], ids=["as shipped", "for sockets"])
async def test_nothing_is_held_back(
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

        async def is_there() -> bool:
            return bool(await sessions_of(replica.operations_url, "carl"))

        await eventually(is_there)
        await backend.post("/notify", json={"to": {"users": ["carl"]}, "type": "t", "title": "hello"})
        async with asyncio.timeout(DEADLINE_SECONDS):
            lines = [(await curl.stdout.readline()).decode() for _ in range(7)]
    finally:
        curl.kill()
        await curl.wait()

    assert [line.partition(":")[0].strip() for line in lines] == ["retry", "", "id", "data", "", "id", "data"]
    assert '"title":"hello"' in lines[-1]
