"""Checks of what is said in a session, and of what ends it."""

import json
from typing import Any, Final

from notifier.clients.conform.check import Check, Inapplicable, expect, is_moment, rule, same, within
from notifier.clients.conform.open_session import session
from notifier.clients.conform.target import ANSWER_SECONDS, Target, minted

LONGEST_WAIT_SECONDS: Final = 120.0
NORMAL_CLOSURE: Final = 1000


@rule("docs/protocol.md, Frames")
async def ping_and_pong(target: Target) -> None:
    """A ping is answered by a pong with its ref, a text or a number, and a position."""
    async with session(target) as opened:
        for ref in ("a", 7):
            await opened.ping(ref)


@rule("RFC 6455, 5.4")
async def fragments(target: Target) -> None:
    """A message in fragments is one message."""
    async with session(target) as opened:
        await opened.send(['{"type": "pi', 'ng", "re', 'f": "fragments"}'])
        same("ref", (await opened.hear("pong")).get("ref"), "fragments")


@rule("RFC 6455, 5.5.3")
async def control_ping(target: Target) -> None:
    """A WebSocket ping is answered by a pong with the same content."""
    async with session(target) as opened:
        answered = await opened.connection.ping(b"conform")
        async with within(ANSWER_SECONDS, "a pong with the same content"):
            await answered


@rule("docs/protocol.md, Subscribe")
async def subscribe(target: Target) -> None:
    """Subscribe is answered with its ref, the topics that were granted, and the others as denied with a code."""
    async with session(target) as opened:
        answer = await opened.subscribe(target.topic, "$reserved")
        denied = [each["topic"] for each in answer.get("denied") or ()]
        expect("$reserved" in denied, "$reserved to be denied", answer)
        same("granted and denied together", sorted([*answer["topics"], *denied]), sorted([target.topic, "$reserved"]))


@rule("docs/protocol.md, Subscribe")
async def unsubscribe(target: Target) -> None:
    """Unsubscribe is answered with its ref and the topics that were left; one that was not held is no error."""
    async with session(target) as opened:
        granted = (await opened.subscribe(target.topic))["topics"]
        await opened.say(type="unsubscribe", topics=[target.topic, "never-held"], ref="u")
        answer = await opened.hear("unsubscribed")
        same("ref", answer.get("ref"), "u")
        same("topics", answer["topics"], granted)


@rule("docs/protocol.md, Frames")
async def unknown_frame_type(target: Target) -> None:
    """A frame of an unknown type is answered by an error with its ref, and the session stays."""
    await _expect_complaint(target, {"type": "conform-unknown", "ref": "x"})


@rule("docs/protocol.md, Frames")
async def frame_with_wrong_fields(target: Target) -> None:
    """A frame whose fields are of the wrong type is answered by an error, and the session stays."""
    await _expect_complaint(target, {"type": "subscribe", "topics": "not a list", "ref": "x"})


@rule("docs/protocol.md, Frames")
async def unknown_field(target: Target) -> None:
    """A field that the server does not know is ignored: clients may be newer."""
    async with session(target) as opened:
        await opened.say(type="ping", ref="y", conform_unknown=True)
        same("ref", (await opened.hear("pong")).get("ref"), "y")


@rule("docs/protocol.md, Refusals")
async def not_an_object(target: Target) -> None:
    """What is JSON and no object closes with 4400."""
    await _expect_close(target, "[]", 4400)


@rule("docs/protocol.md, Refusals")
async def not_json(target: Target) -> None:
    """What is no JSON closes with 4400."""
    await _expect_close(target, "{", 4400)


@rule("docs/protocol.md, Refusals")
async def binary_frame(target: Target) -> None:
    """A binary frame closes with 4400, whatever is in it."""
    await _expect_close(target, b'{"type": "ping"}', 4400)


@rule("docs/protocol.md, Connect")
async def largest_frame(target: Target) -> None:
    """A frame of just the size that is allowed is answered."""
    async with session(target) as opened:
        await opened.send(_padded_ping(target.frame_limit_bytes))
        await opened.hear("pong")


@rule("RFC 6455, 7.4.1; docs/protocol.md, Connect")
async def oversize_frame(target: Target) -> None:
    """A frame of one byte more closes with 1009."""
    await _expect_close(target, _padded_ping(target.frame_limit_bytes + 1), 1009)


@rule("RFC 6455, 5.5.1")
async def close_is_answered(target: Target) -> None:
    """A close is answered with a close of the same code."""
    async with session(target) as opened:
        await opened.connection.close(NORMAL_CLOSURE)
        same("close code", opened.connection.close_code, NORMAL_CLOSURE)


@rule("docs/protocol.md, Refresh")
async def refresh(target: Target) -> None:
    """A token of the same user is taken in place: the answer has its ref and its end, and the session stays."""
    async with session(target) as opened:
        await opened.say(type="refresh", token=target.token, ref="r")
        answer = await opened.hear("refreshed")
        same("ref", answer.get("ref"), "r")
        expect(is_moment(answer["expires_at"]), "expires_at in RFC 3339, UTC, with milliseconds", answer)
        await opened.ping()


@rule("docs/protocol.md, Refresh")
async def refresh_with_an_invalid_token(target: Target) -> None:
    """A refresh with a token that is not valid closes with 4402."""
    await _expect_close(target, json.dumps({"type": "refresh", "token": "no-token-at-all"}), 4402)


@rule("docs/protocol.md, Refresh")
async def refresh_of_another_user(target: Target) -> None:
    """A refresh with a token of another user closes with 4403."""
    token = minted(target, user="somebody-else")
    await _expect_close(target, json.dumps({"type": "refresh", "token": token}), 4403)


@rule("docs/protocol.md, Connect", is_slow=True, within_seconds=2 * LONGEST_WAIT_SECONDS)
async def heartbeat(target: Target) -> None:
    """A heartbeat with a position comes within two times heartbeat_seconds."""
    async with session(target) as opened:
        await opened.hear("heartbeat", within_seconds=patience(opened.welcome))


def patience(welcome: dict[str, Any]) -> float:
    """Seconds within which something must be heard. Raises Inapplicable where that is too long to wait."""
    seconds = float(2 * welcome["heartbeat_seconds"])
    if seconds > LONGEST_WAIT_SECONDS:
        raise Inapplicable(f"heartbeats may be {seconds:g} s apart, and {LONGEST_WAIT_SECONDS:g} are waited for")
    return seconds


async def _expect_complaint(target: Target, frame: dict[str, Any]) -> None:
    async with session(target) as opened:
        await opened.say(**frame)
        same("ref", (await opened.hear("error")).get("ref"), frame["ref"])
        await opened.ping()


async def _expect_close(target: Target, message: str | bytes, code: int) -> None:
    async with session(target) as opened:
        await opened.send(message)
        came, reason = await opened.closed()
        expect(came == code, f"close {code}", f"{came} {reason}".strip())


def _padded_ping(size: int) -> str:
    """A ping of this many bytes."""
    bare = json.dumps({"type": "ping", "pad": ""})
    return json.dumps({"type": "ping", "pad": "x" * (size - len(bare))})


CHECKS: Final[tuple[Check, ...]] = (
    ping_and_pong,
    fragments,
    control_ping,
    subscribe,
    unsubscribe,
    unknown_frame_type,
    frame_with_wrong_fields,
    unknown_field,
    not_an_object,
    not_json,
    binary_frame,
    largest_frame,
    oversize_frame,
    close_is_answered,
    refresh,
    refresh_with_an_invalid_token,
    refresh_of_another_user,
    heartbeat,
)
