"""What every peer is given to deliver, and how a client puts something into a WebSocket frame."""

import struct
from typing import Final

from tests.benchmarks.requests import MARKER, NOTIFICATION_BYTES, TEXT

CHANNEL: Final = "broadcast"
_BEGIN: Final = f'{{"type":"order.shipped","title":"{MARKER}","link":"/orders/1234","body":"'.encode()
PAYLOAD: Final = _BEGIN + TEXT[: NOTIFICATION_BYTES - len(_BEGIN) - 2].encode() + b'"}'
"""JSON of as many bytes as notifier's notification has."""


def client_frame(payload: bytes, *, opcode: int) -> bytes:
    """A frame as a client has to send it, masked, if only with zeros (RFC 6455, 5.3)."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload
