"""What waits for the journal: its order, its bounds, and who is told what."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifier.core.envelope import Envelope
from notifier.core.errors import Unavailable
from notifier.core.ports import Item
from notifier.journal.appends import Appends, Batch, weight_of
from notifier.journal.record import MAX_RECORD_BYTES, MAX_RECORD_ITEMS, Tick, size_of
from tests.journal.builders import envelope

DEADLINE_SECONDS = 10.0
LOST = Unavailable("journal_unavailable", "the broker did not confirm")


Entry = Item | Tick


def ids(batch: Batch[Entry]) -> list[str]:
    return [item.id if isinstance(item, Envelope) else "tick" for _, item in batch]


async def begin(appends: Appends[Entry], *names: str) -> asyncio.Task[None]:
    """An append that waits."""
    task = asyncio.create_task(appends.append([envelope(name) for name in names]))
    await turn()
    return task


async def turn() -> None:
    """Let every task go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def takes_nothing(appends: Appends[Entry]) -> None:
    """Raises what is taken, if anything is."""
    taking = asyncio.create_task(appends.take())
    await turn()
    assert not taking.done()
    taking.cancel()


async def test_a_lone_item_is_taken_at_once_and_its_call_returns_when_it_is_confirmed() -> None:
    appends = Appends(weight_of)
    call = await begin(appends, "a")

    batch = await appends.take()
    before = call.done()
    appends.confirm(batch)
    await call

    assert (ids(batch), before) == (["a"], False)


async def test_what_arrives_meanwhile_forms_the_next_record() -> None:
    appends = Appends(weight_of)
    _ = await begin(appends, "a")
    await appends.take()
    for name in "bcd":
        _ = await begin(appends, name)

    assert ids(await appends.take()) == ["b", "c", "d"]


async def test_an_append_of_nothing_returns_at_once() -> None:
    appends = Appends(weight_of)

    async with asyncio.timeout(DEADLINE_SECONDS):
        await appends.append([])

    await takes_nothing(appends)


async def test_taking_waits_for_something_to_take() -> None:
    appends = Appends(weight_of)
    taking = asyncio.create_task(appends.take())
    _ = await begin(appends, "a")

    assert ids(await taking) == ["a"]


async def test_a_call_over_one_record_succeeds_only_when_all_of_it_is_confirmed() -> None:
    appends = Appends(weight_of)
    call = await begin(appends, *(f"n{number}" for number in range(MAX_RECORD_ITEMS + 1)))

    first = await appends.take()
    appends.confirm(first)
    await turn()
    half_way = call.done()
    appends.confirm(await appends.take())
    await call

    assert (len(first), half_way) == (MAX_RECORD_ITEMS, False)


async def test_a_refusal_fails_the_whole_call_and_the_rest_of_it_is_not_tried() -> None:
    appends = Appends(weight_of)
    call = await begin(appends, *(f"n{number}" for number in range(MAX_RECORD_ITEMS + 1)))
    _ = await begin(appends, "next")

    appends.refuse(await appends.take(), LOST)
    rest = await appends.take()  # In the same turn: the caller has not heard yet.

    assert ids(rest) == ["next"]
    with pytest.raises(Unavailable):
        await call


@pytest.mark.parametrize("gives_up_first", [True, False], ids=["heard", "in the same turn"])
async def test_what_a_caller_has_given_up_is_not_sent(gives_up_first: bool) -> None:
    """It was told 503: what came later would be a stale surprise."""
    appends = Appends(weight_of)
    call = await begin(appends, "stale")
    _ = await begin(appends, "next")

    call.cancel()
    if gives_up_first:
        await turn()

    assert ids(await appends.take()) == ["next"]


async def test_giving_up_what_is_on_its_way_harms_nobody_else() -> None:
    appends = Appends(weight_of)
    gone = await begin(appends, "gone")
    call = await begin(appends, "a")
    batch = await appends.take()
    gone.cancel()
    await turn()

    appends.confirm(batch)
    await call

    assert ids(batch) == ["gone", "a"]


async def test_a_cancelled_take_loses_nothing() -> None:
    appends = Appends(weight_of)
    taking = asyncio.create_task(appends.take())
    await turn()
    begins = asyncio.create_task(appends.append([envelope("a")]))
    await asyncio.sleep(0)
    taking.cancel()
    await turn()

    taken = [] if taking.cancelled() else ids(taking.result())
    assert taken or ids(await appends.take()) == ["a"]
    begins.cancel()


async def test_what_waits_is_bounded_and_room_comes_back() -> None:
    size = size_of(envelope("a"))
    appends = Appends(weight_of, room_bytes=3 * size)
    calls = [await begin(appends, name) for name in "abc"]
    with pytest.raises(Unavailable) as refused:
        await appends.append([envelope("d")])
    calls[1].cancel()
    await turn()
    _ = await begin(appends, "e")

    assert refused.value.code == "journal_full"
    assert ids(await appends.take()) == ["a", "c", "e"]


async def test_one_call_over_all_the_room_is_taken_when_nothing_else_waits() -> None:
    appends = Appends(weight_of, room_bytes=1)

    _ = await begin(appends, "a", "b")

    assert ids(await appends.take()) == ["a", "b"]


async def test_a_tick_takes_no_room() -> None:
    appends = Appends(weight_of, room_bytes=size_of(envelope("a")))
    _ = await begin(appends, "a")
    tick = asyncio.create_task(appends.append([Tick()]))
    await turn()

    assert ids(await appends.take()) == ["a", "tick"]
    tick.cancel()


