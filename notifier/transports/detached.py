"""A session's connection after it has left ASGI: the transport, this object, and nothing else; no task, queue or timer.

What the hub writes goes to the socket in the same turn. What the client says is read by a protocol of the `websockets`
library, made when bytes arrive and kept only while a frame or a message is unfinished.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable, MutableSet, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import SERVER, Event, Protocol

from notifier.core.hub import Hub
from notifier.core.ports import CloseReason, Frame, Outlet
from notifier.core.session import Session
from notifier.transports.closing import CODE_OF_REASON, INVALID_UTF8, HangUp
from notifier.transports.conversation import Allowance, Conversation

# Compressed, a read can hold thousands of messages that each inflate to the limit: so many bytes at a time are parsed.
PARSED_BYTES: Final = 4096
# After a violation the client has so long to read why; what it still sends is thrown away unread.
FAILED_LINGER_SECONDS: Final = 2.0
QUIET: Final = logging.getLogger("uvicorn.error")  # The library's own would ask for the level of each new protocol.


@dataclass(frozen=True, slots=True)
class HandedOver:
    """All that was left of a connection when it left ASGI.

    Args:
        protocol: the parser, which may be in the middle of a frame or of a message.
        messages: what the client has said already, as `Conversation.receive` takes it.
        fragments: the frames of a message that is unfinished.
        is_writable: False while the transport cannot take more.
        connections: of the server, which shuts them down at its end.
    """

    transport: asyncio.Transport
    protocol: Protocol
    messages: Sequence[str | None]
    fragments: Sequence[Incoming]
    is_writable: bool
    connections: MutableSet[Any]


@dataclass(frozen=True, slots=True)
class Switchboard:
    """What all detached connections share.

    Args:
        ended: told of each session that is over, with close code and reason, and how long it was.
        linger_seconds: a client that is sent away has so long to read why.
        write_limit_bytes: what may wait in the transport before a session falls behind.
        frame_limit_bytes: of a message from the client.
    """

    hub: Hub
    conversation: Conversation
    ended: Callable[[Session, tuple[int, str], float], None]
    linger_seconds: float
    write_limit_bytes: int
    frame_limit_bytes: int

    def connect(self, handed: HandedOver) -> "DetachedSocket":
        """Take over a connection."""
        return (DeflatedSocket if handed.protocol.extensions else DetachedSocket)(self, handed)


class DetachedSocket(asyncio.Protocol):
    """The outlet of one session, and what hears its client."""

    __slots__ = (
        "_allowance",
        "_board",
        "_connections",
        "_ended",
        "_fragments",
        "_heard_at",
        "_is_full",
        "_moved_at",
        "_opened_at",
        "_protocol",
        "_unsent_bytes",
        "session",
        "transport",
    )

    session: Session

    def __init__(self, board: Switchboard, handed: HandedOver) -> None:
        self._board = board
        self.transport = handed.transport
        self._connections = handed.connections
        self._protocol: Protocol | None = handed.protocol  # None between messages.
        self._fragments: Sequence[Incoming] = handed.fragments  # Of a message that is unfinished.
        self._allowance: Allowance | None = None  # Made when the client says something.
        self._is_full = not handed.is_writable  # Or closing, or gone: nothing is taken.
        self._ended: tuple[int, str] | None = None  # Close code and reason, once one side has begun to close.
        self._opened_at = self._heard_at = self._moved_at = time.monotonic()
        self._unsent_bytes = 0
        self._connections.add(self)
        self.transport.set_protocol(self)
        self.transport.set_write_buffer_limits(board.write_limit_bytes)

    def begin(self, session: Session, messages: Sequence[str | None]) -> None:
        """Go on where ASGI has left off: hear what the client has said meanwhile, then read on."""
        self.session = session
        try:
            for message in messages:
                self._hear(message)
        except HangUp as hang_up:
            self._fail(hang_up.code, hang_up.reason)
        self._forget_protocol()
        if not self._is_full or self._ended:
            self.transport.resume_reading()

    # -- what the hub writes -------------------------------------------------------------------------------------

    def write(self, frame: Frame) -> bool:
        """Send the frame at once. False: the transport cannot take more, or is closing."""
        if self._is_full:
            return False
        self.transport.write(frame.wire)
        return True

    def answer(self, frame: Frame) -> None:
        """Send the frame, or have it wait behind the others."""
        if self._ended is None:
            self.transport.write(frame.wire)

    @property
    def is_drained(self) -> bool:
        return not self._is_full

    @property
    def moved_at(self) -> float:
        """The transport tells only when it is nearly empty, which can take a slow client long; so look how it goes."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes != self._unsent_bytes:
            self._unsent_bytes, self._moved_at = unsent_bytes, time.monotonic()
        return self._moved_at

    @property
    def heard_at(self) -> float:
        """Who takes nothing is not listened to either; how long that goes on is for `moved_at` to tell."""
        return inf if self._is_full else self._heard_at

    def pause_writing(self) -> None:
        """The transport cannot take more."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        if self._ended is None:
            self._is_full = False
            self._heard_at = self._moved_at = time.monotonic()
            self.transport.resume_reading()
            self._board.hub.advance(self.session)

    # -- what the client says ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read frames; a pong is the most frequent of them."""
        self._heard_at = time.monotonic()
        protocol = self._protocol = self._protocol or self._new_protocol()
        for start in range(0, len(data), PARSED_BYTES):
            protocol.receive_data(data[start : start + PARSED_BYTES])
            try:
                for frame in protocol.events_received():
                    self._read(frame)
            except HangUp as hang_up:
                self._fail(hang_up.code, hang_up.reason)
            if protocol.parser_exc is not None:
                self._fail_as(protocol)
            self._pass_on(protocol)
            if self.transport.is_closing():
                return
        self._forget_protocol()

    def _read(self, frame: Event) -> None:
        assert isinstance(frame, Incoming)  # Requests and responses came before.
        if frame.opcode is Opcode.CLOSE:
            self._end_by_client()
            return
        if self._ended is not None:
            return
        self._allowance = self._allowance or self._board.conversation.allowance()
        self._allowance.spend()
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            return  # The protocol has the pong ready.
        self._fragments = (*self._fragments, frame)
        if frame.fin:
            fragments, self._fragments = self._fragments, ()
            self._hear(_message(fragments))

    def _hear(self, message: str | None) -> None:
        """Answer one message. Raises HangUp when the session must end."""
        if self._ended is None:
            self._board.conversation.receive(self.session, message)
            if self._is_full:
                self.transport.pause_reading()  # Who does not read our answers is not read either.

    def _pass_on(self, protocol: Protocol) -> None:
        """Send what the protocol has to say: pongs, an answer to a close."""
        said = b"".join(protocol.data_to_send())
        if not said:
            return
        if self._is_full and self._ended is None:
            self.transport.abort()  # It pings and never reads the pongs: they would wait without end.
        else:
            self.transport.write(said)

    def _forget_protocol(self) -> None:
        if self._ended is None and self._protocol is not None and _is_between_messages(self._protocol):
            self._protocol = None

    def _new_protocol(self) -> Protocol:
        return Protocol(SERVER, max_size=self._board.frame_limit_bytes, logger=QUIET)

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self, reason: CloseReason) -> None:
        """Send the client away, behind what was written; it answers, or is cut off."""
        if self._ended is None:
            code = CODE_OF_REASON[reason]
            protocol = self._stop(code, reason.value)
            protocol.send_close(code, reason.value)
            self._pass_on(protocol)
            self.transport.resume_reading()
            self._cut_in(self._board.linger_seconds)

    def shutdown(self) -> None:
        """Close at the end of the server."""
        self.close(CloseReason.SHUTDOWN)
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own
        """Let go of the session."""
        self._is_full = True
        self._connections.discard(self)
        self._board.hub.remove(self.session)
        ended = self._ended or (1006, "connection_lost")
        self._board.ended(self.session, ended, time.monotonic() - self._opened_at)
        del self.session  # It knows us too, and the collector looks seldom.

    def _end_by_client(self) -> None:
        """It has closed, or answers our close; either way the protocol has said the last word."""
        if self._ended is None:
            protocol = self._stop(1005, "client")
            if protocol.close_rcvd is not None:
                self._ended = (int(protocol.close_rcvd.code), "client")
            self._board.hub.remove(self.session)
        if self._protocol is not None:
            self._pass_on(self._protocol)
        self.transport.close()

    def _fail(self, code: int, reason: str) -> None:
        """End a session whose client broke the rules (RFC 6455, 7.1.7)."""
        if self._ended is None:
            protocol = self._stop(code, reason)
            protocol.fail(code, reason)
            self._pass_on(protocol)
            self._end_failed()

    def _fail_as(self, protocol: Protocol) -> None:
        """End a session whose client sent what is no frame; the protocol has found the words."""
        if self._ended is None:
            sent = protocol.close_sent
            self._stop(*((int(sent.code), sent.reason) if sent is not None else (1006, "")))
            self._pass_on(protocol)
            self._end_failed()

    def _end_failed(self) -> None:
        """Half-close, since closing with unread data would reset the close frame away."""
        self._board.hub.remove(self.session)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._cut_in(FAILED_LINGER_SECONDS)

    def _stop(self, code: int, reason: str) -> Protocol:
        """Take nothing more from either side. Returns the protocol to say goodbye with."""
        self._ended = (code, reason)
        self._is_full = True
        self._protocol = self._protocol or self._new_protocol()
        return self._protocol

    def _cut_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.transport.abort)


