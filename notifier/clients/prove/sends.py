"""What a proof sends: to whom, in which order, and what became of it. Times are monotonic seconds of one clock."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, Self

_POSITION: Final = re.compile(r"([A-Za-z0-9_-]+)\.(\d+)\.(\d+)", re.ASCII)


class Position(NamedTuple):
    """A place in the journal. Other clients never look into a position; who judges the order of the journal must."""

    epoch: str
    offset: int
    item: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a position; None for what is none."""
        match = _POSITION.fullmatch(text)
        return cls(match[1], int(match[2]), int(match[3])) if match else None

    def is_after(self, other: "Position") -> bool:
        """Tell whether it lies behind the other in the same journal."""
        return self.epoch == other.epoch and self > other


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a send is for: the union of what is named."""

    users: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    everyone: bool = False

    def reaches(self, user: str, topics: frozenset[str]) -> bool:
        """Tell whether a session of this user with these topics is entitled to it."""
        return self.everyone or user in self.users or not topics.isdisjoint(self.topics)

    def __str__(self) -> str:
        return "everyone" if self.everyone else ", ".join((*self.users, *self.topics))


class Outcome(StrEnum):
    """What the sender knows: `UNKNOWN` when it gave up without an answer that decides."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(slots=True, eq=False)
class Lane:
    """Sends to one audience through one door, each begun after the outcome of the one before: their order counts."""

    audience: Audience
    door: str
    sends: list["Send"] = field(default_factory=list)

    def due(self) -> int:
        """The sends that have to arrive, one bit each. One of unknown outcome is, once it has arrived anywhere."""
        bits = "".join("1" if send.has_to_arrive else "0" for send in reversed(self.sends))
        return int(bits or "0", 2)

    def at(self, bits: int) -> Iterator["Send"]:
        """The sends with these bits, oldest first."""
        digits = f"{bits:b}"[::-1]
        at = digits.find("1")
        while at >= 0:
            yield self.sends[at]
            at = digits.find("1", at + 1)


@dataclass(slots=True, eq=False)
class Send:
    """One notification.

    Args:
        n: its number in the proof, which it carries in its data.
        index: its number in its lane.
        attempted_at: when its latest attempt began; no acceptance is older.
    """

    n: int
    lane: Lane
    index: int
    begun_at: float
    attempted_at: float
    via: str = ""  # Where it was accepted.
    outcome: Outcome = Outcome.PENDING
    settled_at: float = 0.0
    id: str | None = None  # The one it was accepted under, or the first under which it was received.
    position: Position | None = None  # Where it was received first; None: nowhere.

    @property
    def has_to_arrive(self) -> bool:
        """Whether whoever is entitled must get it."""
        if self.outcome is Outcome.ACCEPTED:
            return True
        return self.outcome is not Outcome.REFUSED and self.position is not None

    def __str__(self) -> str:
        return f"n={self.n} (id {self.id}, {self.outcome}, {self.lane.door} {self.via}, for {self.lane.audience})"
