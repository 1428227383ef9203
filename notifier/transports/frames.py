"""The frames of `notifier.v1`: what the service says to a session, prepared once for however many hear it."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from notifier.core.envelope import Envelope, Position
from notifier.core.notification import rfc3339
from notifier.core.ports import CloseReason, FrameMaker
from notifier.core.ports import Frame as Writable
from notifier.core.replay import Resume
from notifier.core.session import Session
from notifier.transports.encodings import Frame, Joined, Ping, Reconnect

PROTOCOL: Final = "notifier.v1"
# ASCII, since some frames echo what a client sent, lone surrogates and all.
_to_json: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode


class Beat(Joined):
    """A heartbeat: the message, and a ping behind it, since browsers cannot send one, and must answer it.

    In a stream of events it is nothing but the id, which a browser keeps without a word to its page.
    """

    __slots__ = ("_position",)

    def __init__(self, position: Position) -> None:
        super().__init__([message("heartbeat", position=str(position)), Ping()])
        self._position = position

    @property
    def event(self) -> bytes:
        return b"id: %b\n\n" % str(self._position).encode()


class Frames:
    """Makes the frames that the core asks for."""

    def notification(self, position: Position, envelope: Envelope) -> Frame:
        """Put the sealed bytes, as they are, behind their position."""
        place = str(position)
        head = f'{{"type":"notification","position":"{place}","notification":'
        return Frame(head.encode(), envelope.sealed, b"}", position=place)

    def join(self, frames: Sequence[Writable]) -> Writable:
        return frames[0] if len(frames) == 1 else Joined(frames)

    def heartbeat(self, position: Position) -> Writable:
        return Beat(position)

    def token_expiring(self, in_seconds: int) -> Frame:
        return message("token_expiring", in_seconds=in_seconds)

    def degraded(self) -> Frame:
        return message("degraded")

    def restored(self) -> Frame:
        return message("restored")

    def reconnect(self, reason: CloseReason, position: Position, after_ms: int) -> Frame:
        made = message("reconnect", after_ms=after_ms, reason=reason.value, position=str(position))
        return Reconnect(made.json, position=str(position), after_ms=after_ms)


def message(kind: str, **fields: object) -> Frame:
    """Make a frame of this type; fields that are None are left out."""
    said = {"type": kind} | {name: v for name, v in fields.items() if v is not None}
    place = fields.get("position")
    return Frame(_to_json(said).encode(), position=place if isinstance(place, str) else None)


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
