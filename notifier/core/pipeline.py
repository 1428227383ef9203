"""The one way through: a notification is appended to the journal, read back from it, and delivered.

It knows neither which journal it is nor which door the notification came through.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Final, NamedTuple

from notifier.core.durations import Durations
from notifier.core.envelope import Envelope, Position, Trace
from notifier.core.errors import IdempotencyKeyReused, NotifierError, Unavailable
from notifier.core.hub import Batch, Hub
from notifier.core.idempotency import FirstUse, SeenKeys
from notifier.core.identity import CANARY_TENANT, Tenant
from notifier.core.notification import IdempotencyKey, Notification, new_ids, seal
from notifier.core.patience import within
from notifier.core.ports import Item, Journal, Marker, Record
from notifier.core.window import Entry, Window

SLICE_SECONDS: Final = 0.002  # One record a turn would be too few: in one turn many senders append one each.
LIVE_ONLY_MS: Final = 10_000
"""A notification with ttl 0 that is read later than this after its acceptance is for nobody."""


class Request(NamedTuple):
    """A notification that a door has let in, with the key that makes a retry harmless, if the caller gave one.

    `trace`: its place in the caller's trace, where that is recorded.
    """

    notification: Notification
    key: IdempotencyKey | None = None
    trace: Trace | None = None


class Receipt(NamedTuple):
    """The journal has the notification. `is_replay`: it had it already, from an earlier request with the same key."""

    id: str
    tenant: Tenant
    accepted_at_ms: int
    is_replay: bool = False


class Pipeline:
    """Takes notifications in at one end, and follows the journal at the other.

    Args:
        publish_timeout_seconds: an append that takes longer is an Unavailable.
        readback_timeout_seconds: a keyed item, or a marker, that is not read back in time is an Unavailable.
    """

    def __init__(
        self,
        journal: Journal,
        window: Window,
        hub: Hub,
        seen_keys: SeenKeys,
        *,
        publish_timeout_seconds: float = 3.0,
        readback_timeout_seconds: float = 0.8,
        ahead_timeout_seconds: float = 5.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._window = window
        self._hub = hub
        self._seen_keys = seen_keys
        self._publish_timeout_seconds = publish_timeout_seconds
        self._readback_timeout_seconds = readback_timeout_seconds
        self._ahead_timeout_seconds = ahead_timeout_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._awaited: dict[str, asyncio.Future[FirstUse | None]] = {}  # by id of the item that is to be read back
        self._marking: asyncio.Task[None] | None = None  # Brings the next marker there and back, for all who wait.
        self.accepted = 0
        self._has_caught_up = False  # Has read all that was in the journal when it came.
        self.append_durations = Durations()
        self.appends_refused = 0
        self.lag = Durations()  # Of each record: from the acceptance of its first notification until it was read.
        self.repeats = 0
        self.dropped = 0  # Read too late to be for anybody.

    # -- in ------------------------------------------------------------------------------------------------------

    async def send_notification(self, request: Request) -> Receipt:
        """Return once the journal has the notification. Raises what is wrong with it, or Unavailable."""
        (outcome,) = await self.append_sealed(self.seal_batch([request]))
        if isinstance(outcome, NotifierError):
            raise outcome
        return outcome

    async def append_sealed(self, sealed: Sequence[Envelope | NotifierError]) -> list[Receipt | NotifierError]:
        """Append what could be sealed, in its order, and give each its outcome. Raises Unavailable for all of them."""
        appended = await self.append_batch([item for item in sealed if isinstance(item, Envelope)])
        receipts = iter(await appended.outcomes())
        return [item if isinstance(item, NotifierError) else next(receipts) for item in sealed]

    def seal_batch(self, requests: Sequence[Request | NotifierError]) -> list[Envelope | NotifierError]:
        """Seal each notification, or say what is wrong with it: for some, their door has said so already."""
        accepted_at_ms = self._now_ms()
        ids = new_ids(accepted_at_ms, len(requests))
        return [_try_seal(*each, accepted_at_ms) for each in zip(requests, ids, strict=True)]

    async def append_batch(self, envelopes: Sequence[Envelope]) -> "Appended":
        """Append the envelopes in their order; whether the keyed ones are repeats is known a little later.

        Raises Unavailable for all of them. To append the same ones again is harmless: clients know their ids.
        """
        keyed = [envelope.id for envelope in envelopes if envelope.key_digest is not None]
        for item_id in keyed:
            self._awaited[item_id] = asyncio.get_running_loop().create_future()
        try:
            await self._append(envelopes)
        except BaseException:
            self._forget(keyed)
            raise
        self.accepted += len(envelopes)
        return Appended(self, envelopes, keyed)

    async def has_read(self, position: Position) -> bool:
        """Wait until this replica has read as far as a position it has not reached yet.

        False when even a marker appended now comes back first: nobody can have been given that position. Raises
        Unavailable when neither comes in time, since then nothing is known about the position.
        """
        if self._is_behind_tail(position):
            return True
        try:
            async with asyncio.timeout(self._ahead_timeout_seconds):
                await self._marker_back()
        except (TimeoutError, Unavailable):
            if not self._is_behind_tail(position):
                raise Unavailable("journal_unavailable", "this replica did not read on in time") from None
        return self._is_behind_tail(position)

    async def catch_up(self) -> None:
        """Return once everything that the journal has now was read. Raises Unavailable when that is not to be had."""
        try:
            async with asyncio.timeout(self._ahead_timeout_seconds):
                await self._marker_back()
        except TimeoutError:
            raise Unavailable("journal_unavailable", "the journal was not read to its end in time") from None
        self._has_caught_up = True

    def _is_behind_tail(self, position: Position) -> bool:
        tail = self._window.tail
        return position.epoch == tail.epoch and position <= tail

    async def _marker_back(self) -> None:
        """Wait until a marker that is appended from now on was read back; all who wait share the next one."""
        if self._marking is not None:
            await asyncio.wait([self._marking])  # It may have been appended before whoever asks had a reason to.
        if self._marking is None or self._marking.done():
            self._marking = asyncio.create_task(self._bring_marker_back())
            self._marking.add_done_callback(_look_at)
        await asyncio.shield(self._marking)

    async def _bring_marker_back(self) -> None:
        marker = Marker(str(uuid.uuid4()))
        returned = self._awaited[marker.nonce] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._ahead_timeout_seconds):
                await self._append([marker])
                await returned
        finally:
            self._forget([marker.nonce])

    async def _append(self, items: Sequence[Item]) -> None:
        if not items:
            return
        began = time.perf_counter()
        try:
            await within(self._publish_timeout_seconds, self._journal.append(items))
        except Unavailable:
            self.appends_refused += 1
            raise
        except TimeoutError:
            self.appends_refused += 1
            raise Unavailable("journal_unavailable", "the journal did not confirm in time") from None
        self.append_durations.note(time.perf_counter() - began)

    async def _read_back(self, item_ids: Sequence[str]) -> None:
        """Wait until the order of the journal has decided on each keyed item."""
        if not item_ids:
            return
        try:
            async with asyncio.timeout(self._readback_timeout_seconds):
                for item_id in item_ids:
                    await self._awaited[item_id]
        except TimeoutError:
            detail = "the notification was not read back from the journal in time; a retry with its key is harmless"
            raise Unavailable("journal_unavailable", detail, retry_after=timedelta(seconds=1)) from None

    def _forget(self, item_ids: Sequence[str]) -> None:
        for item_id in item_ids:
            self._awaited.pop(item_id).cancel()

    def _outcome(self, envelope: Envelope) -> Receipt | NotifierError:
        first = None if envelope.key_digest is None else self._awaited[envelope.id].result()
        if first is None:
            return Receipt(envelope.id, envelope.tenant, envelope.accepted_at_ms)
        if first.content_digest != envelope.content_digest:
            detail = "this idempotency key was used for a notification with other content"
            return IdempotencyKeyReused("idempotency_key_reused", detail)
        return Receipt(first.id, envelope.tenant, first.accepted_at_ms, is_replay=True)

    # -- out -----------------------------------------------------------------------------------------------------

    async def follow_journal(self) -> None:
        """Read the journal from the tail of the window on, and deliver. Never returns."""
        slice_ends = 0.0
        async with aclosing(self._journal.follow(self._window.tail)) as records:
            async for record in records:
                self._read(record)
                if self._monotonic() >= slice_ends:
                    await asyncio.sleep(0)  # A backlog of records must not hold the event loop.
                    slice_ends = self._monotonic() + SLICE_SECONDS

    def _read(self, record: Record) -> None:
        """Take in one record in one turn of the event loop: window first, since whoever falls behind reads it."""
        if record.follows_gap or record.epoch != self._window.tail.epoch:
            self._cut_before(record)
        before, now_ms = self._window.tail, self._now_ms()
        entries: list[Entry] = []
        for index, item in enumerate(record.items):
            if isinstance(item, Envelope) and self._is_deliverable(item, now_ms):
                position = Position(record.epoch, record.offset, index)
                entries.append(Entry(position, item) if item.live_only else self._window.append(position, item))
            elif isinstance(item, Marker):
                self._settle(item.nonce, None)
        if record.items:
            self._window.advance(Position(record.epoch, record.offset, len(record.items) - 1))
        if self._is_in_service():
            if entries and entries[0].envelope.tenant != CANARY_TENANT:
                self.lag.note((now_ms - entries[0].envelope.accepted_at_ms) / 1000)
            self._hub.deliver(Batch(before, entries))

    def _is_in_service(self) -> bool:
        """Else what is read is older than this replica: others have delivered, counted and traced it."""
        return self._has_caught_up or len(self._hub) > 0

    def _cut_before(self, record: Record) -> None:
        if record.epoch != self._window.tail.epoch:
            self._seen_keys.clear()  # The order that decided on them is another one.
        self._hub.cut(Position.before_record(record.epoch, record.offset))

    def _is_deliverable(self, envelope: Envelope, now_ms: int) -> bool:
        if envelope.key_digest is not None and self._is_repeat(envelope):
            return False
        ends_at_ms = envelope.accepted_at_ms + LIVE_ONLY_MS if envelope.live_only else envelope.expires_at_ms
        if ends_at_ms <= now_ms:
            if envelope.tenant == CANARY_TENANT:
                return True  # One that comes back late tells of a replica that is late, not of one that is dead.
            self.dropped += self._is_in_service()
            return False
        return True

    def _is_repeat(self, envelope: Envelope) -> bool:
        """Let the order of the journal decide on a keyed envelope, and tell who waits for it."""
        first = self._seen_keys.first_use(envelope)
        self._settle(envelope.id, first)
        if first is None:
            return False
        self.repeats += self._is_in_service()
        return True

    def _settle(self, item_id: str, first: FirstUse | None) -> None:
        awaited = self._awaited.get(item_id)
        if awaited is not None and not awaited.done():
            awaited.set_result(first)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


class Appended:
    """Notifications that the journal has, until it is known which of them are repeats."""

    def __init__(self, pipeline: Pipeline, envelopes: Sequence[Envelope], keyed: Sequence[str]) -> None:
        self._pipeline = pipeline
        self._envelopes = envelopes
        self._keyed = keyed

    async def outcomes(self) -> list[Receipt | NotifierError]:
        """Wait for the order of the journal. Raises Unavailable when it is not read in time. Call this or `abandon`."""
        try:
            await self._pipeline._read_back(self._keyed)
            return [self._pipeline._outcome(envelope) for envelope in self._envelopes]
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Do without the outcomes."""
        self._pipeline._forget(self._keyed)


def _look_at(task: asyncio.Task[None]) -> None:
    """Take note of how it ended, also when nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


def _try_seal(request: Request | NotifierError, notification_id: str, accepted_at_ms: int) -> Envelope | NotifierError:
    if isinstance(request, NotifierError):
        return request
    notification, key, trace = request
    try:
        envelope = seal(notification, accepted_at_ms=accepted_at_ms, key=key, notification_id=notification_id)
    except NotifierError as error:
        return error
    return envelope if trace is None else envelope._replace(trace=trace)
