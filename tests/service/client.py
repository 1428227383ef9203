"""A plain WebSocket client for tests: frames as they come, each waited for with a deadline."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.frame_schemas import check_frame
from tests.tokens import token

DEADLINE_SECONDS = 10.0
PROTOCOL = "notifier.v1"


class Client:
    """One open session, past its welcome."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.welcome: dict[str, Any] = {}

    async def frame(self, kind: str | None = None) -> dict[str, Any]:
        """The next frame; with `kind`, the next of this type, past heartbeats."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                frame: dict[str, Any] = json.loads(await self.connection.recv())
                check_frame(frame)
                if kind is None or frame["type"] == kind:
                    return frame
                if frame["type"] != "heartbeat":
                    raise AssertionError(f"expected {kind}, got {frame}")

    async def notification(self) -> dict[str, Any]:
        """The notification in the next frame, which is one."""
        frame = await self.frame("notification")
        content: dict[str, Any] = frame["notification"]
        return content

    async def say(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def drained(self) -> list[dict[str, Any]]:
        """Every frame written up to now: a ping is answered behind them."""
        await self.say(type="ping", ref="drained")
        frames: list[dict[str, Any]] = []
        while (frame := await self.frame()) != {**frame, "type": "pong", "ref": "drained"}:
            frames.append(frame)
        return [frame for frame in frames if frame["type"] != "heartbeat"]

    async def closed(self) -> tuple[int, str]:
        """Read to the end; the close code and reason."""
        _, code, reason = await self.rest()
        return code, reason

    async def rest(self) -> tuple[list[dict[str, Any]], int, str]:
        """Every frame up to the end, heartbeats left out; then the close code and reason."""
        frames: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    frame = json.loads(await self.connection.recv())
                    check_frame(frame)
                    if frame["type"] != "heartbeat":
                        frames.append(frame)
        except ConnectionClosed as end:
            return (frames, end.rcvd.code, end.rcvd.reason) if end.rcvd else (frames, 1006, "")

    async def abort(self) -> None:
        """Be gone without a word, as when a cable is pulled and the system resets the connection."""
        self.connection.transport.abort()
        await self.connection.wait_closed()


@asynccontextmanager
async def session(
    ws_url: str,
    user: str = "alice",
    *,
    position: str | None = None,
    topics: Sequence[str] = (),
    origin: str | None = None,
    receive_buffer_bytes: int | None = None,
    **claims: Any,
) -> AsyncIterator[Client]:
    """Connect with a token in the subprotocol, as a browser does, and read the welcome.

    `receive_buffer_bytes` makes a client that takes no more from the network than the test asks of it, and that much.
    """
    query = {"topics": ",".join(topics)} if topics else {}
    if position is not None:
        query["position"] = position
    async with connect(
        f"{ws_url}?{urlencode(query)}",
        subprotocols=[PROTOCOL, f"bearer.{token(user, **claims)}"],  # type: ignore[list-item]
        origin=origin,  # type: ignore[arg-type]
        max_queue=1 if receive_buffer_bytes else None,
        sock=_small_socket(ws_url, receive_buffer_bytes) if receive_buffer_bytes else None,
        ping_interval=None,
        close_timeout=1,
    ) as connection:
        client = Client(connection)
        client.welcome = await client.frame("welcome")
        yield client


@asynccontextmanager
async def bare(
    ws_url: str,
    *,
    subprotocols: Sequence[str] = (PROTOCOL,),
    query: Mapping[str, str] | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> AsyncIterator[Client]:
    """Connect with exactly this, and read nothing yet."""
    async with connect(
        f"{ws_url}?{urlencode(query)}" if query else ws_url,
        subprotocols=list(subprotocols) or None,  # type: ignore[arg-type]
        additional_headers=list(headers),
        ping_interval=None,
        close_timeout=1,
    ) as connection:
        yield Client(connection)


async def refusal(ws_url: str, **handshake: Any) -> tuple[int, dict[str, Any], Mapping[str, str]]:
    """The status, problem and headers with which a handshake is refused over plain HTTP; arguments as for `bare`."""
    try:
        async with bare(ws_url, **handshake) as client:
            raise AssertionError(f"expected a refusal, got {await client.rest()}")
    except InvalidStatus as refused:
        headers = {name.lower(): value for name, value in refused.response.headers.raw_items()}
        assert headers["content-type"] == "application/problem+json"
        return refused.response.status_code, json.loads(refused.response.body or b""), headers


async def eventually(holds: Callable[[], Awaitable[bool]], within_seconds: float = DEADLINE_SECONDS) -> None:
    """Return as soon as it holds."""
    async with asyncio.timeout(within_seconds):
        while not await holds():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)


async def sessions_of(operations_url: str, user: str, tenant: str = "default") -> list[dict[str, Any]]:
    """The sessions of a user, as the operations port tells."""
    async with httpx.AsyncClient(base_url=operations_url, verify=False) as operator:
        answer = await operator.get("/sessions", params={"user": user, "tenant": tenant})
    found: list[dict[str, Any]] = answer.json()["sessions"]
    return found


def complaints(log_path: Path) -> list[str]:
    """The lines of a log that say that something is wrong with the service; a line that is no JSON is one."""
    return [line for line in log_path.read_text().splitlines() if not _is_calm(line)]


def _is_calm(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return entry["level"] in ("debug", "info", "warning") and "Traceback" not in line


def _small_socket(ws_url: str, receive_buffer_bytes: int) -> socket.socket:
    address = urlsplit(ws_url)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    small.connect((address.hostname, address.port))
    return small
