"""How a replica ends: at a pace on SIGTERM, at once on a second signal, and abruptly on SIGKILL."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, complaints, eventually, refusal, session, sessions_of
from tests.service.conftest import StartReplica, on_both_paths
from tests.tokens import bearer, token

pytestmark = on_both_paths

DELAY_SECONDS = 2
WINDOW_SECONDS = 4


@pytest.fixture(autouse=True)
def calm(tmp_path: Path) -> Iterator[None]:
    """No replica of a test's own may have logged an error by its end."""
    yield
    assert [complaint for log in tmp_path.glob("*.log") for complaint in complaints(log)] == []


async def test_a_drain_is_announced_then_paced_and_serves_sends_until_its_end(start_replica: StartReplica) -> None:
    ending = start_replica(HTTP__DRAIN_DELAY_SECONDS=str(DELAY_SECONDS), HTTP__DRAIN_WINDOW_SECONDS=str(WINDOW_SECONDS))
    offered = [PROTOCOL, f"bearer.{token('late')}"]

    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(httpx.AsyncClient(base_url=ending.url, headers=bearer(), verify=False))
        clients = [await stack.enter_async_context(session(ending.ws_url, f"user-{n}")) for n in range(3)]
        ending.process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_unready(ending))
        clients.append(await stack.enter_async_context(session(ending.ws_url, "newcomer")))
        during_delay = await notify(sender, [f"user-{n}" for n in range(3)] + ["newcomer"])
        titles = [(await client.notification())["title"] for client in clients]
        watching = [asyncio.create_task(end_of(client)) for client in clients]
        await asyncio.wait(watching, return_when=asyncio.FIRST_COMPLETED)
        during_window = await notify(sender, ["newcomer"])
        status, problem, headers = await refusal(ending.ws_url, subprotocols=offered, headers=[("Origin", ending.url)])
        ends = await asyncio.gather(*watching)
    exit_code = await asyncio.to_thread(ending.process.wait, 10)

    assert (during_delay, during_window, titles) == (202, 202, ["x"] * 4)
    assert (status, problem["code"]) == (503, "draining")
    assert int(headers["retry-after"]) > 0
    for frames, code, reason, _ in ends:
        assert (code, reason) == (4001, "drain")
        last = frames[-1]
        assert (last["type"], last["reason"]) == ("reconnect", "drain")
        assert last["position"]
        assert 0 < last["after_ms"] <= 1_000
    moments = sorted(moment for *_, moment in ends)
    assert moments[-1] - moments[0] > WINDOW_SECONDS / 4
    assert exit_code == 0


async def test_a_frozen_client_does_not_hold_up_the_end(start_replica: StartReplica) -> None:
    """T-81. It would for ever: closing a connection waits until what was written is taken. Checklist 2.1."""
    ending = start_replica(HTTP__SEND_BUFFER_BYTES="4096", HTTP__DRAIN_WINDOW_SECONDS="0.5")

    async with (
        httpx.AsyncClient(base_url=ending.url, headers=bearer(), verify=False) as sender,
        session(ending.ws_url, "frozen", receive_buffer_bytes=4_096) as frozen,
        session(ending.ws_url, "thawed") as thawed,
    ):
        items = [{"to": {"users": ["frozen"]}, "type": "t", "body": "x" * 500} for _ in range(1_000)]
        for _ in range(2):
            await sender.post("/notify/batch", json=items, timeout=30)
        await eventually(lambda: is_behind(ending, "frozen"))
        ending.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        frames, code, _ = await thawed.rest()
        exit_code = await asyncio.to_thread(ending.process.wait, 10)
        seconds = time.monotonic() - began
        await frozen.abort()

    assert (code, [frame["type"] for frame in frames]) == (4001, ["reconnect"])
    assert exit_code == 0
    assert seconds < 8


