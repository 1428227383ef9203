"""Plain frames, a bounded outlet and a clock moved by hand: small, and true to the ports that they stand for."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from notifier.core.envelope import Envelope, Position
from notifier.core.ports import CloseReason, Frame, FrameMaker, Outlet


@dataclass(frozen=True, slots=True)
class PlainFrame:
    """A frame that still knows what it says."""

    kind: str
    position: Position | None = None
    envelope: Envelope | None = None
    number: int = 0

    @property
    def size(self) -> int:
        return len(self.envelope.sealed) if self.envelope else 1

    @property
    def text(self) -> str:
        return f"{self.kind} {self.position} {self.envelope.id if self.envelope else self.number}"

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text,)

    @property
    def wire(self) -> bytes:
        return self.text.encode()

    deflated = event = chunk = wire

    @property
    def parts(self) -> tuple["PlainFrame", ...]:
        return (self,)


@dataclass(frozen=True, slots=True)
class JoinedFrames:
    """Frames that are written at once, and still know what each of them says."""

    parts: tuple[PlainFrame, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(part.text for part in self.parts)

    @property
    def wire(self) -> bytes:
        return b"".join(part.wire for part in self.parts)

    deflated = event = chunk = wire


class PlainFrames:
    """Makes plain frames."""

    def notification(self, position: Position, envelope: Envelope) -> PlainFrame:
        return PlainFrame("notification", position, envelope)

    def join(self, frames: Sequence[Frame]) -> JoinedFrames:
        return JoinedFrames(tuple(part for frame in frames for part in parts_of(frame)))

    def heartbeat(self, position: Position) -> PlainFrame:
        return PlainFrame("heartbeat", position)

    def token_expiring(self, in_seconds: int) -> PlainFrame:
        return PlainFrame("token_expiring", number=in_seconds)

    def degraded(self) -> PlainFrame:
        return PlainFrame("degraded")

    def restored(self) -> PlainFrame:
        return PlainFrame("restored")

    def reconnect(self, reason: CloseReason, position: Position, after_ms: int) -> PlainFrame:
        return PlainFrame("reconnect", position, number=after_ms)


def parts_of(frame: Frame) -> tuple[PlainFrame, ...]:
    """The messages of a frame that was made here."""
    assert isinstance(frame, PlainFrame | JoinedFrames)
    return frame.parts


class HandLoop:
    """An event loop that turns when it is told to."""

    def __init__(self) -> None:
        self._callbacks: deque[Callable[[], None]] = deque()

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def turn(self) -> None:
        """Do what there is now."""
        for _ in range(len(self._callbacks)):
            self._callbacks.popleft()()

    def run(self) -> None:
        """Turn until nothing is left to do."""
        while self._callbacks:
            self.turn()


class BoundedOutlet:
    """Holds frames until its client takes them: any number of bytes when none wait, else at most `limit_bytes`.

    `drained` is called each time the client has taken the last one, as the port asks.
    """

    def __init__(self, *, limit_bytes: int = 2**30, monotonic: Callable[[], float] = lambda: 0.0) -> None:
        self._limit_bytes = limit_bytes
        self._monotonic = monotonic
        self._waiting: deque[PlainFrame] = deque()
        self.drained: Callable[[], None] = lambda: None
        self.moved_at = monotonic()
        self.written: list[PlainFrame] = []  # All that was ever accepted, in order.
        self.taken: list[PlainFrame] = []
        self.writes = 0
        self.on_write: Callable[[], None] = lambda: None
        self.last: Frame | None = None  # The object that was written last.
        self.heard_at = inf
        self.closed: CloseReason | None = None
        self.closes = 0

    def __len__(self) -> int:
        """Frames that wait."""
        return len(self._waiting)

    @property
    def is_drained(self) -> bool:
        return not self._waiting

    def write(self, frame: Frame) -> bool:
        waiting = sum(frame.size for frame in self._waiting)
        if self.closed or (self._waiting and waiting + frame.size > self._limit_bytes):
            return False
        self.writes += 1
        self.last = frame
        self.on_write()
        self.answer(frame)
        return True

    def answer(self, frame: Frame) -> None:
        self._waiting += parts_of(frame)
        self.written += parts_of(frame)

    def close(self, reason: CloseReason) -> None:
        self.closes += 1
        self.closed = self.closed or reason

    def take(self, count: int = 2**30) -> None:
        """The client takes so many frames, or as many as there are, also those that come meanwhile."""
        while count and self._waiting:
            self.taken.append(self._waiting.popleft())
            self.moved_at = self._monotonic()
            count -= 1
            if not self._waiting and not self.closed:
                self.drained()

    def received(self) -> list[str]:
        """The ids of the notifications that the client has taken."""
        return [frame.envelope.id for frame in self.taken if frame.envelope]

    def kinds(self) -> list[str]:
        """What was written, by kind."""
        return [frame.kind for frame in self.written]


class HandClock:
    """Seconds that pass only when told to."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


_frames: type[FrameMaker] = PlainFrames
_outlet: type[Outlet] = BoundedOutlet
