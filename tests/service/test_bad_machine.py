"""A machine that gives out: no descriptors, a clock that jumps, an event loop that is held. Sessions do not notice."""

import asyncio
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, complaints, eventually, refusal, session, sessions_of
from tests.tokens import bearer, token

OPEN_FILES = 256
CROWD = 400
HOUR_SECONDS = 3_600
AUTH_SECONDS = 0.5


@pytest.fixture
def poor(tmp_path: Path) -> Iterator[Replica]:
    """A replica that may open few files."""
    command = ["sh", "-c", f"ulimit -n {OPEN_FILES}; exec {sys.executable} -m notifier serve"]
    replica = Replica(tmp_path / "replica.log", command=command)
    yield replica
    replica.stop()
    assert complaints(replica.log_path) == []


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica whose clock can be set, and whose loop can be held."""
    settings = {
        "NOTIFIER_SESSIONS__HEARTBEAT_SECONDS": "1",
        "NOTIFIER_SESSIONS__AUTH_TIMEOUT_SECONDS": str(AUTH_SECONDS),
    }
    log_path = tmp_path_factory.mktemp("troubled") / "replica.log"
    replica = Replica(log_path, settings, module="tests.troubled")
    yield replica
    replica.stop()
    assert complaints(replica.log_path) == []


@pytest.fixture
async def operator() -> AsyncIterator[httpx.AsyncClient]:
    """Whoever asks the operations port, by a new connection each time, as probes do."""
    async with httpx.AsyncClient(verify=False, headers={"Connection": "close"}, timeout=3) as client:
        yield client


async def send(replica: Replica, title: str, **headers: str) -> int:
    async with httpx.AsyncClient(base_url=replica.url, headers=headers or bearer(), verify=False) as backend:
        body = {"to": {"users": ["alice"]}, "type": "t", "title": title}
        return (await backend.post("/notify", json=body)).status_code


async def test_when_no_file_can_be_opened_the_new_are_refused_and_the_old_are_served(
    poor: Replica, operator: httpx.AsyncClient
) -> None:
    """T-84; sharp edges 2.2 (RLIMIT_NOFILE). Checklist 3.4.35."""
    body = {"to": {"users": ["alice"]}, "type": "t", "title": "through"}
    async with (
        AsyncExitStack() as crowd,
        session(poor.ws_url) as old,
        httpx.AsyncClient(base_url=poor.url, headers=bearer(), verify=False) as backend,
    ):
        assert (await backend.post("/notify", json=body)).status_code == 202
        await old.frame("notification")
        for _ in range(CROWD):
            with suppress(ConnectionError):
                _, writer = await asyncio.open_connection("127.0.0.1", poor.port)
                crowd.callback(writer.close)
        probes = [(await operator.get(f"{poor.operations_url}/{path}")).status_code for path in ("livez", "readyz")]
        files = (await operator.get(f"{poor.operations_url}/metrics")).text
        accepted = (await backend.post("/notify", json=body)).status_code
        heard = await old.notification()
        was_let_in = await is_served(poor)

    assert not was_let_in
    assert (probes, accepted, heard["title"]) == ([200, 200], 202, "through")
    assert f"process_max_fds {OPEN_FILES}" in files
    await eventually(lambda: is_served(poor))


async def is_served(replica: Replica) -> bool:
    try:
        return await send(replica, "again") == 202
    except httpx.TransportError:
        return False


async def test_a_clock_that_jumps_changes_no_time_out(troubled: Replica) -> None:
    """T-85; checklist 3.4.34: time-outs are monotonic; only who comes anew is judged by the clock."""
    async with session(troubled.ws_url, lifetime_seconds=2 * HOUR_SECONDS) as old:
        for jump in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGWINCH, signal.SIGUSR1):
            async with bare(troubled.ws_url) as mute:
                began = time.monotonic()
                troubled.process.send_signal(jump)
                assert await mute.closed() == (4003, "auth_timeout")
                assert time.monotonic() - began > AUTH_SECONDS / 2
            await old.frame("heartbeat")
            assert await sessions_of(troubled.operations_url, "alice") != []
        assert await send(troubled, "after all") == 202
        while (heard := await old.frame())["type"] == "heartbeat":
            pass

    assert heard["notification"]["title"] == "after all"


@pytest.mark.parametrize(
    ("jump", "back", "code"),
    [(signal.SIGUSR1, signal.SIGWINCH, "token_expired"), (signal.SIGWINCH, signal.SIGUSR1, "token_invalid")],
    ids=["forward", "back"],
)
async def test_a_wrong_clock_judges_tokens_wrongly_until_it_is_right_again(
    troubled: Replica, jump: signal.Signals, back: signal.Signals, code: str
) -> None:
    """T-85, and docs/security.md, which says so. Checklist 3.4.34."""
    offered = [PROTOCOL, f"bearer.{token('late', lifetime_seconds=HOUR_SECONDS // 2)}"]
    troubled.process.send_signal(jump)
    await eventually(lambda: is_refused(troubled, offered, code))
    troubled.process.send_signal(back)

    await eventually(lambda: is_welcome(troubled, offered))


async def is_refused(replica: Replica, offered: list[str], code: str) -> bool:
    try:
        _, problem, _ = await refusal(replica.ws_url, subprotocols=offered)
    except AssertionError:
        return False
    said: str = problem["code"]
    return said == code


async def is_welcome(replica: Replica, offered: list[str]) -> bool:
    try:
        async with bare(replica.ws_url, subprotocols=offered) as client:
            return bool((await client.frame())["type"] == "welcome")
    except Exception:  # noqa: BLE001 - refused, until the signal was heard
        return False


async def test_a_loop_that_is_held_is_seen_and_survived(troubled: Replica, operator: httpx.AsyncClient) -> None:
    """T-83: the metric shows it, probes are answered, and nobody is sent away."""

    async def is_seen() -> bool:
        troubled.process.send_signal(signal.SIGUSR2)
        assert (await operator.get(f"{troubled.operations_url}/livez")).status_code == 200
        page = (await operator.get(f"{troubled.operations_url}/metrics")).text
        return lag_over(page, 0.1) > 0

    async with session(troubled.ws_url) as client:
        await eventually(is_seen, within_seconds=30)
        ready = await operator.get(f"{troubled.operations_url}/readyz")

        assert await client.drained() == []
    assert ready.status_code == 200


def lag_over(page: str, seconds: float) -> int:
    """How often a callback was later than that, by the page of metrics."""
    buckets = {
        float(most): float(count)
        for most, count in re.findall(r'notifier_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', page)
    }
    return int(max(buckets.values()) - max(count for most, count in buckets.items() if most <= seconds))
