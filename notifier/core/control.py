"""What replicas tell each other beside notifications, such as that a token is revoked: one record after the other.

A record has a kind, and who knows the kind reads it. It knows neither what the kinds mean nor what carries the records.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple, Protocol

from notifier.core.errors import Unavailable
from notifier.core.patience import within
from notifier.core.pipeline import SLICE_SECONDS

log: Final = logging.getLogger(__name__)
MARKER: Final = "marker"
TICK: Final = "tick"
CATCH_UP_SECONDS: Final = 5.0


class ControlRecord(NamedTuple):
    """Something to be known by every replica. `fields`: JSON values, as the kind has them."""

    kind: str
    fields: Mapping[str, object] = {}


class ControlLog(Protocol):
    """Carries control records to every replica, this one included."""

    @property
    def is_durable(self) -> bool:
        """Whether a replica that starts reads what was appended before."""

    async def append(self, records: Sequence[ControlRecord]) -> None:
        """Return when the log has the records. Raises Unavailable when it does not take them, or nobody knows."""

    def follow(self) -> AsyncGenerator[ControlRecord, None]:
        """Yield every record that may still count, from the oldest on, and wait for more without end.

        One may come more than once, as after a broken connection.
        """


Reader = Callable[[Mapping[str, object]], None]
"""Takes in the fields of a record, and raises ValueError for what is none. One that comes again must do no harm."""


class Control:
    """Appends control records, and hands those that come back to who knows their kind."""

    def __init__(
        self,
        control_log: ControlLog,
        *,
        publish_timeout_seconds: float = 3.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = control_log
        self._publish_timeout_seconds = publish_timeout_seconds
        self._monotonic = monotonic
        # A tick says nothing, and a marker something to its writer alone.
        self._readers: dict[str, Reader] = {MARKER: self._read_marker, TICK: lambda _: None}
        self._markers: dict[object, asyncio.Future[None]] = {}  # By nonce, of those that are under way.
        self.skipped = 0  # Records of kinds that nobody here knows, or that say nothing that can be read.
        self.has_caught_up = False  # What is read before was told before this replica began.

    @property
    def is_durable(self) -> bool:
        """Whether what is told is still known after a restart."""
        return self._log.is_durable

    def on(self, kind: str, read: Reader) -> None:
        """Have records of this kind read so."""
        self._readers[kind] = read

    async def tell(self, record: ControlRecord) -> None:
        """Return when every replica will read the record, and this one has. Raises Unavailable.

        It is read here at once, and again when it comes back: whoever was told that it is done must find it so.
        """
        await self._append(record)
        self._read(record)

    async def follow_control(self) -> None:
        """Read what comes. Never returns."""
        slice_ends = 0.0
        async with aclosing(self._log.follow()) as records:
            async for record in records:
                self._read(record)
                if self._monotonic() >= slice_ends:
                    await asyncio.sleep(0)  # What was kept for a day must not hold the event loop.
                    slice_ends = self._monotonic() + SLICE_SECONDS

    async def catch_up(self) -> None:
        """Return once everything that the log has now was read. Raises Unavailable when that is not to be had."""
        nonce = secrets.token_hex(8)
        returned = self._markers[nonce] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                await self._append(ControlRecord(MARKER, {"nonce": nonce}))
                await returned
        except TimeoutError:
            raise Unavailable("journal_unavailable", "the control records were not read to their end in time") from None
        finally:
            del self._markers[nonce]
        self.has_caught_up = True

    async def _append(self, record: ControlRecord) -> None:
        try:
            await within(self._publish_timeout_seconds, self._log.append([record]))
        except TimeoutError:
            raise Unavailable("journal_unavailable", "the broker did not confirm in time") from None

    def _read(self, record: ControlRecord) -> None:
        read = self._readers.get(record.kind)
        if read is None:
            self.skipped += 1  # Of a newer replica.
            return
        try:
            read(record.fields)
        except ValueError as error:
            self.skipped += 1
            log.error("control record skipped", extra={"kind": record.kind, "reason": str(error)})

    def _read_marker(self, fields: Mapping[str, object]) -> None:
        returned = self._markers.get(fields.get("nonce"))
        if returned is not None and not returned.done():
            returned.set_result(None)
