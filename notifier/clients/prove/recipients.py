"""What a proof receives: per recipient, one bit for each receipt, and where in the journal its sessions stood."""

from dataclasses import dataclass, field

from notifier.clients.prove.delays import Delays
from notifier.clients.prove.sends import Lane, Position, Send


class Track:
    """Which sends of one lane a recipient has received."""

    __slots__ = ("_bits", "newest")

    def __init__(self) -> None:
        self._bits = bytearray()
        self.newest = -1

    @property
    def bits(self) -> int:
        """One bit for each send, the oldest lowest."""
        return int.from_bytes(self._bits, "little")

    @property
    def size_bytes(self) -> int:
        """What it takes to remember."""
        return len(self._bits)

    def add(self, index: int) -> bool:
        """Note a receipt. False: it was received before."""
        byte, bit = index >> 3, 1 << (index & 7)
        bits = self._bits
        if byte >= len(bits):
            bits.extend(bytes(byte + 1 - len(bits)))
        elif bits[byte] & bit:
            return False
        bits[byte] |= bit
        return True


@dataclass(frozen=True, slots=True)
class Gap:
    """What a recipient was told that it missed, by `reset`: everything over `after` up to `until`.

    `after` is the last position that it had heard, `newest` when the newest send was begun that it had received, by
    door, and `told_at` when it was told.
    """

    after: Position
    until: Position
    newest: dict[str, float]
    told_at: float

    def may_hold(self, send: Send) -> bool:
        """Tell whether the send can lie in the gap. False is certain."""
        if send.begun_at >= self.told_at:
            return False
        if (place := send.position) is not None and place.epoch in (self.after.epoch, self.until.epoch):
            return not place.is_after(self.until) and (place.epoch != self.after.epoch or place.is_after(self.after))
        # Nobody got it, so its position is not known. But what was begun after its acceptance lies behind it.
        return send.settled_at >= self.newest.get(send.lane.door, 0.0)


@dataclass(slots=True)
class Absence:
    """A recipient without a session, from the end of one to the welcome of the next."""

    url: str
    code: int
    left_at: float
    back_at: float | None = None  # None while it is away.
    status: str = ""  # How it was welcomed back: `resumed`, `reset`.

    @property
    def seconds(self) -> float | None:
        return None if self.back_at is None else self.back_at - self.left_at


@dataclass(slots=True, eq=False)
class Recipient:
    """Somebody who keeps a session open, over all of its connections."""

    number: int
    user: str = ""
    tenant: str = ""
    topics: frozenset[str] = frozenset()
    url: str = ""  # Where its session is, or was.
    entitled_from: float | None = None  # Its first welcome: what is begun later has to arrive. None: never welcomed.
    heard: Position | None = None  # The newest position that a frame told.
    tracks: dict[Lane, Track] = field(default_factory=dict)
    newest: dict[str, float] = field(default_factory=dict)  # By door: when the newest send it received was begun.
    gaps: list[Gap] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    delays: Delays = field(default_factory=Delays)

    def __str__(self) -> str:
        return f"session {self.number} of {self.user} at {self.url}"
