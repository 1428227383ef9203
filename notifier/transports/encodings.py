"""One message in every encoding that a connection may want, each made once for however many hear it."""

import struct
import zlib
from collections.abc import Sequence
from typing import Final

from notifier.core.ports import Frame as Writable

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


def _chunked(event: bytes) -> bytes:
    """A chunk of an HTTP/1.1 body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(event), event)


class Frame:
    """One JSON message, as UTF-8; `position` is the one in it, if there is one.

    `wire` is the WebSocket frame around it (RFC 6455, 5.2), ready for any number of connections.
    """

    __slots__ = ("_chunk", "_deflated", "_event", "_message_at", "_position", "_text", "wire")

    def __init__(self, *message: bytes, position: str | None = None) -> None:
        head = _head(_TEXT, sum(map(len, message)))
        self.wire: bytes = b"".join((head, *message))
        self._message_at = len(head)
        self._text: str | None = None  # None until somebody asks.
        self._deflated: bytes | None = None
        self._event: bytes | None = None
        self._chunk: bytes | None = None
        self._position = position

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

    @property
    def event(self) -> bytes:
        """The message in a stream of events (HTML, 9.2.6), whose last id is the place to resume from."""
        if self._event is None:
            self._event = b"%bdata: %b\n\n" % (self._fields(), self.json)
        return self._event

    @property
    def chunk(self) -> bytes:
        """The same as a chunk of an HTTP/1.1 body."""
        if self._chunk is None:
            self._chunk = _chunked(self.event)
        return self._chunk

    def _fields(self) -> bytes:
        return b"" if self._position is None else b"id: %b\n" % self._position.encode()


class Reconnect(Frame):
    """One that sends the client elsewhere; a browser's EventSource waits so long by itself."""

    __slots__ = ("_after_ms",)

    def __init__(self, *message: bytes, position: str, after_ms: int) -> None:
        super().__init__(*message, position=position)
        self._after_ms = after_ms

    def _fields(self) -> bytes:
        return b"retry: %d\n%b" % (self._after_ms, super()._fields())


class Ping:
    """A ping of WebSocket; where the server frames messages itself, it sends its own."""

    wire: Final = b"\x89\x00"
    deflated: Final = wire
    size: Final = len(wire)
    texts: Final[tuple[str, ...]] = ()
    event: Final = b""
    chunk: Final = b""


class Retry:
    """How long an EventSource waits before it comes back, which only a stream of events can say."""

    __slots__ = ("chunk", "event")

    wire: Final = b""
    deflated: Final = wire
    size: Final = 0
    texts: Final[tuple[str, ...]] = ()

    def __init__(self, after_ms: int) -> None:
        self.event = b"retry: %d\n\n" % after_ms
        self.chunk = _chunked(self.event)


class Joined:
    """Several frames that are written at once."""

    __slots__ = ("_chunk", "_deflated", "_event", "_frames", "wire")

    def __init__(self, frames: Sequence[Writable]) -> None:
        self._frames = frames
        self.wire = b"".join([frame.wire for frame in frames])
        self._deflated: bytes | None = None
        self._event: bytes | None = None
        self._chunk: bytes | None = None

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

    @property
    def event(self) -> bytes:
        if self._event is None:
            self._event = b"".join([frame.event for frame in self._frames])
        return self._event

    @property
    def chunk(self) -> bytes:
        if self._chunk is None:
            self._chunk = _chunked(self.event)
        return self._chunk
