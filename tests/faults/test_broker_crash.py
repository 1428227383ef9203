"""T-01 and T-02: the broker goes in the middle of a load, killed or in good order, and comes back on its data."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from tests.faults.cluster import Baseline, Caller, Cluster, holds
from tests.faults.conftest import Report, Scale
from tests.rabbitmq import RabbitMQ

REFUSAL_SECONDS = 4.0  # The contract's; a busy machine adds to it.
RECOVERY_SECONDS = 15.0


async def test_killing_the_broker_under_load_loses_nothing(
    direct_cluster: Cluster, own_rabbitmq: RabbitMQ, scale: Scale, report: Report
) -> None:
    await _outlive(direct_cluster, own_rabbitmq.kill, own_rabbitmq.start, scale, report)


async def test_stopping_the_broker_in_good_order_under_load_loses_nothing(
    direct_cluster: Cluster, own_rabbitmq: RabbitMQ, scale: Scale, report: Report
) -> None:
    await _outlive(direct_cluster, own_rabbitmq.stop_app, own_rabbitmq.start_app, scale, report)


async def _outlive(
    cluster: Cluster, take_down: Callable[[], None], bring_back: Callable[[], None], scale: Scale, report: Report
) -> None:
    rate, seconds = scale(60.0, 500.0), scale(5.0, 20.0)
    baseline = await Baseline.of(cluster)
    caller = Caller(cluster.urls)
    async with cluster.proof(sessions=scale(60, 1_000), rate=rate, seconds=seconds, amqp_share=0.2, seed=1) as proof:
        async with caller.calling():
            await proof.sent(round(rate * seconds / 4))
            down_at = time.monotonic()
            await asyncio.to_thread(take_down)
            await proof.all_degraded(within_seconds=10)
            await holds(lambda: time.monotonic() - down_at > scale(2.0, 5.0), within_seconds=10)
            await asyncio.to_thread(bring_back)
            up_at = time.monotonic()
            received = proof.ledger.receipts
            await holds(lambda: proof.ledger.receipts > received, within_seconds=RECOVERY_SECONDS)
            delivered_after = time.monotonic() - up_at
            await proof.all_restored(within_seconds=RECOVERY_SECONDS)
            restored_after = time.monotonic() - up_at
            await proof.all_live(within_seconds=RECOVERY_SECONDS)
            await proof.settle()
        verdict = proof.verdict()
    report(
        verdict,
        down_seconds=round(up_at - down_at, 1),
        delivered_after=round(delivered_after, 2),
        restored_after=round(restored_after, 2),
        calls=dict(caller.statuses),
        slowest_call=round(caller.slowest_seconds, 2),
    )

    assert verdict.is_clean, str(verdict)
    assert verdict.unknown == 0
    assert proof.closed_codes == Counter()
    assert caller.statuses.keys() == {202, 503}
    assert all(has_retry_after for status, has_retry_after, _ in caller.answers if status == 503)
    assert caller.slowest_seconds < REFUSAL_SECONDS + 1
    await baseline.restored(within_seconds=15)
    assert cluster.complaints() == []
