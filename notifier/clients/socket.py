"""A session over a WebSocket (`/ws`); needs websockets."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from notifier.clients.errors import read_problem
from notifier.clients.patience import asked_seconds
from notifier.clients.sessions import LOST, Ended, Unreachable, refusal
from notifier.clients.tls import told

PROTOCOL: Final = "notifier.v1"


@asynccontextmanager
async def socket(
    url: str, token: str, query: Mapping[str, str], *, tls: ssl.SSLContext | None = None
) -> AsyncIterator["Socket"]:
    """Open a socket at the service `url`; `tls` says whom to trust. Raises Ended, Unreachable, ValueError."""
    address = f"{url.replace('http', 'ws', 1)}/ws"
    try:
        connection = await connect(
            f"{address}?{urlencode(query)}" if query else address,
            subprotocols=[PROTOCOL],  # type: ignore[list-item]  # a NewType of str
            additional_headers={"Authorization": f"Bearer {token}"},
            ssl=(tls or True) if address.startswith("wss") else None,
            ping_interval=None,  # The service pings.
            close_timeout=1,
        )
    except InvalidStatus as error:
        answer = httpx.Response(error.response.status_code, headers=list(error.response.headers.raw_items()))
        problem = read_problem(bytes(error.response.body or b""))
        raise refusal(answer.status_code, problem.get("code"), asked_seconds(answer) or None) from error
    except InvalidURI as error:
        raise ValueError(str(error)) from error
    except (InvalidHandshake, OSError, TimeoutError) as error:
        raise Unreachable(f"{address}: {told(error)}") from error
    async with connection:
        yield Socket(connection)


class Socket:
    """The frames of one socket."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def frame(self) -> str:
        try:
            return await self._connection.recv(decode=True)
        except ConnectionClosed as end:
            raise (Ended(end.rcvd.code, end.rcvd.reason) if end.rcvd else Ended(LOST, "connection lost")) from None

    async def renew(self, token: str) -> bool:
        try:
            await self._connection.send(json.dumps({"type": "refresh", "token": token}))
        except ConnectionClosed:
            return False
        return True
