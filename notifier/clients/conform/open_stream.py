"""A session as a stream of events (HTML, 9.2) whose every frame is held against its schema."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from notifier.clients.conform.check import Broken, expect, within
from notifier.clients.conform.open_session import bearer, read_frame
from notifier.clients.conform.target import ANSWER_SECONDS, Answer, Target


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two empty lines: its fields by name, and the frame in its data; None without data."""

    fields: Mapping[str, str]
    frame: dict[str, Any] | None


class Stream:
    """One open stream."""

    def __init__(self, target: Target, response: httpx.Response) -> None:
        self._target = target
        self._lines = _lines(response)
        self.answer = Answer(response.status_code, response.headers, b"")

    async def block(self, *, within_seconds: float = ANSWER_SECONDS) -> Block:
        """The next one that has a field. Raises Broken where none comes."""
        fields: dict[str, str] = {}
        async with within(within_seconds, "an event"):
            async for line in self._lines:
                name, _, value = line.partition(":")
                text = value.removeprefix(" ")
                if name == "data" and name in fields:
                    fields[name] += f"\n{text}"
                elif name:  # A line that begins with a colon is a comment.
                    fields[name] = text
                elif not line and fields:
                    data = fields.get("data")
                    return Block(fields, None if data is None else read_frame(self._target, data))
        raise Broken("an event", "the end of the stream")

    async def hear(self, kind: str) -> Block:
        """The next block with a frame of this type."""
        async with within(ANSWER_SECONDS, kind):
            while True:
                block = await self.block()
                if block.frame is not None and block.frame["type"] == kind:
                    return block
                expect(block.frame is None or block.frame["type"] not in ("error", "reconnect"), kind, block.frame)


@asynccontextmanager
async def stream(
    target: Target, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> AsyncIterator[Stream]:
    """Open a stream; with the token in the header, unless the query has a ticket. Raises Broken where it is refused."""
    query = dict(query or {})
    told = {"Accept": "text/event-stream", **(headers or {}), **({} if "ticket" in query else bearer(target.token))}
    try:
        async with (
            httpx.AsyncClient(timeout=httpx.Timeout(ANSWER_SECONDS, read=None), verify=target.tls or True) as client,
            client.stream("GET", f"{target.url}/events", params=query, headers=told) as response,
        ):
            if response.status_code != 200:
                raise Broken("200", Answer(response.status_code, response.headers, await response.aread()))
            yield Stream(target, response)
    except httpx.TransportError as error:
        raise Broken("a stream", str(error) or type(error).__name__) from error


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """By LF, which is how the protocol ends them: httpx would split at U+2028 as well."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
