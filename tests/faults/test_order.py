"""T-17: many users, each sent numbered messages one after the other, by many callers through every replica."""

from tests.faults.cluster import Cluster
from tests.faults.conftest import Report, Scale

CALLERS = 20


async def test_what_a_user_is_sent_one_after_the_other_arrives_in_this_order(
    direct_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """Each message is sent by another caller, to another replica, after the answer to the one before."""
    users, messages = scale(50, 100), scale(10, 1_000)
    async with direct_cluster.proof(
        sessions=users,
        rate=users * messages,  # As fast as it goes: no more than the callers wait for an answer at a time.
        seconds=1,
        max_in_flight=CALLERS,
        senders=CALLERS,
        topic_share=0,
        broadcast_share=0,
        amqp_share=0.3,
        seed=8,
    ) as proof:
        await proof.all_sent(within_seconds=scale(60.0, 800.0))
        await proof.settle()
        verdict = proof.verdict()
    report(verdict)

    assert verdict.is_clean, str(verdict)
    assert verdict.accepted == users * messages
    assert verdict.receipts == users * messages
    assert direct_cluster.complaints() == []
