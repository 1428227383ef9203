"""Control records: who reads which, and what is told when."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import pytest

from notifier.core.control import Control, ControlRecord
from notifier.core.errors import Unavailable
from notifier.journal.control import MemoryControl


class Refusing:
    """A log that takes nothing, or never answers."""

    is_durable = True

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs

    async def append(self, _: Sequence[ControlRecord]) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise Unavailable("journal_unavailable", "no")

    async def follow(self) -> AsyncGenerator[ControlRecord, None]:
        await asyncio.Event().wait()
        yield ControlRecord("never")


async def test_a_record_is_read_here_before_its_teller_goes_on() -> None:
    control = Control(MemoryControl())
    read: list[object] = []
    control.on("news", read.append)

    await control.tell(ControlRecord("news", {"a": 1}))

    assert read == [{"a": 1}]


async def test_unknown_kinds_and_broken_fields_are_counted_and_the_next_is_read() -> None:
    """A newer replica may tell what this one does not know."""
    log = MemoryControl()
    control = Control(log)
    read: list[object] = []

    def take(fields: object) -> None:
        if fields == {"broken": True}:
            raise ValueError("it says nothing")
        read.append(fields)

    control.on("news", take)
    following = asyncio.create_task(control.follow_control())
    await log.append([ControlRecord("later"), ControlRecord("news", {"broken": True}), ControlRecord("news", {"b": 2})])
    await control.catch_up()
    following.cancel()

    assert (read, control.skipped, control.has_caught_up) == ([{"b": 2}], 2, True)


@pytest.mark.parametrize("log", [Refusing(), Refusing(hangs=True)], ids=["refuses", "hangs"])
async def test_what_the_log_does_not_take_in_time_is_told_and_not_read(log: Refusing) -> None:
    control = Control(log, publish_timeout_seconds=0.01)
    read: list[object] = []
    control.on("news", read.append)

    with pytest.raises(Unavailable):
        await control.tell(ControlRecord("news"))
    with pytest.raises(Unavailable):
        await control.catch_up()
    assert (read, control.has_caught_up) == ([], False)
