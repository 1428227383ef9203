"""The operations port by itself: what a full replica has to say does not hold its event loop."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from notifier.telemetry.operations import SLICE_SESSIONS, Insight, create_operations_app

SESSIONS = [{"session": f"s{number}", "user": "Zoë"} for number in range(2 * SLICE_SESSIONS + 1)]


def insight(sessions: Iterator[Mapping[str, Any]]) -> Insight:
    async def nothing() -> Any: ...

    return Insight(
        readiness=nothing,
        metrics=nothing,
        sessions=lambda tenant, user: sessions,
        notification=lambda *_: {},
        rebalance=lambda _: 0,
    )


async def test_many_sessions_are_all_told_in_slices() -> None:
    turns_at: list[int] = []
    turns = 0

    def told() -> Iterator[Mapping[str, Any]]:
        for each in SESSIONS:
            turns_at.append(turns)
            yield each

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    transport = httpx.ASGITransport(create_operations_app(insight(told())))
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as operator:
        answer = await operator.get("/sessions")
    counting.cancel()

    assert answer.json() == {"sessions": SESSIONS}
    assert answer.headers["content-type"] == "application/json"
    assert turns_at[0] < turns_at[SLICE_SESSIONS] < turns_at[-1]
