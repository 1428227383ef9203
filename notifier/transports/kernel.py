"""What the kernel knows of a connection: how much of what was written to it the other side's has confirmed."""

import asyncio
import socket
import sys
import time
from typing import Final, NamedTuple

if sys.platform == "linux":
    from fcntl import ioctl
    from termios import TIOCOUTQ  # SIOCOUTQ of tcp(7): bytes that are not confirmed, sent or not.

# Of `struct tcp_info` (linux/tcp.h): where tcpi_bytes_acked stands, which Linux has since 4.1, and what is behind it.
_CONFIRMED: Final = slice(120, 128)


class Sent(NamedTuple):
    """Bytes that the kernel was given for a connection since it began, and those of them that were confirmed."""

    at: float  # Monotonic seconds.
    confirmed: int
    written: int

    def is_being_taken(self, since: "Sent") -> bool:
        """Whether some of what waited then was confirmed since, but not yet all: the other side is slow.

        Heartbeats that a kernel confirms for a process which is frozen were not waiting then.
        """
        return since.confirmed < self.confirmed < since.written


def sent(transport: asyncio.Transport) -> Sent | None:
    """How it stands now; None where nothing waits, or the system does not tell."""
    if sys.platform != "linux" or (connection := transport.get_extra_info("socket")) is None:
        return None
    try:
        waiting = int.from_bytes(ioctl(connection.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)
        if not waiting:
            return None
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _CONFIRMED.stop)
    except (OSError, ValueError):  # It is closed.
        return None
    confirmed = int.from_bytes(told[_CONFIRMED], sys.byteorder)
    return Sent(time.monotonic(), confirmed, confirmed + waiting) if len(told) == _CONFIRMED.stop else None
