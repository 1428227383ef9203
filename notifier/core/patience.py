"""Waiting at most so long for what is mostly there at once."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import TypeVar

_Result = TypeVar("_Result")


async def within(seconds: float, work: Coroutine[object, None, _Result]) -> _Result:
    """Await the work. Raises TimeoutError when it takes longer.

    A timer is set only once the work has to wait: one costs more than validating a notification, and a request whose
    body came with its head, into a journal in memory, waits for nothing (`DECISIONS.md`, 35).
    """
    try:
        awaited = work.send(None)
    except StopIteration as end:
        result: _Result = end.value
        return result
    async with asyncio.timeout(seconds):
        return await _Begun(work, awaited)


class _Begun(Generator[object, None, _Result]):
    """The rest of a coroutine that waits for something, from that on."""

    def __init__(self, work: Coroutine[object, None, _Result], awaited: object) -> None:
        self._work = work
        self._first = [awaited]

    def __await__(self) -> Generator[object, None, _Result]:
        return self

    def send(self, value: None) -> object:
        return self._first.pop() if self._first else self._work.send(value)

    def throw(self, *error: object) -> object:
        return self._work.throw(*error)  # type: ignore[call-overload]  # one exception, or as it was before 3.12
