"""What waits to be appended: gathered into one record at a time, bounded, and let go of when its sender gives up."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from notifier.core.errors import Unavailable
from notifier.core.ports import Item
from notifier.journal.record import MAX_RECORD_BYTES, MAX_RECORD_ITEMS, Tick, size_of

ROOM_BYTES: Final = 16 * 1024 * 1024
Entry = TypeVar("Entry")


@dataclass(slots=True, eq=False)
class _Append(Generic[Entry]):
    """The items of one call, and the future that its caller waits for."""

    waiting: deque[Entry]
    unconfirmed: int
    done: asyncio.Future[None]


Batch = list[tuple[_Append[Entry], Entry]]


class Appends(Generic[Entry]):
    """Calls in the order in which they came. `size_of`: about an item's bytes; `room_bytes` bounds what waits."""

    def __init__(self, size_of: Callable[[Entry], int], *, room_bytes: int = ROOM_BYTES) -> None:
        self._size_of = size_of
        self._room_bytes = room_bytes
        self._calls: deque[_Append[Entry]] = deque()
        self._taken: Batch[Entry] = []  # And neither confirmed nor refused yet.
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()

    async def append(self, items: Sequence[Entry]) -> None:
        """Return when all of the items were confirmed. Raises Unavailable when one was refused, or none fits."""
        if not items:
            return
        size = sum(map(self._size_of, items))
        if self._waiting_bytes and self._waiting_bytes + size > self._room_bytes:
            raise Unavailable("journal_full", "more waits for the journal than it takes")
        call = _Append(deque(items), len(items), asyncio.get_running_loop().create_future())
        self._calls.append(call)
        self._waiting_bytes += size
        self._arrived.set()
        try:
            await call.done
        finally:
            self._drop(call)

    async def take(self) -> Batch[Entry]:
        """Wait for items, and return as many as fit into a record."""
        while not (batch := self._gather()):
            self._arrived.clear()
            await self._arrived.wait()
        self._taken = batch
        return batch

    def _gather(self) -> Batch[Entry]:
        batch: Batch[Entry] = []
        room_bytes = MAX_RECORD_BYTES
        while self._calls and len(batch) < MAX_RECORD_ITEMS:
            call = self._calls[0]
            if call.done.done():
                self._drop(call)  # Before its sender, who has given up, comes to it.
            if not call.waiting:
                self._calls.popleft()
                continue
            size = self._size_of(call.waiting[0])
            if batch and size > room_bytes:
                break
            room_bytes -= size
            self._waiting_bytes -= size
            batch.append((call, call.waiting.popleft()))
        return batch

    def confirm(self, batch: Batch[Entry]) -> None:
        """The journal has these items."""
        self._taken = []
        for call, _ in batch:
            call.unconfirmed -= 1
            if call.unconfirmed == 0 and not call.done.done():
                call.done.set_result(None)

    def refuse(self, batch: Batch[Entry], error: Unavailable) -> None:
        """The journal did not take these items, or nobody knows; the rest of their calls is not tried either."""
        self._taken = []
        for call, _ in batch:
            self._fail(call, error)

    def refuse_all(self, error: Unavailable) -> None:
        """Nothing is taken now: tell everybody, also those whose items are on their way."""
        for call in [*(call for call, _ in self._taken), *self._calls]:
            self._fail(call, error)

    def _fail(self, call: _Append[Entry], error: Unavailable) -> None:
        self._drop(call)
        if not call.done.done():
            call.done.set_exception(error)

    def _drop(self, call: _Append[Entry]) -> None:
        """Send no more of a call: that would be news to nobody but a caller that was told 503."""
        self._waiting_bytes -= sum(map(self._size_of, call.waiting))
        call.waiting.clear()


def weight_of(item: Item | Tick) -> int:
    """About the bytes that an item of the journal takes; ticks always find room."""
    return 0 if isinstance(item, Tick) else size_of(item)
