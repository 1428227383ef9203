"""What the core needs from outside: a journal, frames to write, a place to write them."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from notifier.core.envelope import Envelope, Position


@dataclass(frozen=True, slots=True)
class Marker:
    """Says nothing; its writer waits to read it back, and then knows that it has read all that came before."""

    nonce: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """An item that says nothing to the core: one of the journal's own, or of a kind that a newer replica wrote.

    It keeps the index of those behind it.
    """

    kind: int


Item = Envelope | Marker


@dataclass(frozen=True, slots=True)
class Record:
    """Items that entered the journal together. Item i has the position (epoch, offset, i), and offset is at least 1.

    `follows_gap`: what was between the last record and this one is not known, and will not come.
    """

    epoch: str
    offset: int
    items: tuple[Item | Unknown, ...]
    follows_gap: bool = False


class Journal(Protocol):
    """An ordered, replayable log of records with one order for all who follow it."""

    async def append(self, items: Sequence[Item]) -> None:
        """Return when the journal has the items, in their order. Raises Unavailable when it does not take them."""

    def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        """Yield each record after the position, in order, and wait for more without end.

        A position of the empty epoch stands for as far back as the journal is asked to remember.
        """

    async def check(self) -> None:
        """Raise Unavailable when an append would fail now, or nothing can be read."""


Later = Callable[[float, Callable[[], None]], object]
"""(seconds, callback): runs the callback after so long, as `call_later` of an event loop does."""


class Frame(Protocol):
    """What is written at once, one message or several joined: prepared once in each encoding that is asked for."""

    @property
    def size(self) -> int:
        """About the bytes that it takes."""

    @property
    def wire(self) -> bytes:
        """For a connection that is written to as it is."""

    @property
    def deflated(self) -> bytes:
        """The same, compressed."""

    @property
    def texts(self) -> Sequence[str]:
        """Message by message, for servers that frame text themselves."""

    @property
    def event(self) -> bytes:
        """For a stream of events."""

    @property
    def chunk(self) -> bytes:
        """The same, for a stream that is sent in chunks."""


class FrameMaker(Protocol):
    """Puts what the core has to say into frames."""

    def notification(self, position: Position, envelope: Envelope) -> Frame: ...

    def join(self, frames: Sequence[Frame]) -> Frame: ...

    def heartbeat(self, position: Position) -> Frame: ...

    def token_expiring(self, in_seconds: int) -> Frame: ...

    def degraded(self) -> Frame: ...

    def restored(self) -> Frame: ...

    def reconnect(self, reason: "CloseReason", position: Position, after_ms: int) -> Frame: ...


class CloseReason(Enum):
    """Why the service ends a session; each transport has its own code for it."""

    FELL_BEHIND = "fell_behind"
    DRAIN = "drain"
    REBALANCE = "rebalance"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_REVOKED = "token_revoked"
    SUPERSEDED = "superseded"
    TOKEN_INVALID = "token_invalid"  # One that was to take the place of the session's own; as the next.
    ANOTHER_USER = "another_user"
    SHUTDOWN = "shutdown"
    SILENT = "keepalive ping timeout"  # In uvicorn's words, which say it on the other path.


class Outlet(Protocol):
    """The way out to one client.

    Whenever its client has taken what waited, it calls `Hub.advance`.
    """

    @property
    def is_drained(self) -> bool:
        """Nothing that was written waits for the client."""

    @property
    def moved_at(self) -> float:
        """Monotonic seconds at which the client last took something, as far as was looked; look each second or so."""

    @property
    def heard_at(self) -> float:
        """Monotonic seconds at which the client was last heard, or, as far as was looked, has taken something.

        Look at each heartbeat. Infinite where the server beneath watches that.
        """

    def write(self, frame: Frame) -> bool:
        """Take the frame without waiting, or nothing of it and return False."""

    def answer(self, frame: Frame) -> None:
        """Take a frame that the client has asked for, also when it is slow: who does not read is not read either."""

    def close(self, reason: CloseReason) -> None:
        """End the connection without waiting, behind what was written."""
