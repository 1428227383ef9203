"""A client of event streams for tests: reads them strictly (HTML, 9.2.6), and waits for each event with a deadline."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.frame_schemas import check_frame
from tests.service.client import DEADLINE_SECONDS
from tests.tokens import token

ACCEPT = {"Accept": "text/event-stream"}
FIELDS = frozenset({"id", "data", "retry"})


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two empty lines."""

    id: str | None = None
    data: str | None = None
    retry: str | None = None

    @property
    def frame(self) -> dict[str, Any]:
        assert self.data is not None, self
        frame: dict[str, Any] = json.loads(self.data)
        check_frame(frame, channel="stream")
        return frame


class Stream:
    """One open stream; `last_id` is what a browser would come back with."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.headers: Mapping[str, str] = response.headers
        self.last_id = ""
        self.welcome: dict[str, Any] = {}
        self._lines = _lines(response)

    async def block(self) -> Block:
        """The next block, whatever it says. Raises EOFError at the orderly end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for line in self._lines:
                if not line:
                    block = Block(**fields)
                    self.last_id = block.id or self.last_id
                    return block
                name, colon, value = line.partition(": ")
                assert colon, line
                assert name in FIELDS - fields.keys(), line
                fields[name] = value
        assert not fields
        raise EOFError

    async def frame(self, kind: str | None = None) -> dict[str, Any]:
        """The next message, past heartbeats and pauses, of this type if one is given."""
        while True:
            block = await self.block()
            if block.data is not None:
                assert kind is None or block.frame["type"] == kind, block
                return block.frame

    async def titles(self, count: int) -> list[str]:
        """Of the next notifications."""
        return [(await self.frame("notification"))["notification"]["title"] for _ in range(count)]

    async def rest(self) -> list[dict[str, Any]]:
        """Every message up to the orderly end."""
        frames: list[dict[str, Any]] = []
        try:
            while True:
                frames.append(await self.frame())
        except EOFError:
            return frames


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """By LF alone: httpx would split at U+2028 as well."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode()
    assert not rest


@asynccontextmanager
async def stream(
    url: str,
    user: str = "alice",
    *,
    ticket: str | None = None,
    position: str | None = None,
    last_id: str | None = None,
    topics: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    is_read: bool = True,
    **claims: Any,
) -> AsyncIterator[Stream]:
    """Open a stream with a token of the user, or with a ticket, and read the welcome, unless `is_read` is False."""
    query = {"position": position, "topics": ",".join(topics) or None, "ticket": ticket}
    sent = {**ACCEPT, **(headers or {})} | ({} if last_id is None else {"Last-Event-ID": last_id})
    if ticket is None:
        sent["Authorization"] = f"Bearer {token(user, **claims)}"
    given = {name: value for name, value in query.items() if value is not None}
    async with (
        httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client,
        client.stream("GET", f"{url}/events", params=given, headers=sent) as response,
    ):
        if response.status_code != 200:
            await response.aread()
            raise AssertionError(f"expected a stream, got {response.status_code}: {response.text}")
        opened = Stream(response)
        if is_read:
            opened.welcome = await opened.frame("welcome")
        yield opened


async def refused(url: str, *, params: Mapping[str, str] | None = None, headers: Mapping[str, str]) -> httpx.Response:
    """The whole answer to a client that is not let in."""
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
        return await client.get(f"{url}/events", params=params, headers=headers)


async def ticket_of(url: str, bearer: Mapping[str, str], **wanted: Any) -> str:
    """A ticket for the bearer, or for whom it names."""
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
        answer = await client.post(f"{url}/ticket", headers=bearer, json=wanted or None)
    assert answer.status_code == 200, answer.text
    ticket: str = answer.json()["ticket"]
    return ticket


@asynccontextmanager
async def raw(
    port: int, user: str, *, version: str = "1.1", receive_buffer_bytes: int = 65_536
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A request for a stream, sent; nothing is read."""
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    small.connect(("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=small, limit=receive_buffer_bytes)
    head = f"GET /events HTTP/{version}\r\nHost: 127.0.0.1:{port}\r\n"
    writer.write(f"{head}Authorization: Bearer {token(user)}\r\n\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def messages(body: str) -> list[dict[str, object]]:
    return [json.loads(line.removeprefix("data: ")) for line in body.split("\n") if line.startswith("data: ")]


def unchunked(body: bytes) -> str:
    """The body of a chunked answer, read strictly."""
    parts: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        if (length := int(size, 16)) == 0:
            assert rest == b"\r\n"
            return b"".join(parts).decode()
        parts.append(rest[:length])
        assert rest[length : length + 2] == b"\r\n"
        body = rest[length + 2 :]
