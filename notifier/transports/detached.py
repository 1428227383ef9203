"""A session's connection after it has left ASGI: the transport, this object, and nothing else; no task, queue or timer.

What the hub writes goes to the socket in the same turn. What the client says is read by a protocol of the `websockets`
library, made when bytes arrive and kept only while a frame or a message is unfinished.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Final
from typing import Protocol as Shape

from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import OPEN, Event, Protocol

from notifier.core.ports import CloseReason, Frame, Outlet
from notifier.core.session import Session
from notifier.transports.bare import BareConnection, Board
from notifier.transports.closing import CODE_OF_REASON, HangUp
from notifier.transports.conversation import Allowance
from notifier.transports.incoming import PARSED_BYTES, HandedOver, is_between_messages, message_of, new_protocol
from notifier.transports.kernel import Sent, sent

# After a violation the client has so long to read why; what it still sends is thrown away unread.
FAILED_LINGER_SECONDS: Final = 2.0
UNREAD_PONGS: Final = 16  # Libraries ping a slow server some times a minute; who floods sends hundreds.


class Partner(Shape):
    """Whom clients talk to: a `Conversation`, or an echo."""

    def allowance(self) -> Allowance:
        """What a new client may send."""

    def receive(self, session: Session, message: str | bytes) -> None:
        """Answer one message. Raises HangUp when the session must end."""


@dataclass(frozen=True, slots=True)
class Switchboard(Board):
    """What all detached sockets share; `frame_limit_bytes` is that of a message from the client."""

    conversation: Partner
    frame_limit_bytes: int

    def connect(self, handed: HandedOver) -> "DetachedSocket":
        """Take over a connection."""
        return (DeflatedSocket if handed.protocol.extensions else DetachedSocket)(self, handed)


class DetachedSocket(BareConnection):
    """The outlet of one session, and what hears its client."""

    __slots__ = (
        "_allowance",
        "_fragments",
        "_heard_at",
        "_protocol",
        "_sent",
        "_unread_pongs",
    )

    _board: Switchboard

    def __init__(self, board: Switchboard, handed: HandedOver) -> None:
        super().__init__(board, handed.transport, handed.connections, is_writable=handed.is_writable)
        self._protocol: Protocol | None = handed.protocol  # None between messages.
        self._fragments = list(handed.fragments) or None  # Of a message that is unfinished.
        self._allowance: Allowance | None = None  # Made when the client says something.
        self._heard_at = self._opened_at
        self._sent: Sent | None = None  # When it was looked at last; None when nothing waited in the kernel then.
        self._unread_pongs = 0  # Written since the transport could not take more.

    def begin(self, session: Session, messages: Sequence[str | bytes]) -> None:
        """Go on where ASGI has left off: hear what the client has said meanwhile, then read on."""
        self.session = session
        try:
            for message in messages:
                self._spend()
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
    def heard_at(self) -> float:
        """Who takes something lives: our pings wait behind all that a slow client has not taken, also in the kernel.

        While it is full it may not be listened to; how long that goes on is for `moved_at` to tell.
        """
        if self._is_full:
            return inf
        before, self._sent = self._sent, sent(self.transport)
        if before is not None and self._sent is not None and self._sent.is_being_taken(before):
            self._heard_at = max(self._heard_at, before.at)  # It may have frozen right behind that.
        return max(self._heard_at, self.moved_at)

    def _resumed(self) -> None:
        self._unread_pongs = 0
        self._heard_at = self._moved_at
        self.transport.resume_reading()

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
        self._spend()
        if frame.opcode is Opcode.PING:
            self._answer_ping()
        elif frame.opcode is not Opcode.PONG:
            self._collect(frame)

    def _answer_ping(self) -> None:
        """Send the pong before anything that is said to what came behind the ping."""
        assert self._protocol is not None
        self._unread_pongs += self._is_full
        if self._unread_pongs <= UNREAD_PONGS:  # Else `_pass_on` cuts.
            self.transport.write(self._protocol.writes.pop(0))  # It has one ready for each ping, in order.

    def _collect(self, frame: Incoming) -> None:
        fragments = self._fragments = self._fragments or []
        fragments.append(frame)
        if frame.fin:
            self._fragments = None
            self._hear(message_of(fragments))

    def _spend(self) -> None:
        """Take one frame out of what the client may send. Raises HangUp when there is none left."""
        self._allowance = self._allowance or self._board.conversation.allowance()
        self._allowance.spend()

    def _hear(self, message: str | bytes) -> None:
        """Answer one message. Raises HangUp when the session must end."""
        if self._ended is None:
            self._board.conversation.receive(self.session, message)
            if self._is_full and self._ended is None:
                self.transport.pause_reading()  # Who does not read our answers is not read either.

    def _pass_on(self, protocol: Protocol) -> None:
        """Send what the protocol has to say: pongs, an answer to a close."""
        said = b"".join(protocol.data_to_send())
        if self._unread_pongs > UNREAD_PONGS:
            self.transport.abort()  # It pings and does not read: the pongs would wait without end.
        elif said:
            self.transport.write(said)

    def _forget_protocol(self) -> None:
        if self._ended is None and self._protocol is not None and is_between_messages(self._protocol):
            self._protocol = None

    def _new_protocol(self) -> Protocol:
        return new_protocol(limit_bytes=self._board.frame_limit_bytes)

    # -- the end -------------------------------------------------------------------------------------------------

    def close(self, reason: CloseReason) -> None:
        """Send the client away, behind what was written; it answers, or is cut off."""
        if self._ended is None:
            code = CODE_OF_REASON[reason]
            protocol = self._stop(code, reason.value)
            if protocol.state is OPEN:  # Else the client's own close was read in this turn, and is answered next.
                protocol.send_close(code, reason.value)
            self._pass_on(protocol)
            self.transport.resume_reading()
            self._cut_in(self._board.linger_seconds)

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
        if self.transport.get_write_buffer_size():
            self._cut_in(FAILED_LINGER_SECONDS)  # Closing waits for the buffer to empty, which it may never do.

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
        return new_protocol(limit_bytes=self._board.frame_limit_bytes, is_deflated=True)


_: type[Outlet] = DetachedSocket
