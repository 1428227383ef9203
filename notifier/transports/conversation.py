"""What a client says in an open session, and what it hears back, whatever carries the frames."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from notifier.core.errors import Unauthenticated
from notifier.core.hub import Hub
from notifier.core.identity import Identity
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.transports import frames
from notifier.transports.closing import NOT_A_JSON_OBJECT, TOO_MANY_MESSAGES, HangUp

REF_LIMIT: Final = 128

Authenticate = Callable[[str], Identity]
Grant = Callable[[Identity, Sequence[str], frozenset[str]], tuple[tuple[str, ...], tuple[tuple[str, str], ...]]]
"""(identity, wanted topics, topics it has) -> (granted, denied with codes)"""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a conversation may cost."""

    frame_limit_bytes: int = 16 * 1024
    frames_per_second: float = 10.0
    frames_burst: int = 100


class Conversation:
    """Answers the frames of one session. Every method runs in one turn of the event loop."""

    def __init__(
        self, session: Session, *, hub: Hub, pulse: Pulse, authenticate: Authenticate, grant: Grant, rules: Rules
    ) -> None:
        self._session = session
        self._hub = hub
        self._pulse = pulse
        self._authenticate = authenticate
        self._grant = grant
        self._rules = rules
        self._allowance = float(rules.frames_burst)
        self._heard_at = time.monotonic()

    def receive(self, text: str | None) -> None:
        """Answer one frame; None stands for a binary one. Raises HangUp when the session must end."""
        self._spend()
        frame = read_object(text, limit_bytes=self._rules.frame_limit_bytes)
        ref = frame.get("ref")
        if ref is not None and not (isinstance(ref, str | int) and len(str(ref)) <= REF_LIMIT):
            self._complain(None, "frame_invalid", f"ref is a string or a number of at most {REF_LIMIT} characters")
            return
        match frame.get("type"):
            case "ping":
                self._answer("pong", ref, position=str(self._hub.position_of(self._session)))
            case "subscribe":
                self._subscribe(ref, frame)
            case "unsubscribe":
                self._unsubscribe(ref, frame)
            case "refresh":
                self._refresh(ref, frame)
            case "auth":
                self._complain(ref, "already_authenticated", "this session has its token; renew it with refresh")
            case _:
                self._complain(ref, "frame_type_unknown", "expected auth, subscribe, unsubscribe, refresh or ping")

    def _subscribe(self, ref: object, frame: Mapping[str, Any]) -> None:
        topics, presented = frame.get("topics"), frame.get("position")
        if not is_list_of_strings(topics) or not (presented is None or isinstance(presented, str)):
            self._complain(ref, "frame_invalid", "subscribe takes topics, an array of strings, and position, a string")
            return
        session = self._session
        granted, denied = self._grant(session.identity, topics, session.topics)
        resume = self._hub.subscribe(session, granted, presented)
        self._answer(
            "subscribed",
            ref,
            topics=sorted(granted),
            denied=frames.denied_fields(denied) or None,
            position=str(self._hub.position_of(session)),
            resume=None if presented is None else frames.resume_fields(resume),
        )
        self._hub.advance(session)

    def _unsubscribe(self, ref: object, frame: Mapping[str, Any]) -> None:
        topics = frame.get("topics")
        if not is_list_of_strings(topics):
            self._complain(ref, "frame_invalid", "unsubscribe takes topics, an array of strings")
            return
        removed = sorted(self._session.topics.intersection(topics))
        self._hub.unsubscribe(self._session, removed)
        self._answer("unsubscribed", ref, topics=removed, position=str(self._hub.position_of(self._session)))

    def _refresh(self, ref: object, frame: Mapping[str, Any]) -> None:
        token = frame.get("token")
        if not isinstance(token, str):
            self._complain(ref, "frame_invalid", "refresh takes token, a string")
            return
        session = self._session
        try:
            identity = self._authenticate(token)
        except Unauthenticated as error:
            raise HangUp.because(error) from None
        if (identity.tenant, identity.user) != (session.identity.tenant, session.identity.user):
            raise HangUp(4403, "another_user")
        topics, _ = self._grant(identity, sorted(session.topics), frozenset())
        self._hub.refresh(session, identity, frozenset(topics))
        self._pulse.renew(session)
        self._answer("refreshed", ref, expires_at=frames.expiry(session), topics=sorted(topics))

    def _spend(self) -> None:
        """Take one frame out of the session's allowance."""
        now = time.monotonic()
        earned = (now - self._heard_at) * self._rules.frames_per_second
        self._allowance = min(float(self._rules.frames_burst), self._allowance + earned) - 1
        self._heard_at = now
        if self._allowance < 0:
            raise HangUp(TOO_MANY_MESSAGES, "too_many_messages")

    def _answer(self, kind: str, ref: object, **fields: object) -> None:
        self._session.outlet.write([frames.message(kind, ref=ref, **fields)])

    def _complain(self, ref: object, code: str, detail: str) -> None:
        self._answer("error", ref, code=code, detail=detail)


def read_object(text: str | None, *, limit_bytes: int) -> Mapping[str, Any]:
    """Read a client's frame. Raises HangUp for anything but a JSON object in a text frame of at most `limit_bytes`."""
    if text is None:
        raise HangUp(NOT_A_JSON_OBJECT, "binary_frame")
    if len(text) > limit_bytes or len(text.encode(errors="surrogatepass")) > limit_bytes:
        raise HangUp(1009, "frame_too_large")
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        raise HangUp(NOT_A_JSON_OBJECT, "not_json") from None
    if not isinstance(frame, dict):
        raise HangUp(NOT_A_JSON_OBJECT, "not_an_object")
    return frame


def is_list_of_strings(value: object) -> TypeGuard[list[str]]:
    """Tell whether a field of a frame is an array of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
