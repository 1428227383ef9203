"""What comes from a client's socket: the library's parser, and what is handed over in the middle of its work."""

import asyncio
import logging
import zlib
from collections.abc import MutableSet, Sequence
from dataclasses import dataclass
from typing import Any, Final

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as Incoming
from websockets.frames import Opcode
from websockets.protocol import SERVER, Protocol

from notifier.transports.closing import INVALID_UTF8, HangUp

# Compressed, a read can hold thousands of messages that each inflate to the limit: so many bytes at a time are parsed.
PARSED_BYTES: Final = 4096
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
    messages: Sequence[str | None]
    fragments: Sequence[Incoming]
    is_writable: bool
    connections: MutableSet[Any]


def new_protocol(*, limit_bytes: int, is_deflated: bool = False) -> Protocol:
    """A parser that stands before the first byte of a message, for an open connection."""
    protocol = Protocol(SERVER, max_size=limit_bytes, logger=_QUIET)
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


def message_of(fragments: Sequence[Incoming]) -> str | None:
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


def is_between_messages(protocol: Protocol) -> bool:
    """Whether nothing is lost with the protocol: it waits for the first byte of a message.

    Its parser is a generator that waits in another one, and in `at_eof` between two frames. Were that called by
    another name one day, protocols would be kept for longer, and a test would say so.
    """
    waiting: Any = protocol.parser
    while (inner := getattr(waiting, "gi_yieldfrom", None)) is not None:
        waiting = inner
    return protocol.current_size is None and waiting.__name__ == "at_eof"
