"""The contract of the Journal port, for every journal there is; what holds for one kind only stands at the end."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager

import pytest

from notifier.core.audience import Address, Audience
from notifier.core.envelope import Envelope, Position
from notifier.core.errors import Unavailable
from notifier.core.identity import Tenant
from notifier.core.ports import Item, Journal, Marker, Record
from notifier.journal.memory import MemoryJournal
from tests.contract.conftest import OpenJournal
from tests.journal.builders import envelope

DEADLINE_SECONDS = 20.0
RECORD_LIMIT_ITEMS = 1_000
RECORD_LIMIT_BYTES = 1024 * 1024


def names(items: Sequence[object]) -> list[str]:
    return [item.id if isinstance(item, Envelope) else str(item) for item in items]


def positions_of(records: Sequence[Record]) -> list[Position]:
    return [Position(record.epoch, record.offset, index) for record in records for index in range(len(record.items))]


def last_of(record: Record) -> Position:
    return Position(record.epoch, record.offset, len(record.items) - 1)


async def read(journal: Journal, after: Position, count: int) -> list[Record]:
    """The next records after the position, until they hold so many items."""
    records: list[Record] = []
    async with aclosing(following(journal, after)) as follower, asyncio.timeout(DEADLINE_SECONDS):
        while sum(len(record.items) for record in records) < count:
            records.append(await anext(follower))
    return records


async def following(journal: Journal, after: Position) -> AsyncGenerator[Record, None]:
    """`follow`, as something that can be closed before its end."""
    followed = journal.follow(after)
    try:
        async for record in followed:
            yield record
    finally:
        if isinstance(followed, AsyncGenerator):
            await followed.aclose()


def items_of(records: Sequence[Record]) -> list[object]:
    return [item for record in records for item in record.items]


async def append_each(journal: Journal, items: Sequence[Item]) -> None:
    for item in items:
        await journal.append([item])


async def test_what_is_appended_is_followed_unchanged(opened: OpenJournal) -> None:
    items: list[Item] = [
        Envelope("a", Tenant("acme"), Audience((Address("role", "x"),), (Address("user", "bob"),)), b'{"a":1}', 5, 9),
        Marker("nonce"),
        Envelope("b", Tenant("b"), Audience((Address("everyone", ""),)), b"{}", 5, 9, True, "k", b"1" * 16, b"2" * 16),
    ]

    await opened.journal.append(items)

    assert items_of(await read(opened.journal, opened.start, 3)) == items


async def test_the_order_of_acceptance_is_the_order_of_the_journal(opened: OpenJournal) -> None:
    sent = [envelope(f"n{number}") for number in range(50)]

    await append_each(opened.journal, sent)

    assert items_of(await read(opened.journal, opened.start, 50)) == sent


async def test_appends_at_the_same_time_keep_the_order_in_which_they_were_called(opened: OpenJournal) -> None:
    sent = [envelope(f"n{number}") for number in range(50)]

    async with asyncio.TaskGroup() as tasks:
        for item in sent:
            tasks.create_task(opened.journal.append([item]))

    assert items_of(await read(opened.journal, opened.start, 50)) == sent


async def test_a_follower_gets_exactly_what_came_after_its_position(opened: OpenJournal) -> None:
    sent = [envelope(f"n{number}") for number in range(20)]
    for first in range(0, 20, 2):
        await opened.journal.append(sent[first : first + 2])
    records = await read(opened.journal, opened.start, 20)

    for number, record in enumerate(records[:-1]):
        rest = await read(opened.journal, last_of(record), 20 - len(items_of(records[: number + 1])))

        assert rest == records[number + 1 :]


async def test_two_followers_get_the_same(opened: OpenJournal) -> None:
    sent = [envelope(f"n{number}") for number in range(30)]

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(read(opened.journal, opened.start, 30))
        second = tasks.create_task(read(opened.journal, opened.start, 30))
        tasks.create_task(append_each(opened.journal, sent))

    assert first.result() == second.result()
    assert items_of(first.result()) == sent


async def test_positions_rise_strictly_within_one_epoch(opened: OpenJournal) -> None:
    for size in (1, 3, 2, RECORD_LIMIT_ITEMS + 1, 1):
        await opened.journal.append([envelope(f"n{number}") for number in range(size)])

    records = await read(opened.journal, opened.start, 8 + RECORD_LIMIT_ITEMS)

    positions = positions_of(records)
    assert all(earlier < later for earlier, later in zip([opened.start, *positions], positions, strict=False))
    assert {position.epoch for position in positions} == {opened.start.epoch}


async def test_a_batch_over_the_item_limit_is_split_with_its_order_kept(opened: OpenJournal) -> None:
    sent = [envelope(f"n{number}") for number in range(2 * RECORD_LIMIT_ITEMS + 10)]

    await opened.journal.append(sent)

    records = await read(opened.journal, opened.start, len(sent))
    assert items_of(records) == sent
    assert max(len(record.items) for record in records) <= RECORD_LIMIT_ITEMS


async def test_a_batch_over_the_byte_limit_is_split_with_its_order_kept(opened: OpenJournal) -> None:
    sent = [envelope(f"n{number}", sealed=b"x" * 60_000) for number in range(40)]

    await opened.journal.append(sent)

    records = await read(opened.journal, opened.start, len(sent))
    assert items_of(records) == sent
    assert all(sealed_bytes(record) <= RECORD_LIMIT_BYTES for record in records)


def sealed_bytes(record: Record) -> int:
    return sum(len(item.sealed) for item in record.items if isinstance(item, Envelope))


async def test_a_follower_at_the_end_waits_and_gets_what_is_appended_later(opened: OpenJournal) -> None:
    await opened.journal.append([envelope("early")])
    (early,) = await read(opened.journal, opened.start, 1)
    waiting = asyncio.create_task(read(opened.journal, last_of(early), 1))
    for _ in range(10):
        await asyncio.sleep(0)
    had_something_too_early = waiting.done()

    await opened.journal.append([envelope("late")])

    assert not had_something_too_early
    assert names(items_of(await waiting)) == ["late"]


async def test_an_append_returns_when_its_items_can_be_followed(opened: OpenJournal) -> None:
    """A follower that begins only after the append has returned finds them, with nothing else appended behind."""
    for number in range(5):
        await opened.journal.append([envelope(f"n{number}")])

        assert names(items_of(await read(opened.journal, opened.start, number + 1)))[-1] == f"n{number}"


async def test_nothing_appended_is_nothing_to_follow(opened: OpenJournal) -> None:
    await opened.journal.append([])
    await opened.journal.append([envelope("n")])

    (record,) = await read(opened.journal, opened.start, 1)

    assert names(record.items) == ["n"]


async def test_a_follower_that_stops_does_not_disturb_the_others(opened: OpenJournal) -> None:
    await append_each(opened.journal, [envelope("a"), envelope("b")])
    async with asyncio.timeout(DEADLINE_SECONDS), aclosing(following(opened.journal, opened.start)) as other:
        first = await anext(other)
        await read(opened.journal, opened.start, 1)
        second = await anext(other)

    assert names(items_of([first, second])) == ["a", "b"]


async def test_a_journal_that_takes_appends_and_is_followed_says_so(opened: OpenJournal) -> None:
    async with aclosing(following(opened.journal, opened.start)) as follower, asyncio.timeout(DEADLINE_SECONDS):
        await opened.journal.append([Marker("read")])
        await anext(follower)

        assert await opened.journal.check() is None  # type: ignore[func-returns-value]  # it raises when it would not


# -- memory only ---------------------------------------------------------------------------------------------------


@contextmanager
def full_is_unavailable() -> Iterator[None]:
    with pytest.raises(Unavailable) as refused:
        yield
    assert refused.value.code == "journal_full"


async def test_a_full_memory_journal_refuses_and_takes_again_once_its_follower_has_read() -> None:
    journal = MemoryJournal(capacity_bytes=10_000)
    accepted: list[Item] = []
    async with asyncio.timeout(DEADLINE_SECONDS), aclosing(following(journal, journal.start)) as follower:
        await journal.append([Marker("first")])
        got = items_of([await anext(follower)])
        with full_is_unavailable():
            for number in range(1_000):
                await journal.append([Marker(f"m{number}")])
                accepted.append(Marker(f"m{number}"))
        with full_is_unavailable():
            await journal.check()
        for _ in accepted:
            got += items_of([await anext(follower)])
        waits = asyncio.ensure_future(anext(follower))  # Asking for more is what says that the last was read.
        await asyncio.sleep(0)

        await journal.check()
        await journal.append([Marker("last")])
        got += items_of([await waits])

    assert got == [Marker("first"), *accepted, Marker("last")]


async def test_a_memory_journal_never_drops_what_its_slowest_follower_has_not_read() -> None:
    journal = MemoryJournal(capacity_bytes=5_000)
    sent = [envelope(f"n{number}", sealed=b"x" * 500) for number in range(60)]
    slow_got: list[object] = []
    accepted: list[object] = []
    async with (
        asyncio.timeout(DEADLINE_SECONDS),
        aclosing(following(journal, journal.start)) as slow,
        aclosing(following(journal, journal.start)) as fast,
    ):
        for number, item in enumerate(sent):
            try:
                await journal.append([item])
            except Unavailable:
                slow_got += items_of([await anext(slow)])
                continue
            accepted.append(item)
            assert items_of([await anext(fast)]) == [item]
            if number == 0:
                slow_got += items_of([await anext(slow)])
        while len(slow_got) < len(accepted):
            slow_got += items_of([await anext(slow)])

    assert len(accepted) < len(sent)
    assert slow_got == accepted


async def test_a_follower_that_has_stopped_holds_a_memory_journal_back_no_more() -> None:
    journal = MemoryJournal(capacity_bytes=5_000)
    await journal.append([Marker("first")])
    await read(journal, journal.start, 1)

    for number in range(100):
        await journal.append([Marker(f"m{number}")])

    assert len(items_of(await read(journal, journal.start, 1))) == 1


async def test_a_memory_journal_counts_addresses_so_that_many_recipients_do_not_outgrow_it() -> None:
    journal = MemoryJournal(capacity_bytes=1_000_000)
    async with asyncio.timeout(DEADLINE_SECONDS), aclosing(following(journal, journal.start)) as follower:
        await journal.append([envelope("first")])
        await anext(follower)

        with full_is_unavailable():
            for number in range(100):
                await journal.append([envelope(f"n{number}", addresses=1_000)])


async def test_each_memory_journal_has_an_epoch_of_its_own() -> None:
    assert MemoryJournal().start.epoch != MemoryJournal().start.epoch
