"""T-19: the broker raises an alarm over memory or disk, and takes no messages for a while."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.faults.cluster import Baseline, Cluster, Place
from tests.faults.conftest import Report, Scale
from tests.service.client import eventually, session
from tests.tokens import bearer

REFUSAL_SECONDS = 4.0  # The contract's; a busy machine adds to it.
RECOVERY_SECONDS = 5.0
BETWEEN_CALLS_SECONDS = 0.05
WITNESS = "witness"
CALL_TYPE = "faults.call"


@pytest.mark.parametrize("alarm", ["memory", "disk"])
async def test_an_alarm_of_the_broker_is_refused_in_time_and_leaves_no_burst_behind(
    alarm: str, direct_cluster: Cluster, scale: Scale, report: Report
) -> None:
    cluster = direct_cluster
    block = cluster.broker.block_by_memory if alarm == "memory" else cluster.broker.block_by_disk
    baseline, calls = await Baseline.of(cluster), Calls(cluster)
    rate, seconds = scale(60.0, 300.0), scale(3.0, 10.0)
    load = {"sessions": scale(60, 600), "rate": rate, "seconds": seconds, "seed": 19, "retry_seconds": scale(30, 120)}
    async with session(cluster[0].ws_url, WITNESS) as witness:
        start = witness.welcome["position"]
    async with cluster.proof(amqp_share=0.2, **load) as proof, calls.going():
        await proof.sent(round(rate * seconds / 4))
        await asyncio.to_thread(block)
        blocked_at = time.monotonic()
        await _all_tell_of_the_alarm(cluster)
        told_after = time.monotonic() - blocked_at
        await proof.all_degraded(within_seconds=10)
        await asyncio.sleep(max(0.0, blocked_at + scale(3.0, 60.0) - time.monotonic()))  # The length of the fault.
        await asyncio.to_thread(cluster.broker.unblock)
        recovered_after = await calls.accepted_everywhere()
        await proof.all_restored(within_seconds=RECOVERY_SECONDS)
        await proof.settle()
        verdict = proof.verdict()
    late = calls.late(await _received(cluster[0], start))
    refused = [call for call in calls.made if call.outcome != "202"]
    report(
        verdict,
        told_after=round(told_after, 2),
        recovered_after=round(recovered_after, 2),
        calls=dict(Counter(call.outcome for call in calls.made)),
        slowest_call=round(max(call.seconds for call in calls.made), 2),
        late={str(place): len(records) for place, records in late.items()},
    )

    assert verdict.is_clean, verdict
    assert verdict.unknown == 0
    assert proof.closed_codes == Counter()
    assert recovered_after < RECOVERY_SECONDS
    assert {call.outcome for call in refused} <= {"503 journal_blocked", "503 journal_unavailable"}
    assert "503 journal_blocked" in {call.outcome for call in refused}
    assert all(call.has_retry_after and call.seconds < REFUSAL_SECONDS + 1 for call in refused)
    # The one that was under way: the broker tells of an alarm only in return for a record.
    assert all(len(records) <= 1 for records in late.values()), late
    assert await cluster.metrics("notifier_journal_blocked") == [0, 0, 0]
    await baseline.restored(within_seconds=15)
    assert cluster.complaints() == []


async def _all_tell_of_the_alarm(cluster: Cluster) -> None:
    async def do_tell() -> bool:
        states = [await place.probe("/readyz") for place in cluster.places]
        are_ready = all(
            status == 200 and state["checks"]["journal"] == "degraded: journal_blocked" for status, state in states
        )
        return are_ready and await cluster.metrics("notifier_journal_blocked") == [1, 1, 1]

    await eventually(do_tell, 10)


@dataclass(frozen=True, slots=True)
class Call:
    """What came of a request: `outcome` is the status, with the code of the problem if it is one."""

    number: int
    place: Place
    began: float
    seconds: float
    outcome: str
    has_retry_after: bool


class Calls:
    """Notifications for the witness, to each replica in turn, without a key and without a retry."""

    def __init__(self, cluster: Cluster) -> None:
        self.made: list[Call] = []
        self._places = cluster.places

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """Call until the end of the block, and wait for the answers that are still to come."""
        async with (
            httpx.AsyncClient(headers=bearer(), verify=False, timeout=10) as client,
            asyncio.TaskGroup() as tasks,
        ):
            calling = tasks.create_task(self._go_on(client, tasks))
            yield
            calling.cancel()

    async def accepted_everywhere(self) -> float:
        """Wait until each replica has accepted one that begins from now on. Returns the seconds."""
        began = time.monotonic()

        async def have_accepted() -> bool:
            accepted = (call for call in self.made if call.began >= began and call.outcome == "202")
            return len({call.place for call in accepted}) == len(self._places)

        await eventually(have_accepted, RECOVERY_SECONDS + 10)
        return time.monotonic() - began

    def late(self, received: Mapping[int, str]) -> Mapping[Place, set[str]]:
        """The records with calls in them that were refused, of each replica. All that was accepted must be there."""
        records: dict[Place, set[str]] = {}
        for call in self.made:
            position = received.get(call.number)
            assert position is not None or call.outcome != "202", call
            if position is not None and call.outcome != "202":
                records.setdefault(call.place, set()).add(position.rpartition(".")[0])
        return records

    async def _go_on(self, client: httpx.AsyncClient, tasks: asyncio.TaskGroup) -> None:
        for number in itertools.count():
            tasks.create_task(self._call(client, number))
            await asyncio.sleep(BETWEEN_CALLS_SECONDS)

    async def _call(self, client: httpx.AsyncClient, number: int) -> None:
        place, began = self._places[number % len(self._places)], time.monotonic()
        body = {"to": {"users": [WITNESS]}, "type": CALL_TYPE, "data": {"n": number}}
        answer = await client.post(f"{place.url}/notify", json=body)
        outcome = "202" if answer.status_code == 202 else f"{answer.status_code} {answer.json()['code']}"
        seconds, has_retry_after = time.monotonic() - began, "retry-after" in answer.headers
        self.made.append(Call(number, place, began, seconds, outcome, has_retry_after))


async def _received(place: Place, position: str) -> Mapping[int, str]:
    """The number and the position of every call that the witness gets from a position on."""
    async with session(place.ws_url, WITNESS, position=position) as witness:
        assert witness.welcome["resume"]["status"] == "resumed"
        frames = [frame for frame in await witness.drained() if frame["type"] == "notification"]
    # A broadcast of the load reaches the witness too.
    received = [frame for frame in frames if frame["notification"]["type"] == CALL_TYPE]
    positions = {frame["notification"]["data"]["n"]: frame["position"] for frame in received}
    assert len(positions) == len(received), "a call was repeated"
    return positions
