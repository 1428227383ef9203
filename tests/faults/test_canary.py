"""A journal that confirms and brings nothing: replicas take sockets and sends, answer probes, and deliver nothing."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiormq
import httpx
import pytest

from notifier.broker.topology import Names
from tests.faults.cluster import Cluster, Place
from tests.faults.conftest import Scale, StartCluster
from tests.service.client import eventually, session
from tests.tokens import bearer

FOUND_SECONDS = 60.0
MISSED, REBUILDS = "notifier_canary_missed_total", "notifier_canary_rebuilds_total"


@asynccontextmanager
async def led_astray(cluster: Cluster) -> AsyncIterator[None]:
    """Have what is published to the journal go into another queue, and be confirmed as before, until the end."""
    names = Names(cluster.prefix)
    connection = await aiormq.connect(cluster.broker.url())
    try:
        channel = await connection.channel()
        astray = await channel.queue_declare(exclusive=True)
        assert astray.queue is not None
        await channel.queue_bind(astray.queue, names.journal, "#")
        await channel.queue_unbind(names.stream, names.journal, "#")
        yield
        await channel.queue_bind(names.stream, names.journal, "#")
    finally:
        await connection.close()


async def test_a_journal_that_loses_what_it_confirms_is_read_anew_which_repairs_it(
    start_cluster: StartCluster, scale: Scale
) -> None:
    """Whoever reads anew declares anew, and so what leads into the stream is there again."""
    # With 5 s, as usual, 15 s without a record have it read anew before four canaries are missing.
    cluster = await start_cluster(1, OPERATIONS__CANARY_SECONDS=scale("0.4", "2"))
    (place,) = cluster.places
    async with session(place.ws_url, "alice") as alice, led_astray(cluster):
        assert await _notify(place) == 202
        began = time.monotonic()
        await eventually(lambda: _has(place, REBUILDS, 1), FOUND_SECONDS)
        missed = await place.metrics(MISSED)

        async def arrives() -> bool:
            return await _notify(place) == 202 and bool(await alice.drained())

        await eventually(arrives, FOUND_SECONDS)
        repaired_after = time.monotonic() - began
        await eventually(lambda: _is_ready(place), FOUND_SECONDS)

    assert missed >= 4
    assert repaired_after < FOUND_SECONDS
    assert cluster.complaints() == []


async def test_a_replica_that_accepts_and_delivers_nothing_is_unready_within_a_minute(
    start_cluster: StartCluster, scale: Scale, request: pytest.FixtureRequest
) -> None:
    """It may not declare anything, so nothing that it does can repair the journal."""
    cluster = await start_cluster(1)
    (place,) = cluster.places
    await place.stop()
    place.settings |= {
        "NOTIFIER_BROKER__DECLARE": "false",
        "NOTIFIER_OPERATIONS__CANARY_SECONDS": scale("0.4", "5"),
    }
    await place.start()
    async with led_astray(cluster):
        began = time.monotonic()
        await eventually(lambda: _is_missing(place), FOUND_SECONDS)
        found_after = time.monotonic() - began
        async with session(place.ws_url, "alice") as alice:
            accepted = await _notify(place)
            heard = await alice.drained()
        alive, _ = await place.probe("/livez")
    await eventually(lambda: _is_ready(place), FOUND_SECONDS)
    request.node.user_properties.append(("figures", f"found after {found_after:.1f} s"))

    assert found_after < FOUND_SECONDS
    assert (accepted, heard, alive) == (202, [], 200)
    assert cluster.complaints() == []


async def _notify(place: Place) -> int:
    async with httpx.AsyncClient(base_url=place.url, headers=bearer(), verify=False) as backend:
        answer = await backend.post("/notify", json={"to": {"users": ["alice"]}, "type": "t", "title": "x"})
    return answer.status_code


async def _has(place: Place, name: str, least: float) -> bool:
    return await place.metrics(name) >= least


async def _is_missing(place: Place) -> bool:
    status, state = await place.probe("/readyz")
    return status == 503 and state["checks"]["canary"] == "missing"


async def _is_ready(place: Place) -> bool:
    return (await place.probe("/readyz"))[0] == 200
