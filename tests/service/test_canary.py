"""A replica that takes sockets and sends, and delivers nothing, is found out; and nobody else can send canaries."""

import asyncio

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import PROTOCOL, eventually, refusal, session
from tests.service.conftest import StartReplica
from tests.telemetry.scrape import scrape
from tests.tokens import bearer, token


@pytest.mark.parametrize("module", ["tests.lost_timer"], indirect=True)
async def test_a_replica_whose_hub_is_stuck_turns_unready(start_replica: StartReplica) -> None:
    """It answers everything as if all were well; its sessions hear nothing."""
    replica = start_replica(OPERATIONS__CANARY_SECONDS="0.2")
    async with (
        httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend,
        session(replica.ws_url, "alice"),
    ):
        # What gets it stuck is a delivery right behind another one.
        await asyncio.gather(*(notify(backend, "alice") for _ in range(20)))
        await eventually(lambda: is_unready(replica))
        status, checks = await readiness(replica)
        async with session(replica.ws_url, "bob") as bob:
            await notify(backend, "bob")
            before = (await scrape(replica)).value("notifier_canary_missed_total")
            while (page := await scrape(replica)).value("notifier_canary_missed_total") == before:
                pass
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await bob.connection.recv()

    assert (status, checks) == (503, {**checks, "canary": "missing", "journal": "ok", "workers": "ok"})
    assert page.value("notifier_canary_missing") == 1
    assert page.value("notifier_canary_missed_total") >= 6
    assert page.value("notifier_canary_rebuilds_total") >= 1
    events = [line["event"] for line in replica.log_lines()]
    assert events.count("canary missing") >= 6


async def test_canaries_can_be_switched_off(start_replica: StartReplica) -> None:
    replica = start_replica(OPERATIONS__CANARY_SECONDS="0")

    status, checks = await readiness(replica)

    assert (status, checks["canary"]) == (200, "off")
    assert "notifier_canary_missing" not in (await scrape(replica)).families


async def test_canaries_return_and_show_their_time(start_replica: StartReplica) -> None:
    replica = start_replica(OPERATIONS__CANARY_SECONDS="0.1")

    async def has_returned() -> bool:
        return (await scrape(replica)).value("notifier_canary_round_trip_seconds_count") >= 3

    await eventually(has_returned)
    page = await scrape(replica)
    assert page.value("notifier_sessions") == 0
    assert page.value("notifier_unreached_total") == 0
    assert page.value("notifier_deliveries_total") == 0


async def test_nobody_else_can_enter_or_send_as_a_canary(replica: Replica, backend: httpx.AsyncClient) -> None:
    answer = await backend.post(
        "/notify", json={"to": {"users": ["x"], "tenant": "$canary"}, "type": "t", "title": "x"}
    )
    offered = [PROTOCOL, f"bearer.{token('x', tenant='$canary')}"]
    status, problem, _ = await refusal(replica.ws_url, subprotocols=offered)

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/to/tenant")
    assert (status, problem["code"]) == (401, "token_invalid")


async def notify(backend: httpx.AsyncClient, user: str) -> None:
    answer = await backend.post("/notify", json={"to": {"users": [user]}, "type": "t", "title": "x"})
    assert answer.status_code == 202


async def is_unready(replica: Replica) -> bool:
    return (await readiness(replica))[0] == 503


async def readiness(replica: Replica) -> tuple[int, dict[str, str]]:
    async with httpx.AsyncClient(verify=False) as operator:
        answer = await operator.get(f"{replica.operations_url}/readyz")
    return answer.status_code, answer.json()["checks"]
