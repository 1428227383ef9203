"""T-12 and T-24: the stream is deleted under load, and poison is put into it behind the back of the service."""

import asyncio
import struct
import time
from collections import Counter

import aiormq
import pytest
from pamqp.commands import Basic

from notifier.broker.topology import Names
from tests.faults.cluster import Baseline, Cluster
from tests.faults.conftest import Report, Scale
from tests.service.client import eventually

RECOVERY_SECONDS = 30.0
SKIPPED = "notifier_journal_skipped_records_total"
LOST = "notifier_journal_connections_lost_total"
EPOCHS = "notifier_journal_epoch_changes_total"


class RawProperties(Basic.Properties):
    """Properties of a message as they go over the wire, whatever they are."""

    def __init__(self, flags: int, values: bytes = b"") -> None:
        super().__init__()
        self._marshalled = struct.pack(">H", flags) + values

    def marshal(self) -> bytes:
        return self._marshalled


def no_properties() -> RawProperties:
    return RawProperties(0)


def content_type_that_is_no_text() -> RawProperties:
    return RawProperties(1 << 15, b"\x02\xff\xfe")


def timestamp_in_microseconds() -> RawProperties:
    return RawProperties(1 << 6, struct.pack(">Q", 1_700_000_000_000_000))


async def test_deleting_the_stream_under_load_resets_every_client_and_loses_nothing_in_silence(
    direct_cluster: Cluster, scale: Scale, report: Report
) -> None:
    sessions, rate, seconds = scale(60, 600), scale(60.0, 300.0), scale(4.0, 20.0)
    cluster = direct_cluster
    baseline = await Baseline.of(cluster)
    epochs = await cluster.metrics(EPOCHS)
    async with cluster.proof(sessions=sessions, rate=rate, seconds=seconds, amqp_share=0.2, seed=12) as proof:
        await proof.sent(round(rate * seconds / 2))
        deleted_at = time.monotonic()
        await asyncio.to_thread(cluster.broker.delete_queue, Names(cluster.prefix).stream)
        proof.pause()  # Else the new stream would soon be longer than the old one, and easily mistaken for it.
        await _all_reset(cluster, epochs)
        reset_at = time.monotonic()
        proof.resume()
        await proof.all_live(within_seconds=RECOVERY_SECONDS)
        recovered_after = time.monotonic() - deleted_at
        await proof.settle()
        verdict = proof.verdict()
    report(verdict, recovered_after=round(recovered_after, 1), reset_gaps=verdict.reset_gaps.count)

    offences = (verdict.lost, verdict.unexpected, verdict.out_of_order)
    assert (sum(tally.count for tally in offences), verdict.silent, verdict.accepted > 0) == (0, 0, True), verdict
    # The stream takes the idempotency keys with it: what was under way may have been in both, and nothing else.
    under_way = {send.n for send in proof.ledger.sends if send.begun_at < reset_at and send.settled_at > deleted_at}
    assert {int(words.split()[0].removeprefix("n=")) for words in verdict.repeated.first} <= under_way, verdict
    assert verdict.unknown == 0
    assert recovered_after < RECOVERY_SECONDS
    assert proof.closed_codes.keys() == {4000}
    # Who comes to a replica that does not know yet resumes there, and is sent on by it.
    assert {recipient.absences[-1].status for recipient in proof.recipients} == {"reset"}
    await cluster.all_following(within_seconds=RECOVERY_SECONDS)
    await baseline.restored(within_seconds=RECOVERY_SECONDS)
    assert all("stream is another one" in line for line in cluster.complaints())


async def _all_reset(cluster: Cluster, epochs: list[float]) -> None:
    async def are_reset() -> bool:
        now = await cluster.metrics(EPOCHS)
        return all(after > before for before, after in zip(epochs, now, strict=True))

    await eventually(are_reset, RECOVERY_SECONDS)


@pytest.mark.asyncio(loop_scope="package")
async def test_poison_in_the_stream_is_skipped_and_delivery_goes_on(
    proxied_cluster: Cluster, scale: Scale, report: Report
) -> None:
    """Three messages that are no records, and two in a row that break the decoder of AMQP, and so the connection.

    They stay in the stream, and every replica that starts reads them again: these are not started any more.
    """
    cluster = proxied_cluster
    poison = [
        (b"\x00 this is no record", Basic.Properties(message_id="somebody-elses")),
        (b"", no_properties()),
        (b"{}", content_type_that_is_no_text()),
        (b"{}", timestamp_in_microseconds()),
        (b"\xff" * 1_000, no_properties()),
    ]
    baseline = await Baseline.of(cluster)
    skipped, lost, epochs = [await cluster.metrics(name) for name in (SKIPPED, LOST, EPOCHS)]
    load = {"sessions": scale(60, 600), "rate": scale(60.0, 300.0), "seconds": scale(3.0, 20.0), "seed": 24}
    async with cluster.proof(amqp_share=0.2, **load) as proof:
        await proof.sent(60)
        poisoned_at = time.monotonic()
        await _publish(cluster, poison)
        await _grown_by(cluster, SKIPPED, skipped, len(poison))
        skipped_after = time.monotonic() - poisoned_at
        await proof.settle()
        verdict = proof.verdict()
    losses = [after - before for before, after in zip(lost, await cluster.metrics(LOST), strict=True)]
    report(verdict, skipped_after=round(skipped_after, 1), losses=losses)

    assert verdict.is_clean, verdict
    assert verdict.unknown == 0
    assert skipped_after < RECOVERY_SECONDS
    assert proof.closed_codes == Counter()
    # Two tries for each of the two that break a connection, and one before, which took along what had been read ahead.
    assert all(count <= 2 * 3 for count in losses)
    assert await cluster.metrics(EPOCHS) == epochs
    await baseline.restored(within_seconds=RECOVERY_SECONDS)
    assert [after - before for before, after in zip(skipped, await cluster.metrics(SKIPPED), strict=True)] == [
        5,
        5,
        5,
    ]


async def _publish(cluster: Cluster, messages: list[tuple[bytes, Basic.Properties]]) -> None:
    """Publish to the exchange of the journal, where nobody but the service should."""
    connection = await aiormq.connect(cluster.broker.url())
    try:
        channel = await connection.channel()
        for body, properties in messages:
            await channel.basic_publish(body, exchange=Names(cluster.prefix).journal, properties=properties, timeout=5)
    finally:
        await connection.close()


async def _grown_by(cluster: Cluster, name: str, before: list[float], growth: int) -> None:
    async def have_grown() -> bool:
        now = await cluster.metrics(name)
        return all(after - was >= growth for was, after in zip(before, now, strict=True))

    await eventually(have_grown, RECOVERY_SECONDS)
