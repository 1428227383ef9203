"""Ways out to the client of a stream of events: on its bare connection, and over plain ASGI."""

import asyncio
from collections.abc import Iterator, MutableSet
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from notifier.core.ports import CloseReason, Frame, Outlet
from notifier.transports.bare import BareConnection, Board
from notifier.transports.closing import CODE_OF_REASON
from notifier.transports.encodings import Frame as Words
from notifier.transports.frames import message
from notifier.transports.outlet import AsgiOutlet, Message

LAST_CHUNK: Final = b"0\r\n\r\n"
UNREAD_LIMIT_BYTES: Final = 64 * 1024  # What a client sends behind its request is thrown away, up to here.
# A client that is sent away by a `reconnect` has heard why.
_TOLD: Final = frozenset({CloseReason.DRAIN, CloseReason.REBALANCE})
_DETAILS: Final = {
    CloseReason.FELL_BEHIND: "come back and resume",
    CloseReason.TOKEN_EXPIRED: "come back with a fresh token or ticket",
    CloseReason.TOKEN_REVOKED: "the token was revoked",
    CloseReason.SUPERSEDED: "a newer session has taken the place of this one",
    CloseReason.SHUTDOWN: "come back and resume",
}


def last_words(reason: CloseReason) -> Words | None:
    """What a stream says before it ends, since it has no close codes: the code that a socket would close with."""
    if reason in _TOLD:
        return None
    detail = _DETAILS.get(reason, "this session was ended")
    return message("error", code=reason.value, detail=detail, close_code=CODE_OF_REASON[reason])


@dataclass(frozen=True, slots=True)
class HandedStream:
    """What was left of a connection when its answer had begun, and it left ASGI.

    Args:
        is_chunked: the head of the answer says so; else the body ends with the connection, as with HTTP/1.0.
        is_writable: False while the transport cannot take more.
        connections: of the server, which shuts them down at its end.
    """

    transport: asyncio.Transport
    is_chunked: bool
    is_writable: bool
    connections: MutableSet[Any]


class DetachedStream(BareConnection):
    """The outlet of one session; its body ends with the connection."""

    __slots__ = ("_unread_bytes",)

    heard_at: Final = inf  # The client says nothing; the kernel cuts it when it confirms nothing either.

    def __init__(self, board: Board, handed: HandedStream) -> None:
        super().__init__(board, handed.transport, handed.connections, is_writable=handed.is_writable)
        self._unread_bytes = 0
        self.transport.resume_reading()  # Else nobody would notice that the client has gone.

    def write(self, frame: Frame) -> bool:
        """Send the frame at once. False: the transport cannot take more, or is closing."""
        if self._is_full:
            return False
        self.transport.write(frame.event)
        return True

    def answer(self, frame: Frame) -> None:
        """Send the frame, or have it wait behind the others."""
        if self._ended is None:
            self.transport.write(frame.event)

    def close(self, reason: CloseReason) -> None:
        """End the stream behind what was written, and say why."""
        if self._ended is None:
            if (words := last_words(reason)) is not None:
                self.answer(words)
            self._finish()
            self._ended = (CODE_OF_REASON[reason], reason.value)
            self._is_full = True
            self.transport.close()
            self._cut_in(self._board.linger_seconds)

    def _finish(self) -> None:
        """Say that the body is over, where the connection does not say it."""

    def data_received(self, data: bytes) -> None:
        """Nothing is asked on a stream; requests that were sent ahead get no answer, since it closes."""
        self._unread_bytes += len(data)
        if self._unread_bytes > UNREAD_LIMIT_BYTES:
            self.transport.abort()

    def eof_received(self) -> None:
        """The client has gone; the transport closes by itself."""
        if self._ended is None:
            self._ended = (1005, "client")
            self._is_full = True


class ChunkedStream(DetachedStream):
    """One over HTTP/1.1: who reads it can tell an end from a loss."""

    __slots__ = ()

    def write(self, frame: Frame) -> bool:
        """Send the frame at once. False: the transport cannot take more, or is closing."""
        if self._is_full:
            return False
        self.transport.write(frame.chunk)
        return True

    def answer(self, frame: Frame) -> None:
        """Send the frame, or have it wait behind the others."""
        if self._ended is None:
            self.transport.write(frame.chunk)

    def _finish(self) -> None:
        self.transport.write(LAST_CHUNK)


def detached(board: Board, handed: HandedStream) -> DetachedStream:
    """Take over a connection."""
    return (ChunkedStream if handed.is_chunked else DetachedStream)(board, handed)


class AsgiStream(AsgiOutlet):
    """The same under a server that keeps the connection to itself."""

    def close(self, reason: CloseReason) -> None:
        """End the stream behind what waits, and say why."""
        if (words := last_words(reason)) is not None:
            self.answer(words)
        super().close(reason)

    def _messages(self, frame: Frame) -> Iterator[Message]:
        if frame.event:
            yield {"type": "http.response.body", "body": frame.event, "more_body": True}

    def _farewell(self, code: int, reason: str) -> Message:  # noqa: ARG002 - a stream has said it before
        return {"type": "http.response.body", "body": b"", "more_body": False}


_detached: type[Outlet] = DetachedStream
_asgi: type[Outlet] = AsgiStream
