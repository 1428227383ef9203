"""One tenant's flood in the queue: it waits, in its order, and nobody else does: T-44. Fairness of the window: core."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import complaints, eventually, session
from tests.service.publisher import Publisher, publisher
from tests.telemetry.scrape import scrape
from tests.tokens import bearer

PREFIX = f"f{uuid.uuid4().hex[:8]}"
HELD = 30


@pytest.fixture(scope="module")
def replica(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica that lets a tenant send ten notifications a second, and sets 30 messages aside."""
    settings = {
        "NOTIFIER_JOURNAL__URL": amqp_url,
        "NOTIFIER_BROKER__PREFIX": PREFIX,
        "NOTIFIER_LIMITS__TENANT": "10/second",
        "NOTIFIER_QUEUE__PREFETCH": "10",
        "NOTIFIER_QUEUE__HELD": str(HELD),
    }
    replica = Replica(tmp_path_factory.mktemp("fairness") / "replica.log", settings)
    yield replica
    replica.stop()
    assert complaints(replica.log_path) == []


@pytest.fixture
async def queue(amqp_url: str) -> AsyncIterator[Publisher]:
    async with publisher(amqp_url, PREFIX) as publishing:
        yield publishing


def numbered(first: int, last: int) -> list[dict[str, object]]:
    return [notification("alice", title=str(number)) for number in range(first, last)]


async def test_a_tenants_flood_waits_in_its_order_while_others_pass(replica: Replica, queue: Publisher) -> None:
    """It is never refused, and what comes through is all of it; another tenant passes those that are set aside."""
    async with (
        session(replica.ws_url, "alice", tenant="flood") as flooded,
        session(replica.ws_url, "alice", tenant="calm") as calm,
    ):
        began = time.monotonic()
        await queue.send_many(numbered(0, 35), key="flood.send")
        await queue.send({"broken": True}, key="flood.send")
        await queue.send_many(numbered(0, 3), key="calm.send")

        assert [(await calm.notification())["title"] for _ in range(3)] == ["0", "1", "2"]
        calm_seconds = time.monotonic() - began
        assert [(await flooded.notification())["title"] for _ in range(35)] == [str(number) for number in range(35)]
        flood_seconds = time.monotonic() - began

    # 35 at 10 a second, of which 10 are there at once.
    assert flood_seconds > 2.3
    assert calm_seconds < flood_seconds / 2
    page = await scrape(replica)
    assert page.value("notifier_limited_total", limit="tenant") >= 1
    assert page.value("notifier_queue_dead_lettered_total") == 1  # The broken one, and for what it says.

    async def all_acknowledged() -> bool:
        return (await scrape(replica)).value("notifier_queue_held") == 0

    await eventually(all_acknowledged)
    assert await queue.count(queue.names.requests) == 0


async def test_beyond_what_is_set_aside_the_queue_waits_at_the_tenants_pace_and_loses_nothing(
    replica: Replica, queue: Publisher
) -> None:
    """A queue is one line: who stands behind more than can be set aside waits for those in front."""
    async with (
        session(replica.ws_url, "alice", tenant="deluge") as flooded,
        session(replica.ws_url, "alice", tenant="behind") as behind,
    ):
        await queue.send_many(numbered(0, 10 + HELD + 10), key="deluge.send")
        await queue.send_many(numbered(0, 1), key="behind.send")

        waiting = asyncio.create_task(behind.notification())
        titles = [(await flooded.notification())["title"] for _ in range(10 + HELD + 10)]
        assert titles == [str(number) for number in range(10 + HELD + 10)]
        assert (await waiting)["title"] == "0"


async def test_both_doors_share_the_allowance_of_a_tenant(replica: Replica, queue: Publisher) -> None:

    async with (
        session(replica.ws_url, "alice", tenant="both") as client,
        httpx.AsyncClient(base_url=replica.url, verify=False) as backend,
    ):
        await queue.send_many(numbered(0, 30), key="both.send")
        await client.notification()

        async def is_limited() -> bool:
            answer = await backend.post("/notify", json=notification("x"), headers=bearer("b", tenant="both"))
            return answer.status_code == 429

        await eventually(is_limited)
        for _ in range(29):
            await client.notification()
