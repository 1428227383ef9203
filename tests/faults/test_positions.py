"""T-11: a position that cannot be honoured is a reset, on every replica, and one that is only early is waited for."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.faults.cluster import Cluster, Place
from tests.faults.conftest import Scale
from tests.service.client import PROTOCOL, Client, bare, refusal, session
from tests.tokens import bearer, token

pytestmark = pytest.mark.asyncio(loop_scope="package")

BATCH = 1_000
WAIT_SECONDS = 5.0  # The most that a welcome waits for a position ahead of its replica.
DELAY_SECONDS = 0.4  # Of each piece between the slow replica and the broker. To publish and be told so takes two.


async def test_a_position_that_cannot_be_honoured_is_a_reset_on_every_replica(
    proxied_cluster: Cluster, scale: Scale
) -> None:
    """And never a silent gap: what is sent from the welcome on arrives, and nothing else does."""
    cluster = proxied_cluster
    async with session(cluster[0].ws_url, "away") as away:
        passed = away.welcome["position"]
    epoch, offset, _ = passed.split(".")
    await _push_out(cluster, passed)
    presented = [
        (passed, "window_passed"),
        (f"00000000.{offset}.0", "epoch_changed"),
        (f"{epoch}.{offset}", "position_invalid"),
        ("nonsense", "position_invalid"),
        (f"{epoch}.{int(offset) + 1_000_000}.0", "position_ahead"),
        (f"{epoch}.9999999999999999999.0", "position_ahead"),
    ]
    clients = [
        (f"away-{place.number}-{number}", place, position, reason)
        for number, (position, reason) in enumerate(presented * scale(4, 40))
        for place in cluster.places
    ]

    resumes = await asyncio.gather(*(_come_back(user, place, position) for user, place, position, _ in clients))

    assert resumes == [("reset", reason) for *_, reason in clients]
    assert cluster.complaints() == []


async def _push_out(cluster: Cluster, position: str) -> None:
    """Fill the window, until what was behind the position is in none any more."""
    filler = [{"to": {"users": ["nobody"]}, "type": "faults.filler", "title": "x"}] * BATCH
    async with _backend(cluster[0]) as backend, asyncio.timeout(30):
        for place in cluster.places:
            while True:
                async with session(place.ws_url, "away", position=position) as client:
                    if client.welcome["resume"]["status"] == "reset":
                        break
                assert (await backend.post("/notify/batch", json=filler)).status_code == 202


async def _come_back(user: str, place: Place, position: str) -> tuple[str, str | None]:
    async with session(place.ws_url, user, position=position) as client, _backend(place) as backend:
        await _notify(backend, user, 1)
        assert await _number(client) == 1
        assert await client.drained() == []
        resume: dict[str, Any] = client.welcome["resume"]
        return resume["status"], resume.get("reason")


async def test_a_position_from_a_replica_that_is_ahead_is_waited_for(proxied_cluster: Cluster, scale: Scale) -> None:
    """The client comes from a fast replica to one that hears all of it later."""
    cluster = proxied_cluster
    fast, slow, _ = cluster.places
    assert slow.proxy is not None
    slow.proxy.delay(DELAY_SECONDS)

    waits = await asyncio.gather(*(_move(f"mover-{number}", fast, slow) for number in range(scale(10, 200))))

    assert min(waits) > DELAY_SECONDS, "the slow replica was not behind"
    assert max(waits) < WAIT_SECONDS + 5
    assert cluster.complaints() == []


async def _move(user: str, origin: Place, destination: Place) -> float:
    """Read at one replica and go on at another. Returns the seconds from the sending of it to the second welcome."""
    async with _backend(origin) as backend:
        async with session(origin.ws_url, user) as client:
            began = time.monotonic()
            await _notify(backend, user, 1)
            position = (await client.frame("notification"))["position"]
            await _notify(backend, user, 2)
        async with session(destination.ws_url, user, position=position) as client:
            waited = time.monotonic() - began
            await _notify(backend, user, 3)

            assert (client.welcome["resume"]["status"], client.welcome["position"]) == ("resumed", position)
            assert [await _number(client), await _number(client)] == [2, 3]
            assert await client.drained() == []
    return waited


async def test_a_position_that_nobody_can_judge_while_the_journal_is_out_of_reach_is_no_reset(
    proxied_cluster: Cluster,
) -> None:
    """One replica is refused by the broker, another hears nothing from it: both can resume what they have read."""
    cluster = proxied_cluster
    cut_off, frozen, healthy = cluster.places
    assert cut_off.proxy is not None
    assert frozen.proxy is not None
    async with session(healthy.ws_url, "traveller") as client, _backend(healthy) as backend:
        read = client.welcome["position"]
        await asyncio.gather(*(_has_read(place, read) for place in (cut_off, frozen)))
        cut_off.proxy.cut()
        frozen.proxy.freeze()
        await _notify(backend, "traveller", 1)
        ahead = (await client.frame("notification"))["position"]
    stranger = f"00000000.{ahead.split('.')[1]}.0"

    refusals = await asyncio.gather(
        *(_refused(place, position) for place in (cut_off, frozen) for position in (ahead, stranger))
    )
    resumed = await asyncio.gather(*(_resumed(place, read) for place in (cut_off, frozen)))
    for place in (cut_off, frozen):
        assert place.proxy is not None
        place.proxy.restore()
    await cluster.all_following(within_seconds=30)
    healed = await asyncio.gather(*(_resumed(place, read) for place in (cut_off, frozen)))

    assert refusals == [(503, "journal_unavailable", True, 4005)] * 4
    assert resumed == [("resumed", [])] * 2
    assert healed == [("resumed", [1])] * 2
    assert cluster.complaints() == []


async def _has_read(place: Place, position: str) -> None:
    """Return when the replica has read as far as a position, which the welcome waits for."""
    async with session(place.ws_url, "traveller", position=position) as client:
        assert client.welcome["resume"]["status"] == "resumed"


async def _refused(place: Place, position: str) -> tuple[int, str, bool, int]:
    """How a client with this position is refused: status, code, whether it is told when to retry; a browser's close."""
    offered, query = [PROTOCOL, f"bearer.{token('traveller')}"], {"position": position}
    began = time.monotonic()
    status, problem, headers = await refusal(place.ws_url, subprotocols=offered, query=query)
    assert time.monotonic() - began < WAIT_SECONDS + 5
    origin = [("Origin", place.url)]
    async with bare(place.ws_url, subprotocols=offered, query=query, headers=origin) as browser:
        code, _ = await browser.closed()
    return status, problem["code"], "retry-after" in headers, code


async def _resumed(place: Place, position: str) -> tuple[str, list[int]]:
    """How a client with this position is welcomed, and what is replayed to it."""
    async with session(place.ws_url, "traveller", position=position) as client:
        frames = await client.drained()
        return client.welcome["resume"]["status"], [
            frame["notification"]["data"]["n"] for frame in frames if frame["type"] == "notification"
        ]


def _backend(place: Place) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=place.url, headers=bearer(), verify=False, timeout=10)


async def _notify(backend: httpx.AsyncClient, user: str, number: int) -> None:
    answer = await backend.post("/notify", json={"to": {"users": [user]}, "type": "faults.n", "data": {"n": number}})
    assert answer.status_code == 202, answer.text


async def _number(client: Client) -> int:
    number: int = (await client.notification())["data"]["n"]
    return number
