"""T-06, T-07, T-08 and T-13: the wire between a replica and the broker, silent in both directions or one, cut, slow."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.faults.cluster import Baseline, Cluster, Place
from tests.faults.conftest import PROXIED_SETTINGS, Report, Scale
from tests.service.client import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")

DETECTION_SECONDS = 35.0  # Of a half-open connection, at a heartbeat of 10 s.
HEARING_SECONDS = 20.0  # Until a consumer that gets nothing is built anew.
RECOVERY_SECONDS = 15.0
SLOW_ANSWER_SECONDS = 2.0
REFUSAL_SECONDS = 4.0  # The contract's.
LOST = "notifier_journal_connections_lost_total"
CANARIES_MISSED = "notifier_canary_missed_total"


async def test_a_wire_that_falls_silent_is_noticed_and_nothing_is_lost(
    proxied_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """One replica is cut off without a word, another one is heard and hears nothing; sessions stay on both."""
    cluster = proxied_cluster
    half_open, deafened, healthy = cluster.places
    assert half_open.proxy is not None
    assert deafened.proxy is not None
    baseline = await Baseline.of(cluster)
    epochs = await cluster.metrics("notifier_journal_epoch_changes_total")
    load = {"sessions": scale(60, 300), "rate": scale(20.0, 100.0), "seconds": scale(16.0, 75.0), "seed": 6}
    async with cluster.proof(send_urls=[healthy.url], amqp_share=scale(0.0, 0.2), **load) as proof:
        await proof.sent(20)
        silent_at = time.monotonic()
        half_open.proxy.freeze()
        deafened.proxy.swallow("to_client")
        detected_after, heard_after = await asyncio.gather(_lost(half_open), _heard_again(deafened))
        await asyncio.sleep(max(0.0, silent_at + scale(0.0, 60.0) - time.monotonic()))  # The length of the fault.
        half_open.proxy.restore()
        await proof.all_restored(within_seconds=RECOVERY_SECONDS)
        await proof.settle()
        verdict = proof.verdict()
    report(verdict, detected_after=round(detected_after, 1), heard_after=round(heard_after, 1))

    assert verdict.is_clean, verdict
    assert verdict.unknown == 0
    assert proof.closed_codes == Counter()
    assert detected_after < DETECTION_SECONDS
    assert heard_after < HEARING_SECONDS
    assert await cluster.metrics("notifier_journal_epoch_changes_total") == epochs
    await baseline.restored(within_seconds=RECOVERY_SECONDS)
    assert cluster.complaints() == []


async def test_connections_that_are_reset_over_and_over_lose_nothing_and_leave_nothing(
    proxied_cluster: Cluster, scale: Scale, report: Report
) -> None:
    cluster = proxied_cluster
    resets, every_seconds = scale(5, 30), scale(1.0, 2.0)
    baseline = await Baseline.of(cluster)
    lost_before = await cluster.metrics(LOST)
    load = {"sessions": scale(60, 300), "rate": scale(60.0, 300.0), "seconds": resets * every_seconds, "seed": 7}
    async with cluster.proof(amqp_share=0.2, **load) as proof:
        await proof.sent(20)
        for _ in range(resets):
            for place in cluster.places:
                assert place.proxy is not None
                place.proxy.reset_connections()
            await asyncio.sleep(every_seconds)  # The pace of the fault.
        await proof.settle()
        verdict = proof.verdict()
    lost = await cluster.metrics(LOST)
    losses = [after - before for before, after in zip(lost_before, lost, strict=True)]
    report(verdict, losses=losses)

    assert verdict.is_clean, verdict
    assert verdict.unknown == 0
    assert proof.closed_codes == Counter()
    # One that publishes and one that follows: each loss is followed by one attempt, which the next reset may hit.
    assert all(resets <= count <= 2 * resets + 2 for count in losses), losses
    await baseline.restored(within_seconds=RECOVERY_SECONDS)
    assert cluster.complaints() == []


async def test_a_wire_that_is_slow_makes_answers_slow_and_nothing_else(
    proxied_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """T-08. 200 to 400 ms each way, 64 KB a second: an append waits for the one before, and takes a way and back."""
    cluster = proxied_cluster
    baseline = await Baseline.of(cluster)
    lost, missed = [await cluster.metrics(name) for name in (LOST, CANARIES_MISSED)]
    load = {"sessions": scale(60, 300), "rate": scale(20.0, 50.0), "seconds": scale(5.0, 60.0), "seed": 8}
    for place in cluster.places:
        assert place.proxy is not None
        place.proxy.delay(0.2, 0.2)
        place.proxy.throttle(64_000)
    async with cluster.proof(amqp_share=0.2, **load) as proof:
        await proof.settle()
        verdict = proof.verdict()
    waits = sorted(send.settled_at - send.begun_at for send in proof.ledger.sends if send.lane.door == "http")
    held = await cluster.metrics("notifier_window_entries")
    report(verdict, answer_p50=round(waits[len(waits) // 2], 2), answer_p99=round(_p99(waits), 2), held=held)

    assert verdict.is_clean, verdict
    assert verdict.unknown == 0
    # A small load may share the machine with other tests; then the contract's limits have to do.
    assert verdict.retries.keys() <= scale({"503"}, set())
    assert _p99(waits) <= scale(REFUSAL_SECONDS, SLOW_ANSWER_SECONDS)
    assert proof.closed_codes == Counter()
    assert max(held) <= int(PROXIED_SETTINGS["NOTIFIER_WINDOW__MAX_INDEX_ENTRIES"])
    assert await cluster.metrics(LOST) == lost
    assert await cluster.metrics(CANARIES_MISSED) == missed
    for place in cluster.places:
        assert place.proxy is not None
        place.proxy.restore()
    await baseline.restored(within_seconds=RECOVERY_SECONDS)
    assert cluster.complaints() == []


def _p99(ordered: Sequence[float]) -> float:
    return ordered[math.ceil(len(ordered) * 0.99) - 1]


async def _lost(place: Place) -> float:
    """Wait until the replica knows that it neither reads nor writes. Returns the seconds."""
    began = time.monotonic()

    async def is_lost() -> bool:
        return not (
            await place.metrics("notifier_journal_following") or await place.metrics("notifier_journal_writable")
        )

    await eventually(is_lost, DETECTION_SECONDS + 5)
    return time.monotonic() - began


async def _heard_again(place: Place) -> float:
    """Wait until the replica has heard nothing for a while, and then hears again. Returns the seconds of all that."""
    began = time.monotonic()

    async def is_silent() -> bool:
        return await place.metrics("notifier_journal_silent_seconds") > 5

    async def is_hearing() -> bool:
        return await place.metrics("notifier_journal_silent_seconds") < 5

    await eventually(is_silent, 10)
    await eventually(is_hearing, HEARING_SECONDS + 10)
    return time.monotonic() - began
