"""Handshakes in slices: T-40."""

import asyncio

from notifier.transports.turns import Turns


async def test_a_crowd_begins_in_its_order_and_the_loop_turns_in_between() -> None:
    turns, begun = Turns(10), []

    async def begin(number: int) -> None:
        await turns.take()
        begun.append(number)

    crowd = [asyncio.create_task(begin(number)) for number in range(35)]
    counts = []
    while len(begun) < 35:
        await asyncio.sleep(0)  # One turn, after which it is counted.
        counts.append(len(begun))

    assert begun == list(range(35))
    assert all(later - earlier <= 10 for earlier, later in zip([0, *counts], counts, strict=False))
    await asyncio.gather(*crowd)


async def test_who_comes_alone_does_not_wait() -> None:
    turns = Turns(1)

    for _ in range(3):
        taking = asyncio.create_task(turns.take())
        await asyncio.sleep(0)  # One turn: it begins.
        assert taking.done()
        await asyncio.sleep(0)  # And one for the next, in which there is room again.


async def test_who_stops_waiting_takes_no_turn_from_others() -> None:
    turns = Turns(1)
    first, second, third = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)  # One turn: one has begun, and two wait.
    second.cancel()

    async with asyncio.timeout(1):
        await asyncio.gather(first, third)

    assert second.cancelled()
