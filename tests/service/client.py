"""A plain WebSocket client for tests: frames as they come, each waited for with a deadline."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

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
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    await self.connection.recv()
        except ConnectionClosed as end:
            return (end.rcvd.code, end.rcvd.reason) if end.rcvd else (1006, "")


@asynccontextmanager
async def session(
    ws_url: str,
    user: str = "alice",
    *,
    position: str | None = None,
    topics: Sequence[str] = (),
    origin: str | None = None,
    **claims: Any,
) -> AsyncIterator[Client]:
    """Connect with a token in the subprotocol, as a browser does, and read the welcome."""
    query = {"topics": ",".join(topics)} if topics else {}
    if position is not None:
        query["position"] = position
    async with connect(
        f"{ws_url}?{urlencode(query)}",
        subprotocols=[PROTOCOL, f"bearer.{token(user, **claims)}"],  # type: ignore[list-item]
        origin=origin,  # type: ignore[arg-type]
        max_queue=None,
    ) as connection:
        client = Client(connection)
        client.welcome = await client.frame("welcome")
        yield client
