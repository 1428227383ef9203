"""Waiting at most so long, without a timer where there is nothing to wait for."""

import asyncio

import pytest

from notifier.core.patience import within

LONG_SECONDS = 5.0
SHORT_SECONDS = 0.02


async def test_what_is_there_at_once_is_returned_without_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> str:
        return "there"

    monkeypatch.setattr("asyncio.timeout", None)

    assert await within(LONG_SECONDS, work()) == "there"


async def test_what_comes_in_time_is_returned() -> None:
    """Also over several waits, of which the first is for nothing but a turn of the loop."""
    gate = asyncio.Event()

    async def work() -> str:
        await asyncio.sleep(0)
        await gate.wait()
        return "came"

    asyncio.get_running_loop().call_soon(gate.set)

    assert await within(LONG_SECONDS, work()) == "came"


async def test_what_takes_longer_is_ended_with_a_time_out() -> None:
    ended: list[type[BaseException]] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ended.append(type(error))
            raise

    with pytest.raises(TimeoutError):
        await within(SHORT_SECONDS, work())

    assert ended == [asyncio.CancelledError]


async def test_a_cancellation_reaches_the_work_and_is_no_time_out() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()

    task = asyncio.create_task(within(LONG_SECONDS, work()))
    await begun.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_an_error_of_the_work_is_raised(turns: int) -> None:
    async def work() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError):
        await within(LONG_SECONDS, work())
