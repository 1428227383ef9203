"""Keys of an issuer that is real, and rotates, slows, lies and dies (T-51; security checklist 3.2.19)."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.issuer import HttpIssuer
from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, bare, complaints
from tests.service.conftest import StartReplica, on_both_paths

pytestmark = on_both_paths

BODY = {"to": {"users": ["alice"]}, "type": "t", "title": "x"}
# A throttle that a test can sit out, and a refresh that does not come by itself.
PACE = {"ACCESS__JWKS_LEAST_SECONDS": "1", "ACCESS__JWKS_TIMEOUT_SECONDS": "1", "ACCESS__JWKS_REFRESH_SECONDS": "600"}
Begin = Callable[..., Replica]


@pytest.fixture
def issuer() -> Iterator[HttpIssuer]:
    with HttpIssuer() as issuer:
        yield issuer


@pytest.fixture
def begin(start_replica: StartReplica) -> Begin:
    """A function that starts a replica for entries of NOTIFIER_ACCESS__ISSUERS."""

    def start(*issuers: dict[str, Any], **settings: str) -> Replica:
        return start_replica(INSECURE="false", ACCESS__ISSUERS=json.dumps(issuers), **PACE | settings)

    return start


def listening(replica: Replica, token: str) -> connect:
    offered: list[Any] = [PROTOCOL, f"bearer.{token}"]
    return connect(replica.ws_url, subprotocols=offered, ping_interval=None)


async def post(replica: Replica, token: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=replica.url, verify=False) as backend:
        return await backend.post("/notify", json=BODY, headers={"Authorization": f"Bearer {token}"})


async def refused_with(replica: Replica, token: str) -> tuple[int, str]:
    """The close code with which a browser's handshake is refused."""
    offered = [PROTOCOL, f"bearer.{token}"]
    async with bare(replica.ws_url, subprotocols=offered, headers=[("Origin", replica.url)]) as client:
        return await client.closed()


async def checks(replica: Replica) -> dict[str, str]:
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
        found: dict[str, str] = (await operator.get("/readyz")).json()["checks"]
        return found


def logged(replica: Replica, event: str) -> list[dict[str, Any]]:
    return [line for line in replica.log_lines() if line["event"] == event]


async def after_throttle() -> None:
    await asyncio.sleep(1.1)


SENDS: dict[str, Any] = {"scopes": ["notify:send"]}


@pytest.mark.parametrize("is_discovered", [False, True])
async def test_a_rotation_is_followed_and_sessions_stay(issuer: HttpIssuer, begin: Begin, is_discovered: bool) -> None:
    """A new kid waits for one fetch; the key that is gone is refused; who is in stays in and can refresh. T-51"""
    url = {} if is_discovered else {"jwks_url": f"{issuer.url}/keys"}
    replica = begin(issuer.settings(**url))
    old = issuer.token("first", **SENDS)
    async with listening(replica, old) as connection:
        client = Client(connection)
        await client.frame("welcome")
        before = await post(replica, old)
        fetches = issuer.fetches()
        issuer.rotate("second")
        await after_throttle()
        by_new_key = await post(replica, issuer.token("second", **SENDS))
        by_old_key = await post(replica, old)
        arrived = [(await client.notification())["id"] for _ in range(2)]
        issuer.rotate("third")
        await after_throttle()
        await client.say(type="refresh", token=issuer.token("third"), ref="again")
        await client.say(type="ping", ref="meanwhile")
        answers = [await client.frame(), await client.frame()]

    assert (before.status_code, by_new_key.status_code) == (202, 202)
    assert (by_old_key.status_code, by_old_key.json()["code"]) == (503, "keys_unavailable")
    assert arrived == [before.json()["id"], by_new_key.json()["id"]]
    assert [answer["type"] for answer in answers] == ["pong", "refreshed"]  # The session did not wait for its key.
    assert (fetches, issuer.fetches()) == (1, 3)
    assert complaints(replica.log_path) == []
