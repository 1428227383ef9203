"""Handshakes in slices: when a crowd comes at once, the event loop turns between them."""

import asyncio
from collections import deque
from typing import Final

MOST: Final = 32  # Of some 0.5 ms each.


class Turns:
    """Lets so many begin in one turn of the event loop; the others wait for the next ones, in their order."""

    def __init__(self, most: int = MOST) -> None:
        self._most = self._left = most
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_turning = False  # Whether the next turn of the loop is told of.

    async def take(self) -> None:
        """Begin now, or wait."""
        loop = asyncio.get_running_loop()
        if not self._is_turning:
            self._is_turning = True
            loop.call_soon(self._turn)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _turn(self) -> None:
        self._left, self._is_turning = self._most, False
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # Else whoever waited has been cancelled.
                turn.set_result(None)
                self._left -= 1
        if self._left < self._most:
            self._is_turning = True
            asyncio.get_running_loop().call_soon(self._turn)
