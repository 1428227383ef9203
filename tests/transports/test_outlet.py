"""The way out to one client over ASGI: what it takes, in which order it ends, and whom it never leaves waiting."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from notifier.core.ports import CloseReason
from notifier.transports.encodings import Frame
from notifier.transports.frames import Frames
from notifier.transports.outlet import AsgiOutlet


class Wire:
    """An ASGI `send` that can be held, and cut."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.is_cut = False
        self._free = asyncio.Event()
        self._free.set()

    def hold(self) -> None:
        self._free.clear()

    def release(self, *, cut: bool = False) -> None:
        self.is_cut = cut
        self._free.set()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self._free.wait()
        if self.is_cut:
            raise OSError("the client is gone")
        self.sent.append(message.get("text", message.get("code")))


def frame(text: str) -> Frame:
    return Frame(text.encode())


async def running(outlet: AsgiOutlet) -> asyncio.Task[None]:
    task = asyncio.create_task(outlet.run(lambda: None))
    await asyncio.sleep(0)
    return task


async def test_frames_go_out_in_order_and_the_close_behind_them() -> None:
    wire = Wire()
    outlet = AsgiOutlet(wire.send, limit_bytes=100)

    outlet.write(Frames().join([frame("a"), frame("b")]))
    outlet.close(CloseReason.DRAIN)
    await outlet.run(lambda: None)

    assert wire.sent == ["a", "b", 4001]


async def test_a_write_over_the_limit_is_refused_as_a_whole() -> None:
    first, second = frame("12345"), Frames().join([frame("123"), frame("456")])
    outlet = AsgiOutlet(Wire().send, limit_bytes=2 * first.size)

    assert outlet.write(first)
    assert not outlet.write(second)
    assert outlet.write(frame("12345"))


async def test_a_write_of_any_size_is_taken_when_nothing_waits() -> None:
    outlet = AsgiOutlet(Wire().send, limit_bytes=1)

    assert outlet.write(frame("x" * 1_000))


async def test_nothing_is_taken_once_it_closes_and_the_first_reason_counts() -> None:
    outlet = AsgiOutlet(Wire().send, limit_bytes=100)
    told: list[str] = []
    outlet.on_hang_up = lambda: told.append("hang up")

    outlet.close(CloseReason.FELL_BEHIND)
    outlet.hang_up(4402, "too late")

    assert not outlet.write(frame("a"))
    assert outlet.closing == (4000, "fell_behind")
    assert told == ["hang up"]


async def test_what_drained_writes_goes_out_before_it_counts_as_empty() -> None:
    wire = Wire()
    outlet = AsgiOutlet(wire.send, limit_bytes=100)
    more = [frame("b"), frame("c")]
    outlet.write(frame("a"))

    def drained() -> None:
        if more:
            outlet.write(more.pop(0))

    task = asyncio.create_task(outlet.run(drained))
    await outlet.emptied()
    task.cancel()

    assert wire.sent == ["a", "b", "c"]


async def test_a_lost_connection_lets_go_of_who_waits_for_it_to_empty() -> None:
    wire = Wire()
    wire.hold()
    outlet = AsgiOutlet(wire.send, limit_bytes=100)
    outlet.write(frame("a"))
    task = await running(outlet)
    waiting = asyncio.create_task(outlet.emptied())

    wire.release(cut=True)
    async with asyncio.timeout(10):
        await waiting
        await asyncio.wait([task])

    assert isinstance(task.exception(), OSError)
    assert not outlet.write(frame("b"))
    await asyncio.wait_for(outlet.emptied(), 10)


async def test_moved_at_says_when_the_client_last_took_something() -> None:
    wire = Wire()
    wire.hold()
    outlet = AsgiOutlet(wire.send, limit_bytes=100)
    before = outlet.moved_at
    outlet.write(frame("a"))
    task = await running(outlet)
    held = outlet.moved_at
    wire.release()
    await outlet.emptied()
    task.cancel()

    assert held == before
    assert outlet.moved_at > before
