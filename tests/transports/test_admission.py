"""Somebody whose token is revoked between its check and its session, moment by moment: over ASGI, in this process."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest

from notifier.app import Service
from notifier.settings import Settings
from tests.tokens import bearer, token

ALICE = {"extra": {"jti": "hers"}}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A replica without a server."""
    service = Service(Settings(insecure=True))
    async with service.api.router.lifespan_context(service.api):
        yield service


class Wire:
    """What the server beneath would be; it has Alice's token revoked while the first message of its kind is sent."""

    def __init__(self, service: Service, revokes_at: str) -> None:
        self._service = service
        self._revokes_at: str | None = revokes_at
        self.sent: list[MutableMapping[str, Any]] = []
        self._incoming = [{"type": "websocket.connect"}, {"type": "http.request"}]

    async def receive(self) -> MutableMapping[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)
        if message["type"] == self._revokes_at:
            self._revokes_at = None
            await self._revoke()

    async def _revoke(self) -> None:
        headers = bearer("security", scopes=["notify:revoke"])
        transport = httpx.ASGITransport(self._service.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
            assert (await client.post("/revocations", json={"token_id": "hers"})).status_code == 202


def _scope(kind: str, path: str, **more: Any) -> dict[str, Any]:
    headers = [(b"host", b"x"), (b"authorization", f"Bearer {token('alice', **ALICE)}".encode())]
    common = {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers}
    return {"type": kind, "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("x", 80), **common, **more}


async def test_a_socket_that_was_being_accepted_is_closed_and_gives_its_seat_back(service: Service) -> None:
    """T-54."""
    wire = Wire(service, "websocket.accept")

    scope = _scope("websocket", "/ws", scheme="ws", subprotocols=["notifier.v1"])
    async with asyncio.timeout(5):
        await service.api(scope, wire.receive, wire.send)

    assert [(message["type"], message.get("code")) for message in wire.sent] == [
        ("websocket.accept", None),
        ("websocket.close", 4403),
    ]
    assert (len(service.hub), len(service.counts.seats)) == (0, 0)


async def test_a_stream_whose_answer_had_begun_ends_with_the_reason(service: Service) -> None:
    wire = Wire(service, "http.response.start")

    async with asyncio.timeout(5):
        await service.api(_scope("http", "/events", scheme="http", method="GET"), wire.receive, wire.send)

    assert [message.get("body") for message in wire.sent] == [
        None,
        b'data: {"type":"error","code":"token_revoked","detail":"the token was revoked","close_code":4403}\n\n',
    ]
    assert (len(service.hub), len(service.counts.seats)) == (0, 0)
