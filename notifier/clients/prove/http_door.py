"""Sending over HTTP: `POST /notify` on connections that stay open.

It speaks HTTP itself: 500 sends a second must leave room on a core for what is received, and httpx takes twenty times
the CPU for each (2.3 ms against 0.11 ms in one run, with other work on the machine).
"""

import asyncio
import json
import ssl
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

from notifier.clients.prove.answers import Answer, Item
from notifier.clients.prove.tokens import Tokens

ATTEMPT_SECONDS: Final = 10.0
READ_BYTES: Final = 65_536
PASSING_STATUSES: Final = (408, 425, 429)


class Response:
    """One answer, filled in by httptools while it is read."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.is_complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


class Connection:
    """One kept-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._is_idle = True  # Between requests, and willing to take another.

    @property
    def is_reusable(self) -> bool:
        """Whether another request may go out on it."""
        return self._is_idle and not self._reader.at_eof()

    async def post(self, request: bytes) -> Response:
        """Send one request and read its answer. Raises OSError or HttpParserError."""
        self._is_idle = False
        self._writer.write(request)
        response = Response()
        parser = httptools.HttpResponseParser(response)
        while not response.is_complete:
            data = await self._reader.read(READ_BYTES)
            if not data:
                raise ConnectionResetError("closed in the middle of an answer")
            parser.feed_data(data)
        response.status = parser.get_status_code()
        self._is_idle = response.headers.get(b"connection", b"").lower() != b"close"
        return response

    def close(self) -> None:
        self._writer.transport.abort()


class HttpDoor:
    """Posts to one url after the other.

    Args:
        urls: read at every attempt, so that they can change.
        tokens: of the callers.
    """

    def __init__(self, urls: Sequence[str], tokens: Tokens, *, tls: ssl.SSLContext) -> None:
        self._urls = urls
        self._tokens = tokens
        self._tls = tls
        self._idle: dict[str, list[Connection]] = {}
        self._refused_tokens: dict[str, str] = {}  # By caller: refused since it last had another answer than 401.

    async def attempt(self, item: Item, turn: int, /) -> Answer:
        if not self._urls:
            return Answer("none", "no url", "")
        url = self._urls[turn % len(self._urls)]
        token = await self._tokens.get(item.caller, other_than=self._refused_tokens.get(item.caller))
        connection: Connection | None = None
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                connection = await self._connection(url)
                response = await connection.post(_request(item, url, token))
        except (OSError, httptools.HttpParserError, TimeoutError) as error:
            return Answer("none", type(error).__name__, url)
        finally:
            self._put_back(url, connection)
        return self._judge(item.caller, token, url, response)

    async def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _connection(self, url: str) -> Connection:
        idle = self._idle.setdefault(url, [])
        while idle:
            if (connection := idle.pop()).is_reusable:
                return connection
            connection.close()
        parts = urlsplit(url)
        tls = self._tls if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        return Connection(*await asyncio.open_connection(parts.hostname, port, ssl=tls))

    def _put_back(self, url: str, connection: Connection | None) -> None:
        """Keep a connection whose request is over; one that was left in the middle of it is of no use."""
        if connection is not None and connection.is_reusable:
            self._idle[url].append(connection)
        elif connection is not None:
            connection.close()

    def _judge(self, caller: str, token: str, url: str, response: Response) -> Answer:
        status = response.status
        if status == 401 and caller not in self._refused_tokens:
            self._refused_tokens[caller] = token  # It may have expired: the next attempt asks for a fresh one.
            return Answer("none", "401", url)
        if status != 401:
            self._refused_tokens.pop(caller, None)
        if status == 202:
            return Answer("accepted", "202", url, json.loads(response.body)["id"])
        if status >= 500 or status in PASSING_STATUSES:
            after = response.headers.get(b"retry-after", b"")
            return Answer("none", str(status), url, after_seconds=float(after) if after.isdigit() else 0.0)
        return Answer("refused", f"{status} {response.body[:300].decode(errors='replace')}", url)


def _request(item: Item, url: str, token: str) -> bytes:
    audience = item.audience
    to: dict[str, Any] = {"users": audience.users, "topics": audience.topics, "everyone": audience.everyone}
    body = json.dumps({"to": to, **item.body}).encode()
    parts = urlsplit(url)
    head = [
        f"POST {parts.path}/notify HTTP/1.1",
        f"Host: {parts.netloc.rpartition('@')[2]}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Idempotency-Key: {item.key}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