async def test_everybody_is_told_when_the_journal_takes_nothing_more() -> None:
    """Whoever waits, and whoever is on its way: an alarm is no reason to keep a caller in suspense."""
    appends = Appends(weight_of)
    calls = [await begin(appends, "on its way")]
    batch = await appends.take()
    calls.append(await begin(appends, "waits"))

    appends.refuse_all(LOST)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    appends.confirm(batch)  # It came through after all.
    _ = await begin(appends, "after")

    assert outcomes == [LOST, LOST]
    assert ids(await appends.take()) == ["after"]


# -- any history ---------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One append, and what must become of it."""

    names: list[str]
    task: asyncio.Task[None]
    confirmed: set[str] = field(default_factory=set)
    is_over: bool = False  # Given up, or refused.

    def outcome(self) -> str:
        if not self.task.done():
            return "waits"
        if self.task.cancelled():
            return "cancelled"
        return "refused" if self.task.exception() else "done"


class History:
    """Callers and a writer, step by step, and a plain list of what waits."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.appends = Appends(weight_of, room_bytes=room_bytes)
        self.calls: list[Call] = []
        self.waiting: list[tuple[Call, Envelope]] = []
        self.batch: Batch[Entry] = []
        self.taken: list[str] = []
        self.count = 0

    async def call(self, sizes: list[int]) -> None:
        items = [envelope(f"n{self.count + number}", sealed=b"x" * size) for number, size in enumerate(sizes)]
        self.count += len(items)
        waits_bytes = sum(size_of(item) for _, item in self.waiting)
        is_full = waits_bytes > 0 and len(items) > 0 and waits_bytes + sum(map(size_of, items)) > self.room_bytes
        appended: list[Item] = list(items)
        call = Call([item.id for item in items], asyncio.create_task(self.appends.append(appended)))
        self.calls.append(call)
        await asyncio.sleep(0)
        if is_full:
            call.is_over = True
        else:
            self.waiting += [(call, item) for item in items]

    async def give_up(self, number: int) -> None:
        if self.calls and not (call := self.calls[number % len(self.calls)]).task.done():
            call.task.cancel()
            self._end(call)

    async def take(self, _: int) -> None:
        if self.batch:
            return
        if not self.waiting:
            await takes_nothing(self.appends)
            return
        async with asyncio.timeout(DEADLINE_SECONDS):
            self.batch = await self.appends.take()
        self.taken += ids(self.batch)
        count = len(self.batch)
        assert [item for _, item in self.batch] == [item for _, item in self.waiting[:count]]
        assert fits(self.batch)
        assert count == len(self.waiting) or not fits([*self.batch, (self.batch[0][0], self.waiting[count][1])])
        del self.waiting[:count]

    async def confirm(self, _: int) -> None:
        self.appends.confirm(self.batch)
        for call in self.calls:
            call.confirmed |= set(call.names) & set(ids(self.batch))
        self.batch = []

    async def refuse(self, _: int) -> None:
        self.appends.refuse(self.batch, LOST)
        for call in self.calls:
            if set(call.names) & set(ids(self.batch)):
                self._end(call)
        self.batch = []

    async def refuse_all(self, _: int) -> None:
        self.appends.refuse_all(LOST)
        for call in self.calls:
            if not call.confirmed >= set(call.names):
                self._end(call)

    async def let_them_go_on(self, _: int) -> None:
        await turn()

    def _end(self, call: Call) -> None:
        call.is_over = True
        self.waiting = [(waits, item) for waits, item in self.waiting if waits is not call]

    async def end(self) -> None:
        """Confirm all that is left, and look at what everybody was told."""
        while self.waiting or self.batch:
            await self.take(0)
            await self.confirm(0)
        await turn()
        for call in self.calls:
            assert (call.outcome() == "done") == (call.confirmed >= set(call.names) and not call.is_over)
            assert call.outcome() != "waits"
            with suppress(asyncio.CancelledError, Unavailable):
                await call.task
        assert len(self.taken) == len(set(self.taken))
        assert self.taken == sorted(self.taken, key=lambda name: int(name[1:]))


def fits(batch: Batch[Entry]) -> bool:
    size = sum(size_of(item) for _, item in batch if isinstance(item, Envelope))
    return len(batch) <= MAX_RECORD_ITEMS and (len(batch) == 1 or size <= MAX_RECORD_BYTES)


SIZES = st.one_of(
    st.lists(st.integers(0, 2_000), max_size=5),
    st.lists(st.integers(200_000, 700_000), max_size=3),
    st.integers(900, 1_100).map(lambda count: [0] * count),
)
STEPS: dict[str, Callable[..., Awaitable[None]]] = {
    "give up": History.give_up,
    "take": History.take,
    "confirm": History.confirm,
    "refuse": History.refuse,
    "refuse all": History.refuse_all,
    "let them go on": History.let_them_go_on,
}
Step = tuple[str, int] | list[int]


@settings(max_examples=200, deadline=None)
@given(
    room_bytes=st.sampled_from([3_000, 10**6, 10**8]),
    steps=st.lists(st.one_of(SIZES, st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9))), max_size=40),
)
def test_in_any_history_nothing_is_lost_sent_twice_out_of_order_or_after_it_was_given_up(
    room_bytes: int, steps: list[Step]
) -> None:
    async def run() -> None:
        history = History(room_bytes)
        for step in steps:
            if isinstance(step, list):
                await history.call(step)
            else:
                await STEPS[step[0]](history, step[1])
        await history.end()

    asyncio.run(run())
