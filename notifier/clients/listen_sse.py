"""Receiving notifications as a stream of events, where WebSockets are blocked: otherwise as `listen.py` does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
from websockets.exceptions import InvalidHandshake

from notifier.clients.listen import Connection, Listener

ELSEWHERE: Final = 4001
SILENCE_SECONDS: Final = 60.0  # Over two heartbeats of 25 s: the service is gone, or somebody in between holds it back.


class NotAStream(InvalidHandshake):
    """The service answered with something else."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(f"server rejected the stream: HTTP {response.status_code}")
        self.response = response


class EventListener(Listener):
    """The same as `Listener`, by `GET /events`; the URL is `http://…/events`."""

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        url, token = self._next_address()
        headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
        try:
            async with (
                httpx.AsyncClient(timeout=SILENCE_SECONDS) as client,
                client.stream("GET", url, headers=headers) as response,
            ):
                if response.status_code != 200:
                    raise NotAStream(response)
                yield _Events(response)
        except httpx.TransportError as error:
            raise OSError(str(error) or type(error).__name__) from error


class _Events:
    """Iterate over it for messages. A heartbeat, which is an id alone here, becomes one as well."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.close_code: int | None = None  # Set by the last message, where it has one.
        self.close_reason: str | None = None

    async def __aiter__(self) -> AsyncIterator[str]:
        fields: dict[str, str] = {}
        async for line in self._lines():
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            if line:
                continue
            if "data" in fields:
                self._note_end(fields["data"])
                yield fields["data"]
            elif "id" in fields:
                yield json.dumps({"type": "heartbeat", "position": fields["id"]})
            fields = {}

    async def _lines(self) -> AsyncIterator[str]:
        """By LF: httpx would split at U+2028 as well, which may stand in a text."""
        rest = b""
        async for part in self._response.aiter_bytes():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                yield line.decode()

    def _note_end(self, data: str) -> None:
        if data.startswith('{"type":"error"'):
            frame = json.loads(data)
            self.close_code, self.close_reason = frame.get("close_code"), frame["code"]
        elif data.startswith('{"type":"reconnect"'):
            self.close_code, self.close_reason = ELSEWHERE, json.loads(data)["reason"]
