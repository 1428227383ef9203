"""A sealed notification on its way through the journal, the position it has there, and its place in a trace.

They are named tuples: one of each is made for every notification, and a frozen dataclass takes five times as long.
"""

import re
from typing import NamedTuple, Self

from notifier.core.audience import Audience
from notifier.core.identity import Tenant

_POSITION = re.compile(r"([A-Za-z0-9_-]{1,24})\.(\d{1,19})\.(\d{1,9})", re.ASCII)


class Position(NamedTuple):
    """A place in the journal: everything up to and including it, whoever it was for.

    `offset` numbers records, `index` the items of one record. Positions of one epoch compare in journal order;
    positions of two epochs do not compare.
    """

    epoch: str
    offset: int
    index: int  # type: ignore[assignment]  # a tuple's `index`, which nobody looks for in a position

    @classmethod
    def before_record(cls, epoch: str, offset: int) -> Self:
        """The last place before a record, whatever the one before it holds."""
        return cls.of(epoch, (offset << 20) - 1)

    @property
    def ordinal(self) -> int:
        """One number that orders the positions of an epoch. A record holds far fewer than 2**20 items."""
        return self.offset << 20 | self.index

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}.{self.index}"

    @classmethod
    def of(cls, epoch: str, ordinal: int) -> Self:
        """The position of an epoch that has this ordinal."""
        return cls(epoch, ordinal >> 20, ordinal & (1 << 20) - 1)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what `str()` wrote; None for anything else."""
        match = _POSITION.fullmatch(text)
        return cls(match[1], int(match[2]), int(match[3])) if match else None


class Trace(NamedTuple):
    """Where a notification stands in the trace of whoever sent it. It is carried along, and nothing goes by it.

    Args:
        parent: a `traceparent` (https://www.w3.org/TR/trace-context/).
        state: the `tracestate` that goes with it; mostly empty.
        origin: what the replica that takes the notification in keeps until the journal has it; it stays there.
    """

    parent: str
    state: str = ""
    origin: object = None


class Envelope(NamedTuple):
    """A notification as every replica sees it.

    Args:
        id: UUIDv7, lower case with hyphens.
        tenant: the tenant it is sent into.
        audience: whom it is for.
        sealed: the notification object as UTF-8 JSON, at most 64 KiB; nobody downstream parses or rebuilds it.
        accepted_at_ms: Unix milliseconds at which it was accepted.
        expires_at_ms: Unix milliseconds after which it is neither delivered nor replayed.
        live_only: ttl 0: for the sessions present when it is read; never in the window.
        collapse_key: a newer envelope with the same key replaces this one on replay; None keeps each.
        key_digest: 16 bytes that stand for (tenant, issuer, caller, idempotency key); None when not keyed.
        content_digest: 16 bytes that stand for what was asked; set with `key_digest`.
        trace: set while somebody records the trace of it.
    """

    id: str
    tenant: Tenant
    audience: Audience
    sealed: bytes
    accepted_at_ms: int
    expires_at_ms: int
    live_only: bool = False
    collapse_key: str | None = None
    key_digest: bytes | None = None
    content_digest: bytes | None = None
    trace: Trace | None = None
