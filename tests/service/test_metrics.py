"""What a replica on RabbitMQ shows to Prometheus, after it has done a little of everything."""

import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from notifier.telemetry.catalogue import FAMILIES
from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import complaints, refusal, session
from tests.service.conftest import StartReplica
from tests.service.publisher import Publisher, publisher
from tests.telemetry.scrape import Scrape, scrape

PREFIX = f"m{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def replica(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    settings = {"NOTIFIER_JOURNAL__URL": amqp_url, "NOTIFIER_BROKER__PREFIX": PREFIX}
    replica = Replica(tmp_path_factory.mktemp("metrics") / "replica.log", settings)
    yield replica
    replica.stop()


@pytest.fixture
async def queue(amqp_url: str) -> AsyncIterator[Publisher]:
    async with publisher(amqp_url, PREFIX) as publishing:
        yield publishing


def count(page: Scrape, name: str, **labels: str) -> float:
    """The number of a counter or histogram that has not been used yet is nothing."""
    return page.samples.get((name, frozenset(labels.items())), 0.0)


async def test_all_that_happens_is_counted_under_the_names_of_the_catalogue(
    replica: Replica, backend: httpx.AsyncClient, queue: Publisher
) -> None:
    before = await scrape(replica)
    async with session(replica.ws_url, "alice") as client:
        good, bad = notification("alice"), {**notification("alice"), "ttl_seconds": -1}
        assert (await backend.post("/notify", json=good)).status_code == 202
        assert (await backend.post("/notify", json=notification("nobody"))).status_code == 202
        assert (await backend.post("/notify", json=bad)).status_code == 422
        assert (await backend.post("/notify", json={}, headers={"Authorization": ""})).status_code == 401
        assert (await backend.post("/notify/batch", json=[good, bad])).status_code == 207
        await queue.send(good)
        await queue.send(bad)
        await queue.send(good)
        for _ in range(4):
            await client.notification()
    await refusal(replica.ws_url, subprotocols=["notifier.v1", "bearer.a.b.c"])
    # A dead letter is confirmed behind what was taken with it, and the loop is looked at four times a second.
    late = ("notifier_queue_dead_lettered_total", "notifier_loop_lag_seconds_count")
    page = await scrape(replica)
    while 0 in [page.value(name) for name in late]:
        page = await scrape(replica)

    def grown(name: str, **labels: str) -> float:
        return count(page, name, **labels) - count(before, name, **labels)

    assert page.value("notifier_ready") == 1
    assert page.value("notifier_draining") == 0
    assert grown("notifier_accepted_total", door="http") == 3
    assert grown("notifier_accepted_total", door="queue") == 2
    assert grown("notifier_refused_total", door="http", reason="invalid_notification") == 2
    assert grown("notifier_refused_total", door="http", reason="token_missing") == 1
    assert grown("notifier_refused_total", door="queue", reason="invalid_notification") == 1
    assert grown("notifier_queue_dead_lettered_total") == 1
    assert grown("notifier_unreached_total") == 1
    assert grown("notifier_deliveries_total") == 4
    assert grown("notifier_delivery_seconds_count") == 4
    assert 3 <= grown("notifier_journal_lag_seconds_count") <= 5  # A look a record, and the two by queue may share one.
    assert grown("notifier_journal_append_seconds_count") >= 3
    assert 0 < grown("notifier_delivery_seconds_sum") < 20
    assert grown("notifier_resumes_total", outcome="new", reason="") == 1
    assert grown("notifier_handshakes_total", transport="websocket", result="token_invalid") == 1
    assert grown("notifier_http_request_seconds_count", method="POST", route="/notify", status="401") == 1


async def test_the_catalogue_is_what_the_replica_shows(replica: Replica, backend: httpx.AsyncClient) -> None:
    """Behind the test above, so that each name has its labels; by itself it makes do with the names."""
    await backend.get("/nowhere")
    page = await scrape(replica)

    shown = {family.name + "_total" * (family.type == "counter"): family for family in page.families.values()}
    ours = {name for name in shown if name.startswith("notifier_")}
    here = {name: family for name, family in FAMILIES.items() if family.part not in ("counts", "traces")}
    assert ours == here.keys()
    for family in here.values():
        labels = {label for each in shown[family.name].samples for label in each.labels}
        assert (shown[family.name].type, shown[family.name].documentation) == (family.kind, family.help)
        assert labels - {"le"} in (set(family.labels), set())


async def test_a_replica_with_nothing_beside_it_shows_what_is_always_there(start_replica: StartReplica) -> None:
    replica = start_replica(HTTP__DRAIN_DELAY_SECONDS="30")
    page = await scrape(replica)
    replica.process.send_signal(signal.SIGTERM)
    while not (ending := await scrape(replica)).value("notifier_draining"):
        pass
    replica.stop()  # A second signal hurries it.

    shown = {family.name + "_total" * (family.type == "counter") for family in page.families.values()}
    assert {name for name in shown if name.startswith("notifier_")} == {
        family.name for family in FAMILIES.values() if family.part in ("always", "canary")
    }
    assert (page.value("notifier_ready"), ending.value("notifier_ready")) == (1, 0)


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here: a dead letter is a warning, and the only one."""
    assert [line for line in complaints(replica.log_path) if "message dead-lettered" not in str(line)] == []
