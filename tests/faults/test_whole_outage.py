"""T-10 and T-18: nothing runs for a while, and it all comes back; or the broker comes later than the replicas."""

import asyncio
import time

from tests.faults.cluster import Caller, Cluster, Place
from tests.faults.conftest import Report, Scale, StartCluster
from tests.service.client import eventually, refusal
from tests.tokens import bearer

READY_SECONDS = 10.0
BACK_SECONDS = 15.0
REFUSAL_SECONDS = 4.0  # The contract's; a busy machine adds to it.


async def test_what_was_queued_while_everything_was_down_arrives_in_order(
    direct_cluster: Cluster, scale: Scale, report: Report
) -> None:
    cluster = direct_cluster
    rate, outage_seconds = scale(60.0, 200.0), scale(3.0, 60.0)
    before, during = round(rate), round(rate * outage_seconds)
    async with cluster.proof(
        sessions=scale(60, 1_000),
        rate=rate,
        seconds=(before + during) / rate + 1,
        amqp_share=1.0,
        retry_seconds=120.0,
        seed=5,
    ) as proof:
        await proof.sent(before)
        cluster.kill()
        await proof.sent(before + during)
        await cluster.kill_broker()
        await asyncio.gather(cluster.start_broker(), cluster.start())
        back_after = await proof.all_live(within_seconds=scale(BACK_SECONDS, 60.0))  # All at once, with much to replay.
        await proof.settle(within_seconds=60)
        verdict = proof.verdict()
    report(verdict, queued=during, back_after=round(back_after, 2))

    assert verdict.is_clean, str(verdict)
    assert verdict.unknown == 0
    assert {absence.status for absence in proof.absences} == {"resumed"}
    assert cluster.complaints() == []


async def test_whoever_comes_back_after_the_window_is_told_reset(start_cluster: StartCluster, report: Report) -> None:
    """All of what was queued has come and gone again before the first client is back."""
    cluster = await start_cluster(1, WINDOW__MAX_AGE_SECONDS="1", IDEMPOTENCY__SPAN_SECONDS="1")
    sessions = 20
    async with cluster.proof(sessions=sessions, rate=120, seconds=2, amqp_share=1.0, seed=6) as proof:
        await proof.sent(60)
        proof.pause()
        for url in cluster.urls:
            proof.remove_url(url)
        cluster.kill()
        proof.resume()
        await proof.all_sent()
        await cluster.start()
        await _all_left_the_window(cluster, 180)
        for url in cluster.urls:
            proof.add_url(url)
        await proof.all_live(within_seconds=BACK_SECONDS)
        await proof.settle()
        verdict = proof.verdict()
    report(verdict, reset_gaps=verdict.reset_gaps.count)

    assert verdict.is_clean, str(verdict)
    assert [absence.status for absence in proof.absences] == ["reset"] * sessions
    assert verdict.reset_gaps.count > 0
    assert cluster.complaints() == []


async def test_replicas_that_boot_without_a_broker_wait_for_it(
    start_cluster: StartCluster, scale: Scale, report: Report
) -> None:
    """They live, are not ready, refuse what they are asked, and are ready soon after it is there."""
    cluster = await start_cluster(is_started=False)
    await cluster.kill_broker()
    await cluster.start(awaits_ready=False)
    pids = [place.pid for place in cluster.places]
    caller = Caller(cluster.urls)
    async with caller.calling():
        began = time.monotonic()
        while time.monotonic() - began < scale(2.0, 60.0):
            for place in cluster.places:
                assert (await place.probe("/livez"))[0] == 200
                status, state = await place.probe("/readyz")
                assert status == 503
                assert state["checks"]["journal"].startswith("starting: ")  # And why: the connection is refused.
        await _is_told_to_come_back(cluster[0])
    await cluster.start_broker()
    up_at = time.monotonic()
    await cluster.all_following(within_seconds=READY_SECONDS)
    ready_after = time.monotonic() - up_at
    async with cluster.proof(sessions=30, rate=60, seconds=2, amqp_share=0.3, seed=7) as proof:
        await proof.settle()
        verdict = proof.verdict()
    report(verdict, ready_after=round(ready_after, 2), calls=dict(caller.statuses))

    assert verdict.is_clean, str(verdict)
    assert caller.statuses.keys() == {503}
    assert all(has_retry_after for _, has_retry_after, _ in caller.answers)
    assert caller.slowest_seconds < REFUSAL_SECONDS + 1
    assert pids == [place.pid for place in cluster.places if place.is_running]
    assert cluster.complaints() == []


async def _all_left_the_window(cluster: Cluster, count: int) -> None:
    """Wait until the replicas have taken so many from the queue, and none of them can be replayed any more."""

    async def are_gone() -> bool:
        taken = await cluster.metrics("notifier_queue_accepted_total")
        return sum(taken) >= count and not any(await cluster.metrics("notifier_window_entries"))

    await eventually(are_gone, 20)


async def _is_told_to_come_back(place: Place) -> None:
    """A client that opens a session meanwhile hears that it is not the moment."""
    status, problem, headers = await refusal(place.ws_url, headers=list(bearer().items()))
    assert (status, problem["code"]) == (503, "starting")
    assert "retry-after" in headers
