"""The way out to one client over plain ASGI: a bounded stretch of frames and the one task that sends them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from math import inf
from typing import Any, Final

from notifier.core.ports import CloseReason, Frame, Outlet
from notifier.transports.closing import CODE_OF_REASON

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


class AsgiOutlet:
    """Takes frames while less than `limit_bytes` wait, and closes behind them.

    ASGI has no way to write without waiting, so a task per connection does it: `run`.
    `on_hang_up` is called once, when this side has decided to close.
    """

    heard_at: Final = inf  # ASGI tells of no pong; the server sends its own pings, and cuts who is silent.

    def __init__(self, send: Send, *, limit_bytes: int) -> None:
        self._send = send
        self._limit_bytes = limit_bytes
        self.on_hang_up: Callable[[], None] = lambda: None
        self._waiting: deque[Frame] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()  # Something waits, or the end was asked for.
        self._empty = asyncio.Event()
        self._empty.set()
        self._loop = asyncio.get_running_loop()
        self.moved_at = self._loop.time()
        self.closing: tuple[int, str] | None = None  # Code and reason, once this side has decided to close.
        self._has_ended = False  # Set when `run` is over: nothing written from then on would be sent.

    @property
    def is_drained(self) -> bool:
        """Nothing waits; between two frames of one stretch something does."""
        return not self._waiting

    def write(self, frame: Frame) -> bool:
        """Take the frame, or refuse it."""
        if self.closing or self._has_ended or (self._waiting and self._waiting_bytes + frame.size > self._limit_bytes):
            return False
        self.answer(frame)
        return True

    def answer(self, frame: Frame) -> None:
        """Take the frame; the reader waits for `emptied` before it asks for another."""
        if self.closing or self._has_ended:
            return
        self._waiting.append(frame)
        self._waiting_bytes += frame.size
        self._empty.clear()
        self._changed.set()

    def close(self, reason: CloseReason) -> None:
        """Close with the code of the reason, behind what waits."""
        self.hang_up(CODE_OF_REASON[reason], reason.value)

    def hang_up(self, code: int, reason: str) -> None:
        """Close with this code, behind what waits. The first call counts."""
        if self.closing is None:
            self.closing = (code, reason)
            self._changed.set()
            self.on_hang_up()

    async def emptied(self) -> None:
        """Wait until everything that was written has been taken, or can no longer be."""
        await self._empty.wait()

    async def run(self, drained: Callable[[], None]) -> None:
        """Send what comes, until closed. `drained` is called each time nothing waits; it may write more."""
        try:
            while self.closing is None or self._waiting:
                await self._send_waiting()
                drained()
                if self._waiting:
                    await asyncio.sleep(0)  # A long replay to a fast reader must not hold the event loop.
                    continue
                self._empty.set()
                if self.closing is None:
                    self._changed.clear()
                    await self._changed.wait()
            await self._send(self._farewell(*self.closing))
        finally:
            # A reader that waits for a lost connection to empty would wait for ever, and its session with it.
            self._has_ended = True
            self._empty.set()

    async def _send_waiting(self) -> None:
        while self._waiting:
            frame = self._waiting[0]
            for message in self._messages(frame):
                await self._send(message)
                self.moved_at = self._loop.time()
            self._waiting.popleft()
            self._waiting_bytes -= frame.size

    def _messages(self, frame: Frame) -> Iterator[Message]:
        for text in frame.texts:
            yield {"type": "websocket.send", "text": text}

    def _farewell(self, code: int, reason: str) -> Message:
        return {"type": "websocket.close", "code": code, "reason": reason}


_: type[Outlet] = AsgiOutlet
