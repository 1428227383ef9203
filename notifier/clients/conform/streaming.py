"""Checks of streams of events, and of the tickets that open them."""

from typing import Final

from notifier.clients.conform.check import Check, Inapplicable, expect, rule, same
from notifier.clients.conform.conversing import LONGEST_WAIT_SECONDS, patience
from notifier.clients.conform.entering import INVALID, expect_unauthenticated
from notifier.clients.conform.open_stream import stream
from notifier.clients.conform.target import Target, ask, send


@rule("HTML, 9.2; docs/protocol.md, Streams of events")
async def stream_begins(target: Target) -> None:
    """A stream is text/event-stream that nobody may keep; it says retry, then welcome with its position as id."""
    async with stream(target) as opened:
        same("content-type", opened.answer.media_type(), "text/event-stream")
        same("cache-control", opened.answer.headers.get("cache-control"), "no-store")
        first = await opened.block()
        retry = first.fields.get("retry", "")
        expect(retry.isdecimal(), "retry with milliseconds", dict(first.fields))
        welcome = first if first.frame else await opened.block()
        expect(welcome.frame and welcome.frame["type"] == "welcome", "welcome", dict(welcome.fields))
        expect("event" not in welcome.fields, "no event: lines", dict(welcome.fields))
        same("id", welcome.fields.get("id"), (welcome.frame or {}).get("position"))


@rule("docs/protocol.md, Streams of events")
async def stream_delivers(target: Target) -> None:
    """A notification comes as the message of a socket, with its position as id."""
    async with stream(target) as opened:
        user = ((await opened.hear("welcome")).frame or {})["user"]
        sent = await send(target, user, "Over a stream")
        block = await opened.hear("notification")
        frame = block.frame or {}
        same("notification", frame["notification"]["id"], sent)
        same("id", block.fields.get("id"), frame["position"])


@rule("HTML, 9.2.4; docs/protocol.md, Streams of events")
async def last_event_id(target: Target) -> None:
    """Last-Event-ID resumes, and counts before the position of the query."""
    async with stream(target) as opened:
        welcome = (await opened.hear("welcome")).frame or {}
        before = welcome["position"]
        sent = await send(target, welcome["user"], "Missed")
        behind = (await opened.hear("notification")).fields.get("id", "")
    async with stream(target, query={"position": behind}, headers={"Last-Event-ID": before}) as again:
        welcome = (await again.hear("welcome")).frame or {}
        same("position of welcome", welcome["position"], before)
        same("status of resume", welcome["resume"]["status"], "resumed")
        block = await again.hear("notification")
        same("notification", ((block.frame or {})["notification"])["id"], sent)


@rule("docs/protocol.md, Streams of events", is_slow=True, within_seconds=2 * LONGEST_WAIT_SECONDS)
async def stream_heartbeat(target: Target) -> None:
    """A heartbeat is an id alone, within two times heartbeat_seconds."""
    async with stream(target) as opened:
        seconds = patience((await opened.hear("welcome")).frame or {})
        while True:
            block = await opened.block(within_seconds=seconds)
            if block.frame is None and "id" in block.fields:
                same("fields of a heartbeat", sorted(block.fields), ["id"])
                return
            expect((block.frame or {}).get("type") != "heartbeat", "a heartbeat as an id alone", dict(block.fields))


@rule("RFC 6750, 3; docs/protocol.md, Streams of events")
async def stream_refusal(target: Target) -> None:
    """A stream without a good token is refused with 401, WWW-Authenticate and a problem."""
    expect_unauthenticated(await ask(target, "GET", "/events", token=INVALID))


@rule("HTML, 9.2.3; docs/protocol.md, Streams of events")
async def stream_that_should_not_come_back(target: Target) -> None:
    """An EventSource with a ticket that is none is answered with 204, which stops it."""
    answer = await ask(target, "GET", "/events", params={"ticket": INVALID}, headers={"Accept": "text/event-stream"})
    expect(answer.status == 204, "204", answer)


@rule("docs/protocol.md, Tickets")
async def ticket(target: Target) -> None:
    """A token gives a ticket, which nobody may keep, and which opens a stream."""
    answer = await ask(target, "POST", "/ticket", token=target.token)
    if answer.status == 404:
        raise Inapplicable("the server gives no tickets (404)")
    expect(answer.status == 200, "200", answer)
    same("cache-control", answer.headers.get("cache-control"), "no-store")
    given = answer.json()
    expect({"ticket", "expires_in", "session_expires_at"} <= set(given), "ticket and its ends", sorted(given))
    async with stream(target, query={"ticket": given["ticket"]}) as opened:
        await opened.hear("welcome")


CHECKS: Final[tuple[Check, ...]] = (
    stream_begins,
    stream_delivers,
    last_event_id,
    stream_heartbeat,
    stream_refusal,
    stream_that_should_not_come_back,
    ticket,
)
