"""The frames of `notifier.v1`: what the service says to a session, prepared once for however many hear it."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from notifier.core.envelope import Envelope, Position
from notifier.core.notification import rfc3339
from notifier.core.ports import CloseReason, FrameMaker
from notifier.core.replay import Resume
from notifier.core.session import Session

PROTOCOL: Final = "notifier.v1"
# ASCII, since some frames echo what a client sent, lone surrogates and all.
_to_json: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


class Frame:
    """One JSON message. `json` is UTF-8; `text` is the same for servers that want a `str`, decoded once."""

    __slots__ = ("_text", "json")

    def __init__(self, message: bytes) -> None:
        self.json = message
        self._text: str | None = None  # None until somebody asks.

    @property
    def size(self) -> int:
        return len(self.json)

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = self.json.decode()
        return self._text


class Frames:
    """Makes the frames that the core asks for."""

    def notification(self, position: Position, envelope: Envelope) -> Frame:
        """Put the sealed bytes, as they are, behind their position."""
        head = f'{{"type":"notification","position":"{position}","notification":'
        return Frame(b"%b%b}" % (head.encode(), envelope.sealed))

    def heartbeat(self, position: Position) -> Frame:
        return message("heartbeat", position=str(position))

    def token_expiring(self, in_seconds: int) -> Frame:
        return message("token_expiring", in_seconds=in_seconds)

    def degraded(self) -> Frame:
        return message("degraded")

    def restored(self) -> Frame:
        return message("restored")

    def reconnect(self, reason: CloseReason, position: Position, after_ms: int) -> Frame:
        return message("reconnect", after_ms=after_ms, reason=reason.value, position=str(position))


def message(kind: str, **fields: object) -> Frame:
    """Make a frame of this type; fields that are None are left out."""
    return Frame(_to_json({"type": kind} | {name: v for name, v in fields.items() if v is not None}).encode())


def welcome(
    session: Session,
    resume: Resume,
    *,
    denied: Sequence[tuple[str, str]],
    heartbeat_seconds: float,
    now_ms: int,
) -> Frame:
    """The first frame of every session."""
    return message(
        "welcome",
        protocol=PROTOCOL,
        session=session.id,
        tenant=session.identity.tenant,
        user=session.identity.user,
        position=str(resume.position),
        resume=resume_fields(resume),
        topics=sorted(session.topics),
        denied=denied_fields(denied),
        heartbeat_seconds=heartbeat_seconds,
        expires_at=expiry(session),
        server_time=rfc3339(now_ms),
        features=[],
    )


def resume_fields(resume: Resume) -> Mapping[str, object]:
    """How the `resume` object of a frame reads."""
    since = resume.available_since_ms
    fields = {
        "status": resume.status,
        "reason": resume.reason,
        "replayed": resume.replayed,
        "available_since": None if since is None else rfc3339(since),
    }
    return {name: value for name, value in fields.items() if value is not None}


def denied_fields(denied: Sequence[tuple[str, str]]) -> list[Mapping[str, str]]:
    """How the `denied` array of a frame reads."""
    return [{"topic": topic, "code": code} for topic, code in denied]


def expiry(session: Session) -> str:
    """The end of the session's token, for people."""
    return rfc3339(int(session.identity.expires_at * 1000))


_: type[FrameMaker] = Frames
