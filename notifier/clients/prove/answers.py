"""What a door said to one attempt to send, and what an attempt is."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from notifier.clients.prove.sends import Audience


@dataclass(frozen=True, slots=True)
class Item:
    """A notification to send.

    Args:
        key: makes a retry harmless, through the same door.
        caller: whose token to send it with.
    """

    key: str
    audience: Audience
    body: dict[str, Any]
    caller: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an attempt.

    Args:
        decision: `accepted`, `refused` for good, or `none`: try again with the same key.
        reason: the status, or what happened instead, in words that can be counted.
        via: where the attempt went.
        id: the notification's, where the door tells it.
        after_seconds: how long to wait at least before another attempt.
    """

    decision: Literal["accepted", "refused", "none"]
    reason: str
    via: str
    id: str | None = None
    after_seconds: float = 0.0


class Door(Protocol):
    """One way in: `HttpDoor` or `QueueDoor`."""

    async def attempt(self, item: Item, turn: int, /) -> Answer:
        """Try once, within a bounded time; `turn` chooses among several places, and a retry takes the next."""

    async def close(self) -> None:
        """Let go of every connection."""