async def test_a_second_sigterm_hurries_the_end_and_breaks_nothing(start_replica: StartReplica) -> None:
    """T-82."""
    ending = start_replica(HTTP__DRAIN_DELAY_SECONDS="60", HTTP__DRAIN_WINDOW_SECONDS="60")

    async with session(ending.ws_url, "alice") as alice, session(ending.ws_url, "bob") as bob:
        ending.process.send_signal(signal.SIGTERM)
        await eventually(lambda: is_unready(ending))
        ending.process.send_signal(signal.SIGTERM)
        closed = [await alice.closed(), await bob.closed()]
    exit_code = await asyncio.to_thread(ending.process.wait, 10)

    assert closed == [(4001, "drain")] * 2
    assert exit_code == 0


async def test_a_second_sigterm_cuts_the_paced_closing_short(start_replica: StartReplica) -> None:
    ending = start_replica(HTTP__DRAIN_WINDOW_SECONDS="60")

    async with session(ending.ws_url, "alice") as alice, session(ending.ws_url, "bob") as bob:
        ending.process.send_signal(signal.SIGTERM)
        first = await alice.closed()
        ending.process.send_signal(signal.SIGTERM)
        ending.process.send_signal(signal.SIGTERM)
        second = await bob.closed()
    exit_code = await asyncio.to_thread(ending.process.wait, 10)

    assert (first, second) == ((4001, "drain"), (4001, "drain"))
    assert exit_code == 0


async def test_sigint_ends_without_the_delay(start_replica: StartReplica) -> None:
    ending = start_replica(HTTP__DRAIN_DELAY_SECONDS="60", HTTP__DRAIN_WINDOW_SECONDS="60")

    async with session(ending.ws_url) as client:
        ending.process.send_signal(signal.SIGINT)
        closed = await client.closed()
    exit_code = await asyncio.to_thread(ending.process.wait, 10)

    assert closed == (4001, "drain")
    assert exit_code == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_right_after_the_ports_are_open_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    """Before the service is ready: its start may still be under way."""
    booting = Booting(tmp_path / "booting.log")
    booting.await_listening()

    booting.process.send_signal(number)

    assert booting.process.wait(10) == 0
    assert '"stopped"' in booting.log_path.read_text()


async def test_after_a_crash_a_returning_client_is_told_reset(start_replica: StartReplica) -> None:
    """The embedded journal dies with its process, and says so by a new epoch."""
    crashing = start_replica()
    async with session(crashing.ws_url) as client:
        crashing.stop(signal.SIGKILL)
        code, _ = await client.closed()
    restarted = start_replica(HTTP__PORT=str(crashing.port))

    async with session(restarted.ws_url, position=client.welcome["position"]) as again:
        resume = again.welcome["resume"]

    assert code == 1006
    assert restarted.port == crashing.port
    assert (resume["status"], resume["reason"]) == ("reset", "epoch_changed")


class Booting(Replica):
    """A replica that nobody waited for."""

    def _await_listening(self) -> list[dict[str, Any]]:
        return [{"port_name": name, "port": 0} for name in ("public", "operations")]

    def _await_ready(self) -> None:
        pass

    def await_listening(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if '"listening"' in self.log_path.read_text():
                return
            time.sleep(0.001)
        raise AssertionError(self.log_path.read_text())


async def notify(sender: httpx.AsyncClient, users: list[str]) -> int:
    answer = await sender.post("/notify", json={"to": {"users": users}, "type": "t", "title": "x"})
    return answer.status_code


async def end_of(client: Client) -> tuple[list[dict[str, Any]], int, str, float]:
    frames, code, reason = await client.rest()
    return frames, code, reason, time.monotonic()


async def is_unready(replica: Replica) -> bool:
    async with httpx.AsyncClient(verify=False) as operator:
        answer = await operator.get(f"{replica.operations_url}/readyz")
    return answer.status_code == 503 and answer.json()["checks"]["drain"] == "ending"


async def is_behind(replica: Replica, user: str) -> bool:
    return [each["state"] for each in await sessions_of(replica.operations_url, user)] == ["behind"]
