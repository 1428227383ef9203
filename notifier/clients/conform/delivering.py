"""Checks of what arrives, at once and after a client was away."""

from collections.abc import Sequence
from typing import Any, Final

from notifier.clients.conform.check import Broken, Check, Inapplicable, expect, is_moment, rule, same
from notifier.clients.conform.open_session import Refusal, Session, handshake, session
from notifier.clients.conform.target import TYPE, Target, ask, expect_problem, mark, send, sender


@rule("docs/protocol.md, Connect")
async def delivered_once(target: Target) -> None:
    """A notification reaches an open session once, in the order of sending, with what its sender gave."""
    async with session(target) as opened:
        user = opened.welcome["user"]
        sent = [await send(target, user, "One", link="/conform", data={"n": 1}), await send(target, user, "Two")]
        frames = await opened.notifications(sent)
        same("ids", _ids(frames), sent)
        content = frames[0]["notification"]
        given = {name: content.get(name) for name in ("type", "title", "link", "data")}
        same("content", given, {"type": TYPE, "title": "One", "link": "/conform", "data": {"n": 1}})
        expect(is_moment(content["created_at"]), "created_at in RFC 3339, UTC, with milliseconds", content)
        expect(frames[0]["position"] != frames[1]["position"], "a position of its own each", frames)


@rule("docs/protocol.md, Subscribe")
async def delivered_to_a_topic(target: Target) -> None:
    """What goes to a topic alone reaches who is subscribed, says the topic, and is replayed by subscribe."""
    topic = target.topic
    async with session(target) as opened:
        before = opened.welcome["position"]
        await _subscribe(opened, topic)
        sent = await send(target, "", "To a topic", to={"topics": [topic]})
        (frame,) = await opened.notifications([sent])
        same("topics", frame["notification"].get("topics"), [topic])
        await opened.say(type="unsubscribe", topics=[topic])
        await opened.hear("unsubscribed")
        answer = await opened.subscribe(topic, position=before)
        same("status of resume", (answer.get("resume") or {}).get("status"), "resumed")
        same("ids of the replay", _ids(await opened.notifications([sent])), [sent])


@rule("docs/protocol.md, Resume")
async def resume(target: Target) -> None:
    """A client that comes back with its position gets exactly what came meanwhile, in order, and begins there."""
    async with session(target) as opened:
        user = opened.welcome["user"]
        (frame,) = await opened.notifications([await send(target, user, "Seen")])
    missed = [await send(target, user, title) for title in ("Missed", "Missed too")]
    async with session(target, position=frame["position"]) as again:
        same("status of resume", again.welcome["resume"]["status"], "resumed")
        same("position of welcome", again.welcome["position"], frame["position"])
        same("ids", _ids(await again.notifications(missed)), missed)


@rule("docs/protocol.md, Resume")
async def resume_at_the_end(target: Target) -> None:
    """A client that missed nothing is resumed with replayed 0."""
    async with session(target) as opened:
        position = opened.welcome["position"]
    async with session(target, position=position) as again:
        same("resume", again.welcome["resume"], {"status": "resumed", "replayed": 0})


@rule("docs/protocol.md, Resume")
async def earliest(target: Target) -> None:
    """`position=earliest` replays what the window holds for this user."""
    async with session(target) as opened:
        user = opened.welcome["user"]
        sent = await send(target, user, "Held")
        await opened.notifications([sent])
    async with session(target, position="earliest") as again:
        same("status of resume", again.welcome["resume"]["status"], "resumed")
        same("the last id of the replay", _ids(await again.notifications([sent]))[-1], sent)


@rule("docs/protocol.md, Connect and Resume")
async def resume_in_first_frame(target: Target) -> None:
    """A position may come in the first frame, with the token."""
    async with session(target) as opened:
        position = opened.welcome["position"]
    try:
        async with handshake(target) as again:
            await again.say(type="auth", token=target.token, position=position)
            welcome = await again.hear("welcome")
            same("status of resume", welcome["resume"]["status"], "resumed")
            same("position of welcome", welcome["position"], position)
    except Refusal as error:
        raise Broken("a handshake that waits for the token", error) from error


@rule("docs/protocol.md, Reset")
async def unknown_position(target: Target) -> None:
    """A position that the server does not know is a reset with a reason, and the session is open."""
    async with session(target, position=f"conform-{mark()}") as opened:
        came = opened.welcome["resume"]
        expect(came["status"] == "reset" and came.get("reason"), "reset with a reason", came)
        expect(is_moment(came.get("available_since")), "available_since", came)


@rule("docs/protocol.md, Frames; openapi/openapi.json")
async def collapse_key(target: Target) -> None:
    """Who comes back gets only the newest notification of a collapse_key, in its own place."""
    key = mark()
    async with session(target) as opened:
        user, position = opened.welcome["user"], opened.welcome["position"]
        sent = [
            await send(target, user, "Old", collapse_key=key),
            await send(target, user, "Between"),
            await send(target, user, "New", collapse_key=key),
        ]
        await opened.notifications(sent)
    async with session(target, position=position) as again:
        frames = await again.notifications(sent[1:])
        same("ids", _ids(frames), sent[1:])
        same("collapse_key", frames[-1]["notification"].get("collapse_key"), key)


@rule("openapi/openapi.json")
async def only_for_who_is_there(target: Target) -> None:
    """With ttl_seconds 0 it reaches who is connected, and nobody who comes back."""
    async with session(target) as opened:
        user, position = opened.welcome["user"], opened.welcome["position"]
        fleeting = await send(target, user, "Now", ttl_seconds=0)
        lasting = await send(target, user, "Later")
        same("ids", _ids(await opened.notifications([fleeting, lasting])), [fleeting, lasting])
    async with session(target, position=position) as again:
        same("ids", _ids(await again.notifications([lasting])), [lasting])


@rule("openapi/openapi.json")
async def excluded(target: Target) -> None:
    """Whom a notification excludes does not hear of it."""
    async with session(target) as opened:
        user = opened.welcome["user"]
        await send(target, user, "Not for you", to={"users": [user, "conform-nobody"], "exclude": {"users": [user]}})
        behind = await send(target, user, "For you")
        same("ids", _ids(await opened.notifications([behind])), [behind])


@rule("openapi/openapi.json")
async def nobody(target: Target) -> None:
    """A notification for nobody is refused with 422."""
    body = {"to": {}, "type": TYPE, "title": "For nobody"}
    expect_problem(await ask(target, "POST", "/notify", token=sender(target), content=body), 422)


async def _subscribe(opened: Session, topic: str) -> None:
    """Raises Inapplicable where the token does not allow the topic."""
    if not (await opened.subscribe(topic))["topics"]:
        raise Inapplicable(f"the token does not allow the topic {topic}: --topic names another")


def _ids(frames: Sequence[dict[str, Any]]) -> list[str]:
    return [frame["notification"]["id"] for frame in frames]


CHECKS: Final[tuple[Check, ...]] = (
    delivered_once,
    delivered_to_a_topic,
    resume,
    resume_at_the_end,
    resume_in_first_frame,
    earliest,
    unknown_position,
    collapse_key,
    only_for_who_is_there,
    excluded,
    nobody,
)
