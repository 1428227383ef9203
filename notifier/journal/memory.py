"""The embedded journal: one process, nothing beside it, gone when the process ends."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Sequence

from notifier.core.envelope import Position
from notifier.core.errors import Unavailable
from notifier.core.ports import Item, Journal, Record
from notifier.journal.record import ITEM_BYTES, MAX_RECORD_BYTES, MAX_RECORD_ITEMS, size_of


class MemoryJournal:
    """Keeps the newest records, at most `capacity_bytes` of items, for those who follow.

    It never drops what a follower has not read: when that would be needed, it is full and takes no more. A follower
    that starts before the oldest record starts at the oldest; it sees the hole by the offsets.
    """

    def __init__(self, *, epoch: str | None = None, capacity_bytes: int = 16 * 1024 * 1024) -> None:
        # A new epoch at each start: a position of an earlier process can only be answered with a reset.
        self.start = Position(epoch or secrets.token_hex(4), 0, 0)
        self._capacity_bytes = capacity_bytes
        self._records: deque[tuple[Record, int]] = deque()  # With their sizes; their offsets have no holes.
        self._held_bytes = 0
        self._next_offset = 1
        self._read_offsets: dict[object, int] = {}  # by follower
        self._appended = asyncio.Event()

    async def append(self, items: Sequence[Item]) -> None:
        """Take the items, as few records as their limits allow."""
        chunks = _chunks(items)
        self._make_room(sum(size for _, size in chunks))
        for chunk, size in chunks:
            self._records.append((Record(self.start.epoch, self._next_offset, chunk), size))
            self._held_bytes += size
            self._next_offset += 1
        self._appended.set()
        await asyncio.sleep(0)  # Who waits for records reads these before anybody is told that the journal has them.

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        """Yield the records after the position. One follower's pace is its own."""
        follower = object()
        self._read_offsets[follower] = after.offset
        try:
            while True:
                at = max(self._read_offsets[follower] + 1, self._next_offset - len(self._records))
                if at < self._next_offset:
                    yield self._records[at - self._next_offset][0]
                    self._read_offsets[follower] = at
                else:
                    self._appended.clear()
                    await self._appended.wait()
        finally:
            del self._read_offsets[follower]

    async def check(self) -> None:
        """Raise Unavailable when there is no room for the smallest item."""
        self._make_room(ITEM_BYTES)

    def _make_room(self, size: int) -> None:
        read = min(self._read_offsets.values(), default=self._next_offset)
        while self._records and self._held_bytes + size > self._capacity_bytes:
            record, record_size = self._records[0]
            if record.offset > read:
                raise Unavailable("journal_full", "the journal is full: its reader has fallen behind")
            self._records.popleft()
            self._held_bytes -= record_size


def _chunks(items: Sequence[Item]) -> Sequence[tuple[tuple[Item, ...], int]]:
    """What goes into a record each, and its size."""
    sizes = list(map(size_of, items))
    chunks: list[tuple[tuple[Item, ...], int]] = []
    start = total = 0
    for at, size in enumerate(sizes):
        if at > start and (at - start == MAX_RECORD_ITEMS or total + size > MAX_RECORD_BYTES):
            chunks.append((tuple(items[start:at]), total))
            start, total = at, 0
        total += size
    if items:
        chunks.append((tuple(items[start:]), total))
    return chunks


_: type[Journal] = MemoryJournal
