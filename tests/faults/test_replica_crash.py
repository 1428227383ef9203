"""T-03 and T-04: one of three replicas is killed in the middle of a load, also between a confirm and its answer."""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from notifier.clients.prove.proof import Proof
from notifier.clients.prove.sends import Outcome
from tests.faults.cluster import Baseline, Cluster, Place, holds
from tests.faults.conftest import Report, Scale, StartCluster
from tests.tcp_proxy import TcpProxy

MOST_ARE_BACK_SECONDS = 5.0
ALL_ARE_BACK_SECONDS = 15.0
# What was queued waits for another replica to take over, and the machine does other work as well.
LONGEST_P99_MS = 15_000
PATIENCE_SECONDS = 0.3  # More than an answer takes as a rule, and less than what the service waits for a confirm.


async def test_killing_the_replica_that_takes_the_queue_loses_nothing(
    direct_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """Its clients are back on the others in seconds, and nobody else notices."""
    cluster = direct_cluster
    baseline = await Baseline.of(cluster)
    # Not as much as T-01: how soon clients are back is to be the service's doing, and they share the cores with it.
    sessions, rate, seconds = scale(60, 1_000), scale(60.0, 200.0), scale(5.0, 20.0)
    async with cluster.proof(sessions=sessions, rate=rate, seconds=seconds / 2, amqp_share=0.3, seed=2) as control:
        await control.settle()
    async with cluster.proof(sessions=sessions, rate=rate, seconds=seconds, amqp_share=0.3, seed=3) as proof:
        await proof.sent(round(rate * seconds / 4))
        victim = await _active_consumer(cluster)
        clients = sum(recipient.url == victim.url for recipient in proof.recipients)
        victim.kill()
        await proof.all_live(within_seconds=ALL_ARE_BACK_SECONDS + 5)
        await proof.settle()
        verdict, untouched = proof.verdict(), proof.latency(proof.untouched)
    absences = sorted(absence.seconds or math.inf for absence in proof.absences)
    report(
        verdict,
        control=control.latency(control.recipients),
        untouched=untouched,
        back_50_percent=absences[len(absences) // 2],
        back_95_percent=absences[round(len(absences) * 0.95) - 1],
        back_all=absences[-1],
    )

    assert control.verdict().is_clean, str(control.verdict())
    assert verdict.is_clean, str(verdict)
    assert verdict.unknown == 0
    assert Counter((absence.url, absence.status) for absence in proof.absences) == {(victim.url, "resumed"): clients}
    assert absences[round(len(absences) * 0.95) - 1] <= MOST_ARE_BACK_SECONDS
    assert absences[-1] <= ALL_ARE_BACK_SECONDS
    assert untouched.p99 < LONGEST_P99_MS
    await victim.start()
    await baseline.restored(within_seconds=15)
    assert cluster.complaints() == []


async def test_a_retry_after_a_crash_before_the_answer_is_not_delivered_again(
    direct_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """The journal has confirmed and everybody has received; the callers have heard nothing, and ask another replica."""
    cluster = direct_cluster
    victim, *others = cluster.places
    before = await _repeats(others)
    async with _load_through_door(cluster, scale, urls=cluster.urls) as (proof, door):
        unanswered = await _kill_between(proof, victim, door, lambda: door.swallow("to_client"), at_least=5)
        await _fail_over(proof, door, others[0])
        verdict, (repeats, *_) = proof.verdict(), await _repeats(others, before)
    report(verdict, unanswered=unanswered, repeats=repeats)

    assert verdict.is_clean, str(verdict)
    assert verdict.unknown == 0
    assert repeats >= unanswered
    assert cluster.complaints() == []


async def test_a_retry_after_a_crash_before_the_confirm_is_read_is_not_delivered_again(
    start_cluster: StartCluster, scale: Scale, report: Report
) -> None:
    """The broker has the record and the others have delivered it; the replica that wrote it does not know."""
    cluster = await start_cluster(2, is_proxied=True)
    victim, other = cluster.places
    proxy = victim.proxy
    assert proxy is not None
    async with _load_through_door(cluster, scale, urls=[other.url]) as (proof, door):
        # One record is on its way at a time, and holds what came while the one before was on its own.
        unanswered = await _kill_between(proof, victim, door, lambda: proxy.swallow("to_client"), at_least=1)
        await _fail_over(proof, door, other)
        verdict, (repeats,) = proof.verdict(), await _repeats([other])
    report(verdict, unanswered=unanswered, repeats=repeats)

    assert verdict.is_clean, str(verdict)
    assert verdict.unknown == 0
    assert repeats >= unanswered
    assert cluster.complaints() == []


@asynccontextmanager
async def _load_through_door(
    cluster: Cluster, scale: Scale, *, urls: list[str]
) -> AsyncIterator[tuple[Proof, TcpProxy]]:
    """A load under way to the first replica, by a door in front of it; sessions are at the urls."""
    rate = scale(300.0, 500.0)
    load = {"sessions": scale(30, 300), "rate": rate, "seconds": scale(3.0, 20.0), "seed": 4}
    async with (
        TcpProxy("127.0.0.1", cluster[0].port) as door,
        cluster.proof(urls=urls, send_urls=[f"http://127.0.0.1:{door.port}"], **load) as proof,
    ):
        await proof.sent(round(rate))
        yield proof, door


async def _kill_between(
    proof: Proof, victim: Place, door: TcpProxy, lose_answers: Callable[[], None], *, at_least: int
) -> int:
    """Kill the replica once so many were received whose callers wait in vain for an answer. Returns how many."""

    def unanswered(patience_seconds: float = 0.0) -> int:
        since = time.monotonic() - patience_seconds
        return sum(
            send.outcome is Outcome.PENDING and send.position is not None and send.attempted_at <= since
            for send in proof.ledger.sends
        )

    def is_time() -> bool:
        lose_answers()
        return unanswered(PATIENCE_SECONDS) >= at_least

    await holds(is_time, within_seconds=10)
    door.freeze()  # Now no answer that is still on its way arrives.
    # One that came through a moment ago may wait to be read by its caller, who then has no reason to try again.
    found = unanswered(PATIENCE_SECONDS)
    victim.kill()
    return found


async def _fail_over(proof: Proof, door: TcpProxy, other: Place) -> None:
    """Let callers know of the loss, and take them to the other replica, as a load balancer does."""
    door.cut()
    door.target = ("127.0.0.1", other.port)
    door.restore()
    await proof.all_live(within_seconds=ALL_ARE_BACK_SECONDS + 5)
    await proof.settle()


async def _repeats(places: Sequence[Place], before: Sequence[float] = ()) -> list[float]:
    """How many repeats each of these replicas has dropped, since `before`. They read the same journal.

    One that was started again has not counted what it read back, so only what has come since is the same for all.
    """
    dropped = [await place.metrics("notifier_repeats_total") for place in places]
    if before:
        dropped = [now - then for now, then in zip(dropped, before, strict=True)]
        assert len(set(dropped)) == 1, f"the replicas differ in what is a repeat: {dropped}"
    return dropped


async def _active_consumer(cluster: Cluster) -> Place:
    """The replica that takes the requests from the queue."""
    taken = await cluster.metrics("notifier_queue_accepted_total")
    return cluster[taken.index(max(taken))]
