"""Somebody whose token is revoked, or whose seat is given away, between the check and the session: over ASGI, here."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

import httpx
import pytest

from notifier.app import Service
from notifier.settings import Settings
from notifier.settings.sessions import Sessions
from tests.tokens import bearer, token

ALICE = {"extra": {"jti": "hers"}}
REVOKED = (4403, "token_revoked", "the token was revoked")
SUPERSEDED = (4409, "superseded", "a newer session has taken the place of this one")


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A replica without a server; a user has one session, the newest."""
    service = Service(Settings(insecure=True, sessions=Sessions(max_per_user=1, at_limit="evict_oldest")))
    async with service.api.router.lifespan_context(service.api):
        yield service


async def revoke(service: Service) -> None:
    """Revoke Alice's token."""
    headers = bearer("security", scopes=["notify:revoke"])
    transport = httpx.ASGITransport(service.api)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
        assert (await client.post("/revocations", json={"token_id": "hers"})).status_code == 202


async def come_again(service: Service) -> None:
    """Take Alice's one seat for another session of hers, which leaves at once."""
    identity = service.gate.authenticate(token("alice"))
    service.gate.dismiss(identity, await service.gate.admit(identity, None))


async def give_away_elsewhere(service: Service) -> None:
    """Hear that another replica has given Alice's seat to a newer session."""
    for seat in list(service.counts.seats):
        service.counts.seats.evict(seat.session)


Event = Callable[[Service], Awaitable[None]]
what_happens = pytest.mark.parametrize(
    ("event", "said"), [(revoke, REVOKED), (come_again, SUPERSEDED), (give_away_elsewhere, SUPERSEDED)]
)


class Wire:
    """What the server beneath would be; something happens while the first message of its kind is sent."""

    def __init__(self, happens_at: str, event: Callable[[], Awaitable[None]]) -> None:
        self._happens_at: str | None = happens_at
        self._event = event
        self.sent: list[MutableMapping[str, Any]] = []
        self._incoming = [{"type": "websocket.connect"}, {"type": "http.request"}]

    async def receive(self) -> MutableMapping[str, Any]:
        if self._incoming:
            return self._incoming.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)
        if message["type"] == self._happens_at:
            self._happens_at = None
            await self._event()


def _scope(kind: str, path: str, **more: Any) -> dict[str, Any]:
    headers = [(b"host", b"x"), (b"authorization", f"Bearer {token('alice', **ALICE)}".encode())]
    common = {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": headers}
    return {"type": kind, "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("x", 80), **common, **more}


@what_happens
async def test_a_socket_that_was_being_accepted_is_closed_and_gives_its_seat_back(
    service: Service, event: Event, said: tuple[int, str, str]
) -> None:
    """T-54, T-41."""
    wire = Wire("websocket.accept", partial(event, service))

    scope = _scope("websocket", "/ws", scheme="ws", subprotocols=["notifier.v1"])
    async with asyncio.timeout(5):
        await service.api(scope, wire.receive, wire.send)

    code, reason, _ = said
    assert [(message["type"], message.get("code"), message.get("reason")) for message in wire.sent] == [
        ("websocket.accept", None, None),
        ("websocket.close", code, reason),
    ]
    assert (len(service.hub), len(service.counts.seats)) == (0, 0)


@what_happens
async def test_a_stream_whose_answer_had_begun_ends_with_the_reason(
    service: Service, event: Event, said: tuple[int, str, str]
) -> None:
    """T-54, T-41."""
    wire = Wire("http.response.start", partial(event, service))

    async with asyncio.timeout(5):
        await service.api(_scope("http", "/events", scheme="http", method="GET"), wire.receive, wire.send)

    code, reason, detail = said
    words = f'{{"type":"error","code":"{reason}","detail":"{detail}","close_code":{code}}}'
    assert [message.get("body") for message in wire.sent] == [None, f"data: {words}\n\n".encode()]
    assert (len(service.hub), len(service.counts.seats)) == (0, 0)
