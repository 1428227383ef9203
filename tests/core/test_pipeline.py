"""The one way through: into the journal, back from it, into the window and to the sessions."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from notifier.core.audience import EVERYONE
from notifier.core.envelope import Envelope, Position
from notifier.core.errors import IdempotencyKeyReused, NotifierError, TooLarge, Unavailable
from notifier.core.hub import Hub, Watch
from notifier.core.idempotency import SeenKeys
from notifier.core.notification import IdempotencyKey, Notification
from notifier.core.pipeline import Pipeline, Receipt, Request
from notifier.core.ports import CloseReason, Item, Journal, Marker, Record, Unknown
from notifier.core.session import Session
from notifier.core.window import Window
from notifier.journal.memory import MemoryJournal
from tests.core.builders import ACME, OTHER, at, audience, envelope, identity, notification, user
from tests.core.fakes import BoundedOutlet, HandClock, PlainFrames

DEADLINE_SECONDS = 20.0
SHORT_SECONDS = 0.05
KEY = IdempotencyKey("issuer", "caller", "key")


class SilentJournal:
    """Never confirms: what a broker looks like that is blocked."""

    async def append(self, items: Sequence[Item]) -> None:
        await asyncio.Event().wait()

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        await asyncio.Event().wait()
        yield Record("", 0, ())

    async def check(self) -> None: ...


class WrittenJournal(SilentJournal):
    """Holds these records, and then nothing more."""

    def __init__(self, *records: Record) -> None:
        self._records = records

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        for record in self._records:
            yield record
        await asyncio.Event().wait()


_: tuple[type[Journal], ...] = (SilentJournal, WrittenJournal)


class Replica:
    """A pipeline over a journal, with a window, a hub and a clock moved by hand; a record takes it `read_seconds`."""

    def __init__(
        self,
        journal: Journal | None = None,
        *,
        timeout_seconds: float = DEADLINE_SECONDS,
        read_seconds: float = 1.0,
        watch: Watch | None = None,
    ) -> None:
        self.clock = HandClock()
        self.journal = journal or MemoryJournal(epoch="e")
        self.window = Window(at(0), opened_at_ms=0)
        self.hub = Hub(self.window, PlainFrames(), watch=watch, clock=self.clock, monotonic=count().__next__)
        self.pipeline = Pipeline(
            self.journal,
            self.window,
            self.hub,
            SeenKeys(span_seconds=600),
            publish_timeout_seconds=timeout_seconds,
            readback_timeout_seconds=timeout_seconds,
            ahead_timeout_seconds=timeout_seconds,
            clock=self.clock,
            monotonic=count(1, read_seconds).__next__,
        )

    @asynccontextmanager
    async def following(self) -> AsyncGenerator[None]:
        """Read the journal meanwhile."""
        task = asyncio.create_task(self.pipeline.follow_journal())
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def send_batch(self, requests: Sequence[Request]) -> list[Receipt | NotifierError]:
        """Seal and append, as the batch door does."""
        return await self.pipeline.append_sealed(self.pipeline.seal_batch(requests))

    async def has_caught_up(self) -> None:
        """Wait until all that the journal has was read."""
        await self.pipeline.send_notification(Request(notification(user("nobody")), IdempotencyKey("", "", "last")))

    async def has_read(self, position: Position) -> set[int]:
        """Wait until the tail is there. Returns the offsets at which it was seen on the way."""
        seen: set[int] = set()
        for _ in range(100_000):
            seen.add(self.window.tail.offset)
            if self.window.tail == position:
                return seen
            await asyncio.sleep(0)
        raise AssertionError(f"the tail is {self.window.tail}, not {position}")

    def listen(self, name: str = "alice") -> BoundedOutlet:
        outlet = BoundedOutlet()
        self.hub.register(Session(name, identity(name), (), outlet), None)
        return outlet


def delivered(outlet: BoundedOutlet) -> list[str]:
    return [frame.envelope.id for frame in outlet.written if frame.envelope]


def keyed(title: str = "Hello", *, key: IdempotencyKey = KEY, ttl_seconds: int = 3600) -> Request:
    return Request(notification(title=title, ttl_seconds=ttl_seconds), key)


def large() -> Notification:
    return Notification(ACME, audience(), "greeting", body="x" * 70_000)


# -- in --------------------------------------------------------------------------------------------------------------


async def test_what_is_sent_comes_back_and_is_delivered_in_its_order() -> None:
    replica = Replica()
    outlet = replica.listen()
    async with replica.following():
        receipts = [await replica.pipeline.send_notification(Request(notification())) for _ in range(5)]
        await replica.has_caught_up()

    assert delivered(outlet)[:5] == [receipt.id for receipt in receipts]
    assert receipts[0] == Receipt(receipts[0].id, ACME, 1_000_000)


async def test_a_batch_has_an_outcome_for_each_and_what_is_wrong_with_one_does_not_stop_the_others() -> None:
    replica = Replica()
    outlet = replica.listen()
    async with replica.following():
        first, refused, last = await replica.send_batch(
            [Request(notification()), Request(large()), Request(notification())]
        )
        await replica.has_caught_up()

    assert isinstance(refused, TooLarge)
    assert isinstance(first, Receipt)
    assert isinstance(last, Receipt)
    assert delivered(outlet)[:2] == [first.id, last.id]
    assert replica.pipeline.accepted == 3  # With the one that has_caught_up sends.


async def test_what_is_wrong_with_one_is_raised() -> None:
    with pytest.raises(TooLarge):
        await Replica().pipeline.send_notification(Request(large()))


async def test_a_repeat_is_answered_with_the_winners_id_and_delivered_once() -> None:
    replica = Replica()
    outlet = replica.listen()
    async with replica.following():
        first = await replica.pipeline.send_notification(keyed())
        replica.clock.now += 5
        again = await replica.pipeline.send_notification(keyed())

    assert not first.is_replay
    assert again == Receipt(first.id, ACME, first.accepted_at_ms, is_replay=True)
    assert delivered(outlet) == [first.id]
    assert (len(replica.window), replica.pipeline.repeats) == (1, 1)


async def test_the_same_key_with_other_content_is_refused_and_not_delivered() -> None:
    replica = Replica()
    outlet = replica.listen()
    async with replica.following():
        first = await replica.pipeline.send_notification(keyed("one"))
        with pytest.raises(IdempotencyKeyReused):
            await replica.pipeline.send_notification(keyed("other"))

    assert delivered(outlet) == [first.id]


async def test_the_same_key_in_another_tenant_or_of_another_caller_is_another_key() -> None:
    replica = Replica()
    others = [
        Request(notification(tenant=OTHER), KEY),
        keyed(key=IdempotencyKey("issuer", "other", "key")),
        keyed(key=IdempotencyKey("other", "caller", "key")),
    ]
    async with replica.following():
        await replica.pipeline.send_notification(keyed())
        outcomes = [await replica.pipeline.send_notification(other) for other in others]

    assert [outcome.is_replay for outcome in outcomes] == [False] * 3


async def test_two_requests_with_one_key_at_the_same_time_get_one_id() -> None:
    replica = Replica()
    outlet = replica.listen()
    async with replica.following():
        one, other = await asyncio.gather(
            replica.pipeline.send_notification(keyed()), replica.pipeline.send_notification(keyed())
        )

    assert one.id == other.id
    assert sorted([one.is_replay, other.is_replay]) == [False, True]
    assert delivered(outlet) == [one.id]


async def test_one_key_twice_in_a_batch_is_one_notification() -> None:
    replica = Replica()
    outlet = replica.listen()
    async with replica.following():
        first, repeat, reused = await replica.send_batch([keyed(), keyed(), keyed("other")])

    assert isinstance(first, Receipt)
    assert repeat == Receipt(first.id, ACME, first.accepted_at_ms, is_replay=True)
    assert isinstance(reused, IdempotencyKeyReused)
    assert delivered(outlet) == [first.id]


async def test_two_replicas_of_one_journal_decide_alike() -> None:
    journal = MemoryJournal(epoch="e")
    one, other = Replica(journal), Replica(journal)
    outlets = [one.listen(), other.listen()]
    async with one.following(), other.following():
        receipts = await asyncio.gather(
            *[replica.pipeline.send_notification(keyed()) for replica in (one, other, one, other)]
        )
        await other.has_caught_up()

    assert len({receipt.id for receipt in receipts}) == 1
    assert delivered(outlets[0])[:1] == delivered(outlets[1])[:1] == [receipts[0].id]


async def test_a_journal_that_does_not_confirm_in_time_is_unavailable() -> None:
    replica = Replica(SilentJournal(), timeout_seconds=SHORT_SECONDS)

    with pytest.raises(Unavailable) as refused:
        await replica.pipeline.send_notification(Request(notification()))

    assert refused.value.code == "journal_unavailable"
    assert replica.pipeline.accepted == 0


async def test_a_keyed_item_that_is_not_read_back_in_time_is_unavailable_and_its_retry_finds_it() -> None:
    replica = Replica(timeout_seconds=SHORT_SECONDS)
    with pytest.raises(Unavailable) as refused:
        await replica.pipeline.send_notification(keyed())
    reader = Replica(replica.journal)
    async with reader.following():
        retried = await reader.pipeline.send_notification(keyed())

    assert refused.value.code == "journal_unavailable"
    assert retried.is_replay


async def test_an_item_without_a_key_waits_for_the_journal_alone() -> None:
    receipt = await Replica(timeout_seconds=DEADLINE_SECONDS).pipeline.send_notification(Request(notification()))

    assert not receipt.is_replay


# -- out -------------------------------------------------------------------------------------------------------------


async def test_what_has_expired_when_it_is_read_is_for_nobody() -> None:
    replica = Replica()
    outlet = replica.listen()
    await replica.send_batch([Request(notification(ttl_seconds=5)), Request(notification(ttl_seconds=60))])
    replica.clock.now += 5

    async with replica.following():
        await replica.has_caught_up()

    assert len(delivered(outlet)) == len(replica.window) - 1 == 1
    assert replica.pipeline.dropped == 1


@pytest.mark.parametrize(("late_seconds", "expected"), [(0.0, 1), (9.9, 1), (10.0, 0)])
async def test_ttl_0_is_for_those_present_within_ten_seconds_and_never_in_the_window(
    late_seconds: float, expected: int
) -> None:
    replica = Replica()
    outlet = replica.listen()
    await replica.pipeline.send_notification(Request(notification(ttl_seconds=0)))
    replica.clock.now += late_seconds

    async with replica.following():
        await replica.has_caught_up()

    assert len(delivered(outlet)) == expected
    assert replica.window.count(ACME, [EVERYONE], 0, now_ms=0) == 0
    assert replica.window.tail == at(2)


async def test_every_item_has_its_index_before_any_filter() -> None:
    """Repeats, the expired, ttl 0, markers and kinds of a newer version all count."""
    repeat = envelope(key_digest=b"k" * 16, content_digest=b"c" * 16)
    items: list[Envelope | Marker | Unknown] = [
        repeat,
        repeat,
        envelope(expires_at_ms=1),
        Unknown(200),
        envelope(live_only=True, accepted_at_ms=1_000_000, name="live"),
        Marker("m"),
        envelope(name="last"),
        Unknown(3),
    ]
    replica = Replica(WrittenJournal(Record("e", 1, tuple(items))))
    outlet = replica.listen()
    async with replica.following():
        await replica.has_read(at(1, 7))

    told = [(frame.envelope.id, frame.position) for frame in outlet.written if frame.envelope]
    assert told == [(repeat.id, at(1, 0)), ("live", at(1, 4)), ("last", at(1, 6))]
    assert replica.window.tail == at(1, 7)


async def test_a_backlog_of_records_does_not_hold_the_event_loop() -> None:
    replica = Replica(WrittenJournal(*[Record("e", offset, (envelope(),)) for offset in range(1, 101)]))
    async with replica.following():
        seen = await replica.has_read(at(100))

    assert len(seen) > 50


async def test_records_that_take_no_time_are_read_many_in_one_turn() -> None:
    """Else a follower lags behind whoever appends more than one in a turn, until the journal is full."""
    replica = Replica(WrittenJournal(*[Record("e", offset, (envelope(),)) for offset in range(1, 101)]), read_seconds=0)
    async with replica.following():
        seen = await replica.has_read(at(100))

    assert len(seen) < 5


# -- positions ahead -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", [at(0), at(1)])
async def test_a_position_that_was_read_is_not_waited_for(position: Position) -> None:
    """Nothing is appended for it: the journal would never confirm."""
    replica = Replica(SilentJournal(), timeout_seconds=DEADLINE_SECONDS)
    replica.window.advance(at(1))

    assert await replica.pipeline.has_read(position)


async def test_a_position_that_the_journal_has_is_waited_for() -> None:
    replica = Replica()
    await replica.journal.append([envelope(), envelope()])
    async with replica.following():
        assert await replica.pipeline.has_read(at(1, 1))

    assert replica.window.tail >= at(1, 1)


async def test_a_position_that_a_marker_overtakes_was_never_given() -> None:
    replica = Replica()
    async with replica.following():
        assert not await replica.pipeline.has_read(at(50))


async def test_a_position_of_another_epoch_is_not_judged_before_the_journal_was_read_to_its_end() -> None:
    """The epoch may have changed, and this replica not have heard of it yet."""
    replica = Replica()
    async with replica.following():
        assert not await replica.pipeline.has_read(at(9, epoch="other"))


@pytest.mark.parametrize("position", [at(50), at(1, epoch="other")])
async def test_an_unreachable_journal_says_nothing_about_a_position_ahead(position: Position) -> None:
    with pytest.raises(Unavailable):
        await Replica(SilentJournal(), timeout_seconds=SHORT_SECONDS).pipeline.has_read(position)


async def test_those_who_wait_for_a_position_share_one_marker() -> None:
    """Ten thousand clients that come back with a position of another epoch must not cost ten thousand records."""
    replica = Replica()
    async with replica.following():
        await asyncio.gather(*[replica.pipeline.has_read(at(50)) for _ in range(100)])
        assert await replica.pipeline.has_read(replica.window.tail)

    assert replica.window.tail.offset <= 2


async def test_a_replica_that_does_not_read_on_says_nothing_about_a_position_ahead() -> None:
    """A reset would be a lie: the position may well be good."""
    with pytest.raises(Unavailable):
        await Replica(timeout_seconds=SHORT_SECONDS).pipeline.has_read(at(50))


async def test_catching_up_means_that_all_was_read_that_the_journal_had() -> None:
    replica = Replica()
    await replica.journal.append([envelope(name=f"n{number}") for number in range(5)])
    async with replica.following():
        await replica.pipeline.catch_up()

        assert len(replica.window) == 5


@pytest.mark.parametrize("journal", [MemoryJournal(), SilentJournal()], ids=["not read", "not appended"])
async def test_a_replica_that_cannot_catch_up_says_so(journal: Journal) -> None:
    with pytest.raises(Unavailable):
        await Replica(journal, timeout_seconds=SHORT_SECONDS).pipeline.catch_up()


# -- gaps and other streams ------------------------------------------------------------------------------------------


class FedJournal(SilentJournal):
    """Holds what it is fed, as it comes."""

    def __init__(self) -> None:
        self._records: asyncio.Queue[Record] = asyncio.Queue()

    def feed(self, *records: Record) -> None:
        for record in records:
            self._records.put_nowait(record)

    async def follow(self, after: Position) -> AsyncGenerator[Record, None]:
        while True:
            yield await self._records.get()


def record_of(offset: int, *names: str, epoch: str = "e", follows_gap: bool = False) -> Record:
    return Record(epoch, offset, tuple(envelope(name=name) for name in names), follows_gap)


@pytest.mark.parametrize(
    ("behind", "reason"),
    [
        (record_of(7, "n7", follows_gap=True), "window_passed"),
        (record_of(7, "n7", epoch="other"), "epoch_changed"),
        (record_of(1, "n7", epoch="other", follows_gap=True), "epoch_changed"),
    ],
    ids=["a gap", "another epoch", "another stream"],
)
async def test_a_break_in_the_journal_sends_everybody_away_before_anything_behind_it(
    behind: Record, reason: str
) -> None:
    journal = FedJournal()
    replica = Replica(journal)
    outlet = replica.listen()
    async with replica.following():
        journal.feed(record_of(1, "n1"))
        await replica.has_read(at(1))
        journal.feed(behind)
        await replica.has_read(Position(behind.epoch, behind.offset, 0))

    assert delivered(outlet) == ["n1"]
    assert outlet.closed is CloseReason.FELL_BEHIND
    resume = replica.hub.register(Session("s", identity(), (), BoundedOutlet()), str(at(1)))
    assert (resume.status, resume.reason) == ("reset", reason)


async def test_behind_a_break_a_session_can_resume_again() -> None:
    journal = FedJournal()
    replica = Replica(journal)
    async with replica.following():
        journal.feed(record_of(1, "n1"), record_of(7, "n7", follows_gap=True), record_of(8, "n8"))
        await replica.has_read(at(8))
    before_gap, after_gap = Position.before_record("e", 7), at(7)

    resumes = [
        replica.hub.register(Session(str(position), identity(), (), BoundedOutlet()), str(position))
        for position in (before_gap, after_gap)
    ]

    assert [(resume.status, resume.replayed) for resume in resumes] == [("resumed", 2), ("resumed", 1)]


async def test_the_window_of_a_new_replica_begins_with_the_first_record_that_it_reads() -> None:
    """It begins in no epoch: the first record says which one it is."""
    journal = FedJournal()
    replica = Replica(journal)
    replica.window.cut(Position("", 0, 0), opened_at_ms=0)
    async with replica.following():
        journal.feed(record_of(5, "n5"), record_of(6, "n6"))
        await replica.has_read(at(6))

    assert len(replica.window) == 2
    assert replica.window.start == Position.before_record("e", 5)


@pytest.mark.parametrize(
    ("behind", "is_repeat"),
    [({"epoch": "e"}, True), ({"epoch": "e", "follows_gap": True}, True), ({"epoch": "other"}, False)],
    ids=["no break", "a gap", "another epoch"],
)
async def test_keys_are_remembered_over_a_gap_but_not_into_another_epoch(
    behind: dict[str, Any], is_repeat: bool
) -> None:
    """Replicas that read another stream from its beginning know nothing of the keys in the old."""
    journal = FedJournal()
    replica = Replica(journal)
    items = tuple(envelope(name=name, key_digest=b"k" * 16, content_digest=b"c" * 16) for name in ("n1", "n2"))
    async with replica.following():
        journal.feed(Record("e", 1, items[:1]), Record(offset=7, items=items[1:], **behind))
        await replica.has_read(Position(behind["epoch"], 7, 0))

    assert (replica.window.find(items[1].tenant, "n2") is None) == is_repeat


# -- appended, and decided later -------------------------------------------------------------------------------------


def sealed(replica: Replica, *requests: Request) -> list[Envelope]:
    return [item for item in replica.pipeline.seal_batch(requests) if isinstance(item, Envelope)]


async def test_an_append_returns_before_the_order_of_the_journal_has_decided() -> None:
    replica = Replica()
    envelopes = sealed(replica, keyed("one"), Request(notification()), keyed("one"), keyed("other"))
    appended = await replica.pipeline.append_batch(envelopes)
    nothing_read = replica.window.tail
    async with replica.following():
        first, plain, repeat, reused = await appended.outcomes()

    assert nothing_read == at(0)
    assert first == Receipt(envelopes[0].id, ACME, 1_000_000)
    assert plain == Receipt(envelopes[1].id, ACME, 1_000_000)
    assert repeat == Receipt(envelopes[0].id, ACME, 1_000_000, is_replay=True)
    assert isinstance(reused, IdempotencyKeyReused)
    assert replica.pipeline.accepted == 4


async def test_outcomes_that_are_not_read_back_in_time_are_unavailable() -> None:
    replica = Replica(timeout_seconds=SHORT_SECONDS)
    appended = await replica.pipeline.append_batch(sealed(replica, keyed()))

    with pytest.raises(Unavailable):
        await appended.outcomes()


async def test_outcomes_that_nobody_wants_are_not_waited_for() -> None:
    replica = Replica()
    outlet = replica.listen()
    (written,) = sealed(replica, keyed())
    (await replica.pipeline.append_batch([written])).abandon()
    async with replica.following():
        await replica.has_caught_up()

    assert delivered(outlet)[:1] == [written.id]


async def test_the_same_batch_once_more_is_a_repeat_of_its_keyed_ones_only() -> None:
    """The queue door appends again what it does not know to be in the journal; clients know the ids."""
    replica = Replica()
    outlet = replica.listen()
    envelopes = sealed(replica, keyed(), Request(notification()))
    async with replica.following():
        first = await (await replica.pipeline.append_batch(envelopes)).outcomes()
        again = await (await replica.pipeline.append_batch(envelopes)).outcomes()

    ids = [envelope.id for envelope in envelopes]
    assert [outcome.id for outcome in [*first, *again] if isinstance(outcome, Receipt)] == ids * 2
    assert delivered(outlet) == [*ids, ids[1]]


async def test_a_batch_that_the_journal_does_not_take_is_not_counted() -> None:
    replica = Replica(SilentJournal(), timeout_seconds=SHORT_SECONDS)

    with pytest.raises(Unavailable):
        await replica.pipeline.append_batch(sealed(replica, keyed(), Request(notification())))

    assert replica.pipeline.accepted == 0
