"""T-09 and T-82: replicas end in good order, one after the other or while the broker is away; and one is rebalanced."""

import asyncio
import math
import signal
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import httpx
import pytest

from notifier.clients.prove.proof import Proof
from notifier.clients.prove.recipients import Absence
from notifier.server import GRACE_SECONDS
from tests.faults.cluster import Cluster, Place, holds
from tests.faults.conftest import READY_SECONDS, Report, Scale
from tests.rabbitmq import RabbitMQ
from tests.service.client import eventually, session

SPARE_SECONDS = 5.0  # Of the grace period that the chart gives, beside delay, window and GRACE_SECONDS.
DRAINED = 4001
LOOK_SECONDS = 1.0  # Paces are counted over each second.


@pytest.fixture(scope="module")
def pace(scale: Scale) -> tuple[float, float]:
    """The delay and the window of a drain."""
    return scale((0.5, 1.5), (2.0, 20.0))


@pytest.fixture(scope="module")
def draining_replicas(
    own_node: RabbitMQ, tmp_path_factory: pytest.TempPathFactory, pace: tuple[float, float]
) -> Iterator[Cluster]:
    """The cluster behind `draining_cluster`."""
    delay, window = map(str, pace)
    settings = {"NOTIFIER_HTTP__DRAIN_DELAY_SECONDS": delay, "NOTIFIER_HTTP__DRAIN_WINDOW_SECONDS": window}
    cluster = Cluster(own_node, tmp_path_factory.mktemp("draining"), prefix="draining", settings=settings)
    yield cluster
    cluster.close()


@pytest.fixture
async def draining_cluster(draining_replicas: Cluster, own_rabbitmq: RabbitMQ) -> Cluster:
    """Three replicas that close their sessions at a pace; they run and follow."""
    await draining_replicas.start()
    await draining_replicas.all_following(within_seconds=READY_SECONDS)
    draining_replicas.complaints()  # Of the test before.
    return draining_replicas


async def test_a_rolling_restart_is_noticed_by_nobody(
    draining_cluster: Cluster, pace: tuple[float, float], scale: Scale, report: Report
) -> None:
    """T-09. Whoever sends goes to replicas that are ready, as behind a Service, and gets no error."""
    cluster, (_, window) = draining_cluster, pace
    sessions, rate = scale(60, 1_000), scale(40.0, 200.0)
    ends: dict[Place, tuple[int, float, int]] = {}
    async with cluster.proof(sessions=sessions, rate=rate, seconds=600.0, amqp_share=0.2, seed=9) as proof:
        await proof.sent(round(rate))
        for place in cluster.places:
            clients = sum(recipient.url == place.url for recipient in proof.recipients)
            ends[place] = clients, *await _restart(proof, place)
            await proof.all_live(within_seconds=15)
        proof.stop()
        await proof.settle()
        verdict = proof.verdict()
    closes, returns = _peaks(proof, cluster, lambda absence: absence.left_at), _peak(_returns(proof.absences))
    paces = {place: clients / window for place, (clients, *_) in ends.items()}
    report(
        verdict,
        paces=[round(each, 1) for each in paces.values()],
        most_closes_a_second=list(closes.values()),
        most_returns_a_second=returns,
        ended_after=[round(seconds, 1) for _, seconds, _ in ends.values()],
    )

    assert verdict.is_clean, str(verdict)
    assert (verdict.unknown, verdict.refused) == (0, 0)
    assert verdict.retries.keys() <= _passing(scale)
    assert proof.closed_codes == {DRAINED: sum(clients for clients, *_ in ends.values())}
    assert {absence.status for absence in proof.absences} == {"resumed"}
    # A close is timed where it is read, by a client that shares the cores with the replicas.
    assert all(closes[place] <= 1.25 * each + 5 for place, each in paces.items()), (closes, paces)
    assert returns <= 2 * max(paces.values()) + 5
    assert all(seconds <= _grace(pace) for _, seconds, _ in ends.values())
    assert [code for *_, code in ends.values()] == [0, 0, 0]
    assert cluster.complaints() == []


