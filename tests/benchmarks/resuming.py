"""What it costs when everybody comes back at once: as after a restart of the proxy before the service."""

import asyncio
import json
from typing import Any, Final

import httpx

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Load, LoadFailed, Opening
from tests.benchmarks.requests import BATCH_ITEMS, session_tokens
from tests.benchmarks.server import fresh_server, resuming
from tests.service.client import session
from tests.tokens import bearer

OWN, OF_ROLE, TO_EVERYONE = 4, 3, 3
MISSED: Final = OWN + OF_ROLE + TO_EVERYONE
AT_A_TIME: Final = 2_000  # Handshakes that wait for their answer; below the backlog, which 10,000 would overflow.


def resume(count: int) -> list[Figure]:
    """Sessions that have missed ten notifications each, four of them their own, against as many that have not.

    The same history, and a fresh server, for both: the difference is what the resumes cost.
    """
    came, came_back = (_cpu_seconds(count, is_resumed=is_resumed) for is_resumed in (False, True))
    return [
        Figure(resume_name(count), "CPU s beyond handshakes", came_back - came),
        Figure(resume_name(count), "CPU s with handshakes", came_back),
    ]


def resume_name(count: int) -> str:
    return f"{count:,} sessions resume at once"


def _cpu_seconds(count: int, *, is_resumed: bool) -> float:
    with fresh_server() as load:
        position = asyncio.run(_make_history(load, count))
        visited = resuming(load, position, missed=MISSED) if is_resumed else load
        measured = visited.run(Opening(count), tokens=session_tokens(count), at_a_time=AT_A_TIME)
    return measured[0]["cpu_seconds"]


async def _make_history(load: Load, count: int) -> str:
    """Send what will have been missed. Returns the position before it."""
    port = load.target.ports[0]
    async with (
        session(f"ws://127.0.0.1:{port}/ws", "historian") as historian,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=bearer(), timeout=30) as backend,
    ):
        for number in range(OWN):
            for first in range(0, count, BATCH_ITEMS):
                users = range(first, min(count, first + BATCH_ITEMS))
                await _send(backend, [{"users": [f"user-{user}"]} for user in users])
            if number < OF_ROLE:
                await _send(backend, [{"roles": ["member"]}])
            if number < TO_EVERYONE:
                await _send(backend, [{"everyone": True}])
        # Everything is in the window once its last one is on a screen.
        await _send(backend, [{"users": ["historian"]}])
        for _ in range(TO_EVERYONE + 1):
            await historian.frame("notification")
        return str(historian.welcome["position"])


async def _send(backend: httpx.AsyncClient, audiences: list[dict[str, Any]]) -> None:
    items = [{"to": to, "type": "order.shipped", "title": "Order shipped", "body": "x" * 100} for to in audiences]
    answer = await backend.post(
        "/notify/batch", content=json.dumps(items), headers={"Content-Type": "application/json"}
    )
    if answer.status_code != 202:
        raise LoadFailed(f"a batch was not taken: {answer.text[:1000]}")