class DeflatedSocket(DetachedSocket):
    """One that has negotiated permessage-deflate. Answers go as they are, which is allowed: nobody shares them."""

    __slots__ = ()

    def write(self, frame: Frame) -> bool:
        """Send the compressed frame at once. False: the transport cannot take more, or is closing."""
        if self._is_full:
            return False
        self.transport.write(frame.deflated)
        return True

    def _new_protocol(self) -> Protocol:
        protocol = super()._new_protocol()
        protocol.extensions = [
            PerMessageDeflate(
                remote_no_context_takeover=True,
                local_no_context_takeover=True,
                remote_max_window_bits=zlib.MAX_WBITS,
                local_max_window_bits=zlib.MAX_WBITS,
            )
        ]
        return protocol


def _message(fragments: Sequence[Incoming]) -> str | None:
    """Put a message together; None for a binary one. Raises HangUp for text that is no UTF-8."""
    if fragments[0].opcode is not Opcode.TEXT:
        return None
    data = bytes(fragments[0].data) if len(fragments) == 1 else b"".join(map(_data, fragments))
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise HangUp(INVALID_UTF8, "invalid_utf8") from None


def _data(frame: Incoming) -> bytes:
    return bytes(frame.data)


def _is_between_messages(protocol: Protocol) -> bool:
    """Whether nothing is lost with the protocol: it waits for the first byte of a message.

    Its parser is a generator that waits in another one, and in `at_eof` between two frames. Were that called by
    another name one day, protocols would be kept for longer, and a test would say so.
    """
    waiting: Any = protocol.parser
    while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
        waiting = inner
    return protocol.current_size is None and waiting.__name__ == "at_eof"


_: type[Outlet] = DetachedSocket
