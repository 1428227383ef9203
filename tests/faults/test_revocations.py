"""T-54: revocation over three replicas and a broker, each of which is killed meanwhile."""

import asyncio
import time
from contextlib import AsyncExitStack

import httpx
import pytest

from tests.faults.cluster import Cluster, Place
from tests.rabbitmq import RabbitMQ
from tests.service.client import PROTOCOL, Client, bare, eventually, refusal, session
from tests.tokens import bearer, token

CLOSED_SECONDS = 2.0  # The scenario's; a second is the aim, and what a machine that does nothing else takes is less.
REFUSAL_SECONDS = 4.0
REVOKED = (4403, "token_revoked")


async def revoke(place: Place, user: str) -> httpx.Response:
    headers = bearer("security", scopes=["notify:revoke"])
    async with httpx.AsyncClient(base_url=place.url, headers=headers, verify=False, timeout=10) as client:
        return await client.post("/revocations", json={"user": user})


async def opened(stack: AsyncExitStack, place: Place, user_token: str) -> Client:
    client = await stack.enter_async_context(bare(place.ws_url, subprotocols=[PROTOCOL, f"bearer.{user_token}"]))
    client.welcome = await client.frame("welcome")
    return client


async def refusals(cluster: Cluster, user_token: str, position: str) -> set[tuple[int, str, int]]:
    """What each replica says to a return with this token, and to a notification that it sends."""
    found = set()
    for place in cluster.places:
        offered = [PROTOCOL, f"bearer.{user_token}"]
        status, problem, _ = await refusal(place.ws_url, subprotocols=offered, query={"position": position})
        async with httpx.AsyncClient(base_url=place.url, verify=False) as client:
            sent = await client.post("/notify", json={}, headers={"Authorization": f"Bearer {user_token}"})
        found.add((status, problem["code"], sent.status_code))
    return found


async def test_a_revoked_user_is_gone_from_every_replica_and_stays_away(
    direct_cluster: Cluster, own_rabbitmq: RabbitMQ, request: pytest.FixtureRequest
) -> None:
    """T-54: revocations outlive the crash of a replica, and of the broker."""
    cluster = direct_cluster
    stale = token("mallory", scopes=["notify:send"])
    async with AsyncExitStack() as stack:
        clients = [await opened(stack, place, stale) for place in cluster.places for _ in range(2)]
        bystanders = [await stack.enter_async_context(session(place.ws_url, "bystander")) for place in cluster.places]
        began = time.monotonic()
        answer = await revoke(cluster[0], "mallory")
        codes = await asyncio.gather(*(client.closed() for client in clients))
        took_seconds = time.monotonic() - began

        request.node.user_properties.append(("figures", f"all closed within {took_seconds:.3f} s"))
        assert (answer.status_code, answer.json()["durable"]) == (202, True)
        assert (set(codes), took_seconds < CLOSED_SECONDS) == ({REVOKED}, True), took_seconds
        assert [await client.drained() for client in bystanders] == [[], [], []]
    position = clients[0].welcome["position"]
    everywhere = {(401, "token_revoked", 401)}
    assert await refusals(cluster, stale, position) == everywhere

    await asyncio.to_thread(own_rabbitmq.sync_metadata)
    cluster[1].kill()
    await cluster.kill_broker()
    began = time.monotonic()
    refused = await revoke(cluster[0], "trent")
    assert time.monotonic() - began < REFUSAL_SECONDS + 1  # A busy machine adds to it.
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    await cluster.start_broker()
    await cluster.start()

    assert await refusals(cluster, stale, position) == everywhere
    await cluster.all_following(within_seconds=20)
    async with session(cluster[1].ws_url, "trent") as client:

        async def is_taken() -> bool:
            return (await revoke(cluster[2], "trent")).status_code == 202

        await eventually(is_taken)
        assert await client.closed() == REVOKED
    assert cluster.complaints() == []
