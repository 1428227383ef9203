"""A session as a stream of events (`GET /events`), on httpx alone; it passes where WebSockets are blocked."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import httpx

from notifier.clients.errors import read_problem
from notifier.clients.patience import asked_seconds
from notifier.clients.sessions import LOST, Ended, Unreachable, refusal
from notifier.clients.tls import told

# Silence is for whoever listens to judge; the rest is for the way there.
TIMEOUT: Final = httpx.Timeout(10.0, read=None)
TOLD_TO_LEAVE: Final = 4001


@asynccontextmanager
async def event_stream(
    url: str, token: str, query: Mapping[str, str], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator["EventStream"]:
    """Open a stream at the service `url`; `tls` says whom to trust. Raises Ended, Unreachable, ValueError."""
    headers = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT, verify=tls or True) as client,
            client.stream("GET", f"{url}/events", params=dict(query), headers=headers) as response,
        ):
            if response.status_code != 200:
                problem = read_problem(await response.aread())
                raise refusal(response.status_code, problem.get("code"), asked_seconds(response) or None)
            yield EventStream(response)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ValueError(f"{url}: {error}") from error
    except httpx.TransportError as error:
        raise Unreachable(f"{url}: {told(error)}") from error


class EventStream:
    """The frames of one stream. A heartbeat, which is an id alone here, becomes a frame as well."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = _lines(response)
        self._end = Ended(LOST, "the stream ended")

    async def frame(self) -> str:
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            if line:
                continue
            if "data" in fields:
                self._note_end(fields["data"])
                return fields["data"]
            if "id" in fields:
                return json.dumps({"type": "heartbeat", "position": fields["id"]})
            fields = {}
        raise self._end

    async def renew(self, token: str) -> bool:  # noqa: ARG002 - a stream cannot be told anything
        return False

    def _note_end(self, data: str) -> None:
        """A stream has no close codes, and says with its last words what a socket would have closed with."""
        if data.startswith('{"type":"error"'):
            frame = json.loads(data)
            self._end = Ended(frame.get("close_code") or LOST, frame["code"])
        elif data.startswith('{"type":"reconnect"'):
            self._end = Ended(TOLD_TO_LEAVE, json.loads(data)["reason"])


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """By LF: httpx would split at U+2028 as well, which may stand in a text."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield line.decode()
