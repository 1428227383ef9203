"""The conversations of docs/protocol.md that come as a stream of events, an empty line of it as `<` alone."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from tests.docs.flow import SHORT_SECONDS, Flow, revoke, send
from tests.replica import Replica
from tests.service.events import ACCEPT, Block, Stream, refused, stream
from tests.tokens import bearer


async def events(flow: Flow, replica: Replica) -> None:
    async with open_stream(flow, replica, "iris", ticket=await ticket(flow, replica, "iris")) as iris:
        await send(replica, everywhere=flow, to={"users": ["iris"]}, title="Order shipped")
        await note_message(flow, iris)
        note_block(flow, await iris.block())


async def events_back(flow: Flow, replica: Replica) -> None:
    """An end that is not final: the client comes back with another token, and where it was."""
    async with open_stream(flow, replica, "kira", lifetime_seconds=SHORT_SECONDS) as kira:
        flow.note("(heartbeats, each an id alone)")
        await note_end(flow, kira)
    await send(replica, everywhere=flow, to={"users": ["kira"]}, title="Order shipped")
    async with open_stream(flow, replica, "kira", last_id=kira.last_id) as kira:
        await note_message(flow, kira)


async def events_ended(flow: Flow, replica: Replica) -> None:
    """An end that is final: an EventSource comes back even so, and is stopped; a client of its own should not."""
    given = await ticket(flow, replica, "lena")
    async with open_stream(flow, replica, "lena", ticket=given) as lena:
        await revoke(flow, replica, "lena")
        await note_end(flow, lena)
    flow.note("> GET /events?ticket=v1.eyJ…")
    flow.note("> Accept: text/event-stream")
    flow.note(f"> Last-Event-ID: {lena.last_id}")
    answer = await refused(replica.url, params={"ticket": given}, headers={**ACCEPT, "Last-Event-ID": lena.last_id})
    flow.note(f"< HTTP {answer.status_code}")


async def ticket(flow: Flow, replica: Replica, user: str) -> str:
    flow.note("> POST /ticket, with Authorization: Bearer eyJ…")
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(user), verify=False) as client:
        answer = (await client.post("/ticket")).json()
    flow.note(f"< {json.dumps(answer | {'ticket': 'v1.eyJ…'}, ensure_ascii=False)}")
    given: str = answer["ticket"]
    return given


@asynccontextmanager
async def open_stream(
    flow: Flow,
    replica: Replica,
    user: str,
    *,
    ticket: str | None = None,
    last_id: str | None = None,
    lifetime_seconds: int = 3_600,
) -> AsyncIterator[Stream]:
    """A stream past its welcome, with a ticket or a token of the user."""
    flow.note(f"> GET /events{'?ticket=v1.eyJ…' if ticket else ''}")
    flow.note("> Accept: text/event-stream")
    if ticket is None:
        flow.note("> Authorization: Bearer eyJ…")
    if last_id is not None:
        flow.note(f"> Last-Event-ID: {last_id}")
    opening = stream(
        replica.url, user, ticket=ticket, last_id=last_id, is_read=False, lifetime_seconds=lifetime_seconds
    )
    async with opening as opened:
        flow.note(f"< HTTP 200, content-type: {opened.headers['content-type']}")
        for _ in range(2):
            note_block(flow, await opened.block())
        yield opened


async def note_end(flow: Flow, opened: Stream) -> None:
    """What is said to the end, but for heartbeats."""
    try:
        while True:
            await note_message(flow, opened)
    except EOFError:
        flow.note("(the stream ends)")


async def note_message(flow: Flow, opened: Stream) -> None:
    """The next block that is no heartbeat."""
    while (block := await opened.block()).data is None:
        continue
    note_block(flow, block)


def note_block(flow: Flow, block: Block) -> None:
    for name in ("retry", "id", "data"):
        if (value := getattr(block, name)) is not None:
            flow.note(f"< {name}: {value}")
    flow.note("<")
