"""What is known of a session's time here, also some time after it: for operators, who ask whether somebody got it."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from notifier.core.audience import Address
from notifier.core.envelope import Position
from notifier.core.identity import Identity
from notifier.core.session import CaughtUp, addresses_of


class Stay(NamedTuple):
    """One session, open or closed.

    Args:
        started: the position before the first that it could get.
        position: everything for it up to here has been written to its transport.
        changed_at: ordinal of the tail when roles or topics changed last; -1: never.
        caught_up: when it was behind last, and how far it was brought then; None: never.
        is_behind: whether it was behind when it was looked at, or closed.
        closed_at_ms: Unix milliseconds; None while it is open.
        code, reason: how it was closed; None while that is not known.
    """

    session: str
    identity: Identity
    topics: frozenset[str]
    started: Position
    position: Position
    changed_at: int
    caught_up: CaughtUp | None
    is_behind: bool
    delivered: int
    opened_at_ms: int
    closed_at_ms: int | None = None
    code: int | None = None
    reason: str | None = None

    def addresses(self) -> frozenset[Address]:
        """Every address at which it is reached, or was last."""
        return addresses_of(self.identity, self.topics)


class Departed:
    """The sessions that were closed last, some 500 bytes each.

    Args:
        capacity: how many are remembered.
        since_ms: Unix milliseconds at which the first one may open.
    """

    def __init__(self, capacity: int, *, since_ms: int) -> None:
        self._capacity = capacity
        self.since_ms = since_ms  # Whatever was closed later is remembered.
        self._stays: OrderedDict[str, Stay] = OrderedDict()  # By session, oldest first.

    def __len__(self) -> int:
        return len(self._stays)

    def __iter__(self) -> Iterator[Stay]:
        """The newest first."""
        return reversed(self._stays.values())

    def add(self, stay: Stay) -> None:
        """Remember one that ends now."""
        self._stays[stay.session] = stay
        if len(self._stays) > self._capacity:
            _, oldest = self._stays.popitem(last=False)
            self.since_ms = oldest.closed_at_ms or self.since_ms

    def end(self, session_id: str, code: int, reason: str) -> None:
        """Say how it was closed, which its transport knows a little later."""
        stay = self._stays.get(session_id)
        if stay is not None:
            self._stays[session_id] = stay._replace(code=code, reason=reason)