async def test_a_rebalance_moves_a_share_of_the_sessions_of_one_replica(
    draining_cluster: Cluster, pace: tuple[float, float], scale: Scale, report: Report
) -> None:
    """All are on the first of three; two thirds are asked to go, at the pace of a drain, and the replica goes on."""
    cluster, (_, window) = draining_cluster, pace
    full, *others = cluster.places
    rate, sessions = scale(40.0, 200.0), scale(60, 1_000)
    before = await full.metrics("notifier_sessions_closed_total")
    load = {"sessions": sessions, "rate": rate, "seconds": window + 3, "amqp_share": 0.2, "seed": 10}
    async with cluster.proof(urls=[full.url], send_urls=cluster.urls, **load) as proof:
        for place in others:
            proof.add_url(place.url)
        await proof.sent(round(rate))
        moved = await _rebalance(full, 2 / 3)
        again = await _rebalance(full, 1.0)  # Who leaves already is not asked twice, and all others are.
        await holds(lambda: len(proof.absences) == sessions, within_seconds=window + 15)
        await proof.all_live(within_seconds=15)
        spread = await cluster.metrics("notifier_sessions")
        await proof.settle()
        verdict = proof.verdict()
    closes = _peaks(proof, cluster, lambda absence: absence.left_at)
    report(verdict, moved=moved, spread=spread, most_closes_a_second=closes[full])

    assert verdict.is_clean, str(verdict)
    assert verdict.unknown == 0
    assert verdict.retries.keys() <= _passing(scale)
    assert (moved, again) == (round(sessions * 2 / 3), sessions - round(sessions * 2 / 3))
    assert Counter((absence.url, absence.code, absence.status) for absence in proof.absences) == {
        (full.url, DRAINED, "resumed"): sessions
    }
    assert min(spread) >= sessions / 6
    assert closes[full] <= 1.25 * sessions / window + 5
    assert await full.metrics("notifier_sessions_closed_total") - before == sessions
    assert cluster.complaints() == []


async def test_replicas_end_in_time_while_the_broker_is_away(
    draining_cluster: Cluster, own_rabbitmq: RabbitMQ, pace: tuple[float, float], scale: Scale
) -> None:
    """T-82. One is told once, one twice; and one that boots meanwhile, and has never reached the broker."""
    cluster = draining_cluster
    outages = [own_rabbitmq.suspend, own_rabbitmq.kill]  # A connection that is frozen takes longer to be given up.
    for number, take_away in enumerate(outages[: scale(1, 2)]):
        if number:
            await asyncio.to_thread(own_rabbitmq.heal)
            await cluster.start()
        await cluster[2].stop()
        await asyncio.to_thread(take_away)
        await cluster[2].start(awaits_ready=False)
        assert await _end_all(cluster) <= _grace(pace)
    assert cluster.complaints() == []  # A traceback is one, at whatever level.


async def _end_all(cluster: Cluster) -> float:
    """End all replicas, the second one by two signals, and see their clients off. Returns the seconds."""
    once, twice, booting = cluster.places
    async with session(once.ws_url, "alice") as alice, session(twice.ws_url, "bob") as bob:
        began = time.monotonic()
        for place in (once, twice, twice, booting):
            place.signal(signal.SIGTERM)
        closed = [(await client.rest())[1:] for client in (alice, bob)]
        codes = await asyncio.gather(*(place.ended(within_seconds=30) for place in cluster.places))
        seconds = time.monotonic() - began
    assert closed == [(DRAINED, "drain")] * 2
    assert codes == [0, 0, 0]
    return seconds


async def _restart(proof: Proof, place: Place) -> tuple[float, int]:
    """End a replica, and start it again. Returns how long the end took, and the exit code."""
    began = time.monotonic()
    place.signal(signal.SIGTERM)
    await eventually(lambda: _is_ending(place), READY_SECONDS)
    proof.remove_url(place.url)
    code = await place.ended(within_seconds=60)
    seconds = time.monotonic() - began
    await place.start()
    proof.add_url(place.url)
    return seconds, code


async def _is_ending(place: Place) -> bool:
    status, state = await place.probe("/readyz")
    return status == 503 and state["checks"]["drain"] == "ending"


async def _rebalance(place: Place, fraction: float) -> int:
    async with httpx.AsyncClient(base_url=place.operations_url, verify=False) as operator:
        answer = await operator.post("/rebalance", params={"fraction": fraction})
    assert answer.status_code == 202
    closing: int = answer.json()["closing"]
    return closing


def _passing(scale: Scale) -> set[str]:
    """Answers that senders may have to ask for again: where a small load shares its machine, a confirm can be late."""
    return scale({"503"}, set())


def _grace(pace: tuple[float, float]) -> float:
    """What the chart gives a pod, computed as it does."""
    return math.ceil(sum(pace)) + GRACE_SECONDS + SPARE_SECONDS


def _returns(absences: Sequence[Absence]) -> list[float]:
    return [absence.back_at for absence in absences if absence.back_at is not None]


def _peaks(proof: Proof, cluster: Cluster, moment: Callable[[Absence], float]) -> dict[Place, int]:
    """The most that happened in one second, by the replica that the sessions were on."""
    return {
        place: _peak([moment(absence) for absence in proof.absences if absence.url == place.url])
        for place in cluster.places
    }


def _peak(moments: Sequence[float]) -> int:
    """The most of these in any second."""
    ordered = sorted(moments)
    return max((bisect_left(ordered, at + LOOK_SECONDS) - number for number, at in enumerate(ordered)), default=0)
