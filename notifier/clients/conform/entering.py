"""Checks of the way in: subprotocol, token, welcome, and who is refused how."""

import json
from typing import Any, Final

from notifier.clients.conform.check import Broken, Check, expect, is_moment, rule, same
from notifier.clients.conform.open_session import PROTOCOL, Refusal, Session, bearer, handshake, refused, session
from notifier.clients.conform.target import Answer, Target, expect_problem, mark, minted, page

INVALID: Final = "no-token-at-all"


@rule("docs/protocol.md, Connect")
async def token_in_header(target: Target) -> None:
    """A token in the header Authorization opens a session."""
    async with session(target):
        pass


@rule("RFC 6455, 4.2.2; docs/protocol.md, Connect")
async def token_in_subprotocol(target: Target) -> None:
    """A token may come as the subprotocol bearer.<token>; notifier.v1 is echoed, and alone."""
    try:
        async with handshake(target, subprotocols=(PROTOCOL, f"bearer.{target.token}")) as opened:
            response = opened.connection.response
            echoed = response.headers.get_all("Sec-WebSocket-Protocol") if response else []
            same("Sec-WebSocket-Protocol", echoed, [PROTOCOL])
            await _welcomed(opened)
    except Refusal as error:
        raise Broken("a session", error) from error


@rule("docs/protocol.md, Connect")
async def token_in_first_frame(target: Target) -> None:
    """A token may come in a first frame `auth`, with topics."""
    try:
        async with handshake(target) as opened:
            await opened.say(type="auth", token=target.token, topics=[target.topic])
            _expect_answered(await _welcomed(opened), [target.topic])
    except Refusal as error:
        raise Broken("a handshake that waits for the token", error) from error


@rule("docs/protocol.md, Frames")
async def welcome(target: Target) -> None:
    """The first frame is a welcome with all of its fields; without a position its resume is new."""
    async with session(target) as opened:
        same("resume", opened.welcome["resume"], {"status": "new"})
        for name in ("expires_at", "server_time"):
            came = opened.welcome[name]
            expect(is_moment(came), f"{name} in RFC 3339, UTC, with milliseconds", came)
        expect(opened.welcome["heartbeat_seconds"] > 0, "heartbeat_seconds above 0", opened.welcome)


@rule("docs/protocol.md, Connect")
async def topics_in_query(target: Target) -> None:
    """Topics of the query are each granted, or denied with a code, and refuse no session."""
    async with session(target, topics=f"{target.topic},$reserved") as opened:
        _expect_answered(opened.welcome, [target.topic, "$reserved"])
        expect("$reserved" not in opened.welcome["topics"], "$reserved to be denied", opened.welcome)


@rule("RFC 9110, 15.5.22; docs/protocol.md, Connect")
async def subprotocol_required(target: Target) -> None:
    """Who does not offer notifier.v1 is refused with 426 and Upgrade."""
    answer = await refused(target, subprotocols=(), headers=bearer(target.token))
    expect_problem(answer, 426)
    same("Upgrade", answer.headers.get("upgrade"), "websocket")


@rule("RFC 6750, 3; RFC 9457; docs/protocol.md, Refusals")
async def invalid_token(target: Target) -> None:
    """Without an Origin, an invalid token is refused with 401, WWW-Authenticate and a problem."""
    expect_unauthenticated(await refused(target, headers=bearer(INVALID)))


@rule("docs/protocol.md, Refusals")
async def invalid_token_of_a_page(target: Target) -> None:
    """A page, which cannot read a refused handshake, is let in and closed with 4402."""
    same("close code", (await _close_of_a_page(target, INVALID))[0], 4402)


@rule("docs/protocol.md, Refusals")
async def expired_token(target: Target) -> None:
    """An expired token is refused with 401 and the code token_expired, a page with 4401."""
    expired = minted(target, user="conform", lifetime_seconds=-3_600)
    expect_problem(await refused(target, headers=bearer(expired)), 401, "token_expired")
    if target.origin is not None:
        same("close code", (await _close_of_a_page(target, expired))[0], 4401)


@rule("RFC 6454; docs/protocol.md, Refusals")
async def origin_not_allowed(target: Target) -> None:
    """A page of an origin that is not allowed is refused with 403, with a good token too."""
    strange = {"Origin": f"https://{mark()}.invalid", **bearer(target.token)}
    expect_problem(await refused(target, headers=strange), 403)


@rule("docs/protocol.md, Connect")
async def first_frame_is_auth(target: Target) -> None:
    """A first frame other than `auth`, where no token came before, ends with a code that is final."""
    try:
        async with handshake(target) as opened:
            await opened.say(type="ping")
            code, _ = await opened.closed()
            expect(4400 <= code < 4500, "a close code from 4400 to 4499", code)
    except Refusal as error:
        raise Broken("a handshake that waits for the token", error) from error


@rule("docs/protocol.md, Connect and Refusals", is_slow=True)
async def no_token_in_time(target: Target) -> None:
    """Who says no token is closed with 4003 after 5 seconds."""
    try:
        async with handshake(target) as opened:
            code, reason = await opened.closed()
            expect(code == 4003, "close 4003", f"{code} {reason}")
    except Refusal as error:
        raise Broken("a handshake that waits for the token", error) from error


def expect_unauthenticated(answer: Answer) -> None:
    """Raise Broken unless it refuses a token over HTTP, as in RFC 6750."""
    expect_problem(answer, 401)
    challenge = answer.headers.get("www-authenticate", "")
    expect(challenge.lower().startswith("bearer"), "WWW-Authenticate: Bearer", challenge or "none")


async def _close_of_a_page(target: Target, token: str) -> tuple[int, str]:
    offered = (PROTOCOL, f"bearer.{token}")
    try:
        async with handshake(target, subprotocols=offered, headers={"Origin": page(target)}) as opened:
            return await opened.closed()
    except Refusal as error:
        raise Broken("101, then a close code", error) from error


async def _welcomed(opened: Session) -> dict[str, Any]:
    frame = await opened.frame()
    same("first frame", frame["type"], "welcome")
    return frame


def _expect_answered(welcome: dict[str, Any], wanted: list[str]) -> None:
    answered = sorted([*welcome["topics"], *(each["topic"] for each in welcome["denied"])])
    expect(answered == sorted(wanted), f"each of {wanted} in topics or in denied", json.dumps(welcome))


CHECKS: Final[tuple[Check, ...]] = (
    token_in_header,
    token_in_subprotocol,
    token_in_first_frame,
    welcome,
    topics_in_query,
    subprotocol_required,
    invalid_token,
    invalid_token_of_a_page,
    expired_token,
    origin_not_allowed,
    first_frame_is_auth,
    no_token_in_time,
)
