"""What a client says in an open session, and what it hears back, whatever carries the frames."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from notifier.core.errors import NotifierError, Unauthenticated, Unavailable
from notifier.core.hub import Hub
from notifier.core.identity import Identity
from notifier.core.ports import CloseReason
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.core.strict_json import flaws, parse
from notifier.transports import frames
from notifier.transports.closing import NOT_A_JSON_OBJECT, TOO_MANY_MESSAGES, HangUp

REF_LIMIT: Final = 128
MEMBERS_LIMIT: Final = 32  # Of a client's frame; those that it knows have five.

Authenticate = Callable[[str], Identity]
AuthenticatePatiently = Callable[[str], Awaitable[Identity]]
Grant = Callable[[Identity, Sequence[str], frozenset[str]], tuple[tuple[str, ...], tuple[tuple[str, str], ...]]]
"""(identity, wanted topics, topics it has) -> (granted, denied with codes)"""

_REASONS: Final = {reason.value: reason for reason in (CloseReason.TOKEN_EXPIRED, CloseReason.TOKEN_REVOKED)}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a conversation may cost."""

    frame_limit_bytes: int = 16 * 1024
    frames_per_second: float = 10.0
    frames_burst: int = 100


class Allowance:
    """The frames that one client may still send."""

    __slots__ = ("_frames", "_per_second", "_room", "_spent_at")

    def __init__(self, rules: Rules) -> None:
        self._per_second = rules.frames_per_second
        self._room = float(rules.frames_burst)
        self._frames = self._room
        self._spent_at = time.monotonic()

    def spend(self) -> None:
        """Take one frame out of it. Raises HangUp when there is none left."""
        now = time.monotonic()
        self._frames = min(self._room, self._frames + (now - self._spent_at) * self._per_second) - 1
        self._spent_at = now
        if self._frames < 0:
            raise HangUp(TOO_MANY_MESSAGES, "too_many_messages")


