"""A session's connection after it has left ASGI: what sockets and streams of events have in common."""

import asyncio
import time
from collections.abc import Callable, MutableSet
from dataclasses import dataclass
from typing import Any

from notifier.core.hub import Hub
from notifier.core.ports import CloseReason
from notifier.core.session import Session


@dataclass(frozen=True, slots=True)
class Board:
    """What all connections of one transport share.

    Args:
        ended: told of each session that is over, with close code and reason, and how long it was.
        linger_seconds: a client that is sent away has so long to read why.
        write_limit_bytes: what may wait in the transport before a session falls behind.
    """

    hub: Hub
    ended: Callable[[Session, tuple[int, str], float], None]
    linger_seconds: float
    write_limit_bytes: int


class BareConnection(asyncio.Protocol):
    """The greater part of an outlet. Its heirs know the encoding of frames, and how their transport says goodbye."""

    __slots__ = (
        "_board",
        "_connections",
        "_ended",
        "_is_full",
        "_moved_at",
        "_opened_at",
        "_unsent_bytes",
        "session",
        "transport",
    )

    session: Session
    _board: Board

    def __init__(
        self, board: Board, transport: asyncio.Transport, connections: MutableSet[Any], *, is_writable: bool
    ) -> None:
        self._board = board
        self.transport = transport
        self._connections = connections  # Of the server, which shuts them down at its end.
        self._is_full = not is_writable  # Or closing, or gone: nothing is taken.
        self._ended: tuple[int, str] | None = None  # Close code and reason, once one side has begun to close.
        self._opened_at = self._moved_at = time.monotonic()
        self._unsent_bytes = 0  # When it was looked at last.
        connections.add(self)
        transport.set_protocol(self)
        transport.set_write_buffer_limits(board.write_limit_bytes)

    @property
    def is_drained(self) -> bool:
        return not self._is_full

    @property
    def moved_at(self) -> float:
        """The transport tells only when it is nearly empty, which can take a slow client long; so look how it goes."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._moved_at = time.monotonic()
        self._unsent_bytes = unsent_bytes
        return self._moved_at

    def pause_writing(self) -> None:
        """The transport cannot take more."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The client has taken what waited."""
        if self._ended is None:
            self._is_full = False
            self._moved_at = time.monotonic()
            self._resumed()
            self._board.hub.advance(self.session)

    def _resumed(self) -> None:
        """The client takes something again."""

    def close(self, reason: CloseReason) -> None:
        """Send the client away, behind what was written; it ends, or is cut off."""
        raise NotImplementedError

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

    def give_up(self) -> None:
        """Cut a connection whose session could not be opened."""
        self._connections.discard(self)
        if hasattr(self, "session"):
            self._board.hub.remove(self.session)
        self.transport.set_protocol(asyncio.Protocol())
        self.transport.abort()

    def _cut_in(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self.transport.abort)
