"""What comes from a client's socket: the library's parser, and what is handed over in the middle of its work."""

import asyncio
import logging
import zlib
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import MutableSet, Sequence
from dataclasses import dataclass
from typing import Any, Final

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import SERVER, Protocol

# Compressed, a read can hold thousands of messages that each inflate to the limit: so many bytes at a time are parsed.
PARSED_BYTES: Final = 4096
_new_decoder: Final = getincrementaldecoder("utf-8")
_QUIET: Final = logging.getLogger("uvicorn.error")  # The library's own would ask for the level of each new protocol.


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
    messages: Sequence[str | bytes]
    fragments: Sequence[Incoming]
    is_writable: bool
    connections: MutableSet[Any]


class Letter(Protocol):
    """The library's parser, where it is not to the letter of RFC 6455.

    Text that is no UTF-8 ends the connection with the frame in which it shows, not with its message (8.1). A close
    may stand between the fragments of a message, as every control frame may (5.4): the message is dropped.
    """

    _text: IncrementalDecoder | None = None  # While a text is unfinished.

    def recv_frame(self, frame: Incoming) -> None:
        """Raises UnicodeDecodeError, which the parser turns into a close with 1007."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        elif frame.opcode is Opcode.TEXT:
            self._text = _new_decoder()
        if self._text is not None and frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._text.decode(frame.data, frame.fin)
            self._text = None if frame.fin else self._text
        super().recv_frame(frame)  # From here on it is an event.


def new_protocol(*, limit_bytes: int, is_deflated: bool = False) -> Protocol:
    """A parser that stands before the first byte of a message, for an open connection."""
    protocol = Letter(SERVER, max_size=limit_bytes, logger=_QUIET)
    if is_deflated:
        protocol.extensions = [
            PerMessageDeflate(
                remote_no_context_takeover=True,
                local_no_context_takeover=True,
                remote_max_window_bits=zlib.MAX_WBITS,
                local_max_window_bits=zlib.MAX_WBITS,
            )
        ]
    return protocol


def message_of(fragments: Sequence[Incoming]) -> str | bytes:
    """Put a message together. The parser has seen to it that text is UTF-8."""
    data = bytes(fragments[0].data) if len(fragments) == 1 else b"".join(map(_data, fragments))
    return data.decode() if fragments[0].opcode is Opcode.TEXT else data


def _data(frame: Incoming) -> bytes:
    return bytes(frame.data)


def is_between_messages(protocol: Protocol) -> bool:
    """Whether nothing is lost with the protocol: it waits for the first byte of a message.

    Its parser is a generator that waits in another one, and in `at_eof` between two frames. Were that called by
    another name one day, protocols would be kept for longer, and a test would say so.
    """
    waiting: Any = protocol.parser
    while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
        waiting = inner
    return protocol.current_size is None and waiting.__name__ == "at_eof"
