"""Revocation on one replica: what is closed, what is refused from then on, and how the door answers."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, bare, refusal, session
from tests.service.conftest import on_both_paths
from tests.tokens import token

pytestmark = on_both_paths

REVOKED = (4403, "token_revoked")
WITHIN_SECONDS = 2.0  # T-54.


@pytest.fixture
async def revoker(replica: Replica) -> Any:
    """A backend that may revoke."""
    headers = {"Authorization": f"Bearer {token('security', scopes=['notify:revoke'])}"}
    async with httpx.AsyncClient(base_url=replica.url, headers=headers, verify=False) as client:
        yield client


async def revoke(revoker: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await revoker.post("/revocations", json=body)
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


async def closed(*clients: Client) -> list[tuple[int, str]]:
    async with asyncio.timeout(WITHIN_SECONDS):
        return await asyncio.gather(*(client.closed() for client in clients))


def old(user: str, **claims: Any) -> str:
    """A token of a minute ago."""
    issued_at = int(datetime.now(UTC).timestamp()) - 60
    return token(user, extra={"iat": issued_at, "exp": issued_at + 3_600}, **claims)


async def refused(replica: Replica, bearer_token: str) -> tuple[int, str]:
    """The status and code with which a handshake with this token is refused."""
    status, problem, _ = await refusal(replica.ws_url, subprotocols=[PROTOCOL, f"bearer.{bearer_token}"])
    return status, problem["code"]


async def test_a_revoked_user_is_closed_and_comes_back_with_a_fresh_token_alone(
    replica: Replica, revoker: httpx.AsyncClient
) -> None:
    """T-54; checklist 10."""
    stale = old("alice")
    async with (
        bare(replica.ws_url, subprotocols=[PROTOCOL, f"bearer.{stale}"]) as one,
        session(replica.ws_url, "alice") as two,
        session(replica.ws_url, "bob") as other,
    ):
        welcome = await one.frame("welcome")
        receipt = await revoke(revoker, user="alice")

        assert await closed(one, two) == [REVOKED, REVOKED]
        assert await refused(replica, stale) == (401, "token_revoked")
        assert await other.drained() == []
    assert (receipt["tenant"], receipt["durable"]) == ("default", False)
    assert welcome["user"] == "alice"
