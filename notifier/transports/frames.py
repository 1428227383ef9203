"""The frames of `notifier.v1`: what the service says to a session, prepared once for however many hear it."""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from notifier.core.envelope import Envelope, Position
from notifier.core.notification import rfc3339
from notifier.core.ports import CloseReason, FrameMaker
from notifier.core.ports import Frame as Writable
from notifier.core.replay import Resume
from notifier.core.session import Session

PROTOCOL: Final = "notifier.v1"
# ASCII, since some frames echo what a client sent, lone surrogates and all.
_to_json: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode

# In the first byte of a frame: it is the last of its message, and one of text; it is compressed.
_TEXT: Final = 0x81
_RSV1: Final = 0x40
_END_OF_BLOCK: Final = b"\x00\x00\xff\xff"


def deflate(message: bytes) -> bytes:
    """Compress a message for permessage-deflate without context takeover (RFC 7692, 7.2.1): all can share it."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_END_OF_BLOCK)


def _head(first: int, size: int) -> bytes:
    """The beginning of a frame that is not masked."""
    if size < 126:
        return bytes((first, size))
    return struct.pack("!BBH", first, 126, size) if size < 65_536 else struct.pack("!BBQ", first, 127, size)


class Frame:
    """One JSON message, as UTF-8.

    `wire` is the WebSocket frame around it (RFC 6455, 5.2), ready for any number of connections.
    """

    __slots__ = ("_deflated", "_message_at", "_text", "wire")

    def __init__(self, *message: bytes) -> None:
        head = _head(_TEXT, sum(map(len, message)))
        self.wire: bytes = b"".join((head, *message))
        self._message_at = len(head)
        self._text: str | None = None  # None until somebody asks.
        self._deflated: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.wire)

    @property
    def json(self) -> bytes:
        return self.wire[self._message_at :]

    @property
    def texts(self) -> tuple[str, ...]:
        """The message, for servers that frame text themselves."""
        if self._text is None:
            self._text = self.json.decode()
        return (self._text,)

    @property
    def deflated(self) -> bytes:
        """The frame for connections that have negotiated permessage-deflate; as it is, where that is no longer."""
        if self._deflated is None:
            message = deflate(self.json)
            deflated = _head(_TEXT | _RSV1, len(message)) + message
            self._deflated = min(self.wire, deflated, key=len)
        return self._deflated


class Ping:
    """A ping of WebSocket; where the server frames messages itself, it sends its own."""

    wire: Final = b"\x89\x00"
    deflated: Final = wire
    size: Final = len(wire)
    texts: Final[tuple[str, ...]] = ()


class Joined:
    """Several frames that are written at once."""

    __slots__ = ("_deflated", "_frames", "wire")

    def __init__(self, frames: Sequence[Writable]) -> None:
        self._frames = frames
        self.wire = b"".join([frame.wire for frame in frames])
        self._deflated: bytes | None = None

    @property
    def size(self) -> int:
        return len(self.wire)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for frame in self._frames for text in frame.texts)

    @property
    def deflated(self) -> bytes:
        if self._deflated is None:
            self._deflated = b"".join([frame.deflated for frame in self._frames])
        return self._deflated


class Frames:
    """Makes the frames that the core asks for."""

    def notification(self, position: Position, envelope: Envelope) -> Frame:
        """Put the sealed bytes, as they are, behind their position."""
        head = f'{{"type":"notification","position":"{position}","notification":'
        return Frame(head.encode(), envelope.sealed, b"}")

    def join(self, frames: Sequence[Writable]) -> Writable:
        return frames[0] if len(frames) == 1 else Joined(frames)

    def heartbeat(self, position: Position) -> Writable:
        """With a ping behind it in the same write, since browsers cannot send one, and must answer it."""
        return Joined([message("heartbeat", position=str(position)), Ping()])

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