class Conversation:
    """Answers the frames of sessions, each in one turn of the event loop; only a refresh may have to wait for a key."""

    def __init__(
        self,
        *,
        hub: Hub,
        pulse: Pulse,
        authenticate: Authenticate,
        authenticate_patiently: AuthenticatePatiently,
        grant: Grant,
        rules: Rules,
    ) -> None:
        self._hub = hub
        self._pulse = pulse
        self._authenticate = authenticate
        self._authenticate_patiently = authenticate_patiently
        self._waiting: set[asyncio.Task[None]] = set()  # Refreshes that wait; kept, or the collector might end them.
        self._grant = grant
        self._rules = rules

    def allowance(self) -> Allowance:
        """What a new client may send."""
        return Allowance(self._rules)

    def receive(self, session: Session, message: str | bytes) -> None:
        """Answer one message. Raises HangUp when the session must end."""
        frame = read_object(message, limit_bytes=self._rules.frame_limit_bytes)
        self._hub.settle(session)
        ref = frame.get("ref")
        if ref is not None and not (isinstance(ref, str | int) and len(str(ref)) <= REF_LIMIT):
            self._complain(
                session, None, "frame_invalid", f"ref is a string or a number of at most {REF_LIMIT} characters"
            )
            return
        match frame.get("type"):
            case "ping":
                self._answer(session, "pong", ref, position=str(self._hub.position_of(session)))
            case "subscribe":
                self._subscribe(session, ref, frame)
            case "unsubscribe":
                self._unsubscribe(session, ref, frame)
            case "refresh":
                self._refresh(session, ref, frame)
            case "auth":
                self._complain(
                    session, ref, "already_authenticated", "this session has its token; renew it with refresh"
                )
            case _:
                self._complain(
                    session, ref, "frame_type_unknown", "expected auth, subscribe, unsubscribe, refresh or ping"
                )

    def _subscribe(self, session: Session, ref: object, frame: Mapping[str, Any]) -> None:
        topics, presented = frame.get("topics"), frame.get("position")
        if not is_list_of_strings(topics) or not (presented is None or isinstance(presented, str)):
            self._complain(
                session, ref, "frame_invalid", "subscribe takes topics, an array of strings, and position, a string"
            )
            return
        granted, denied = self._grant(session.identity, topics, session.topics)
        resume = self._hub.subscribe(session, granted, presented)
        self._answer(
            session,
            "subscribed",
            ref,
            topics=sorted(granted),
            denied=frames.denied_fields(denied) or None,
            position=str(self._hub.position_of(session)),
            resume=None if presented is None else frames.resume_fields(resume),
        )
        self._hub.advance(session)

    def _unsubscribe(self, session: Session, ref: object, frame: Mapping[str, Any]) -> None:
        topics = frame.get("topics")
        if not is_list_of_strings(topics):
            self._complain(session, ref, "frame_invalid", "unsubscribe takes topics, an array of strings")
            return
        removed = sorted(session.topics.intersection(topics))
        self._hub.unsubscribe(session, removed)
        self._answer(session, "unsubscribed", ref, topics=removed, position=str(self._hub.position_of(session)))

    def _refresh(self, session: Session, ref: object, frame: Mapping[str, Any]) -> None:
        token = frame.get("token")
        if not isinstance(token, str):
            self._complain(session, ref, "frame_invalid", "refresh takes token, a string")
            return
        try:
            identity = self._authenticate(token)
        except Unauthenticated as error:
            raise HangUp.because(error) from None
        except Unavailable:
            waiting = asyncio.create_task(self._refresh_later(session, ref, token))
            self._waiting.add(waiting)
            waiting.add_done_callback(self._waiting.discard)
            return
        if not _is_same_user(identity, session.identity):
            raise HangUp(4403, CloseReason.ANOTHER_USER.value)
        self._go_on_as(session, ref, identity)

    async def _refresh_later(self, session: Session, ref: object, token: str) -> None:
        """Wait for the key of a token, while the session goes on under its present one; then answer."""
        outcome: Identity | NotifierError
        try:
            outcome = await self._authenticate_patiently(token)
        except (Unauthenticated, Unavailable) as error:
            outcome = error
        if session not in self._hub:
            return
        if isinstance(outcome, Unavailable):
            self._complain(session, ref, outcome.code, outcome.detail)
        elif isinstance(outcome, NotifierError):
            self._hub.close(session, _REASONS.get(outcome.code, CloseReason.TOKEN_INVALID))
        elif not _is_same_user(outcome, session.identity):
            self._hub.close(session, CloseReason.ANOTHER_USER)
        else:
            self._hub.settle(session)
            self._go_on_as(session, ref, outcome)

    def _go_on_as(self, session: Session, ref: object, identity: Identity) -> None:
        topics, _ = self._grant(identity, sorted(session.topics), frozenset())
        self._hub.refresh(session, identity, frozenset(topics))
        self._pulse.renew(session)
        self._answer(session, "refreshed", ref, expires_at=frames.expiry(session), topics=sorted(topics))

    def _answer(self, session: Session, kind: str, ref: object, **fields: object) -> None:
        session.outlet.answer(frames.message(kind, ref=ref, **fields))

    def _complain(self, session: Session, ref: object, code: str, detail: str) -> None:
        self._answer(session, "error", ref, code=code, detail=detail)


def _is_same_user(one: Identity, other: Identity) -> bool:
    return (one.tenant, one.user) == (other.tenant, other.user)


def read_object(text: str | bytes, *, limit_bytes: int) -> Mapping[str, Any]:
    """Read a client's frame. Raises HangUp for anything but a JSON object in a text frame of at most `limit_bytes`."""
    if isinstance(text, bytes):
        raise HangUp(NOT_A_JSON_OBJECT, "binary_frame")
    if len(text) > limit_bytes or len(text.encode(errors="surrogatepass")) > limit_bytes:
        raise HangUp(1009, "frame_too_large")
    try:
        frame = parse(text.encode(errors="surrogatepass"))
    except NotifierError:
        raise HangUp(NOT_A_JSON_OBJECT, "not_json") from None
    # Half of a surrogate pair harms nobody here: what is echoed is ASCII.
    if any(flaw.code != "lone_surrogate" for flaw in flaws(frame)):
        raise HangUp(NOT_A_JSON_OBJECT, "not_strict_json")
    if not isinstance(frame, dict):
        raise HangUp(NOT_A_JSON_OBJECT, "not_an_object")
    if len(frame) > MEMBERS_LIMIT:
        raise HangUp(NOT_A_JSON_OBJECT, "too_many_members")
    return frame


def is_list_of_strings(value: object) -> TypeGuard[list[str]]:
    """Tell whether a field of a frame is an array of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
