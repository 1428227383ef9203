"""Tokens of those who take part, minted when they are needed, and anew when they are old or were refused."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

GOOD_FOR_SECONDS: Final = 600.0


class Tokens:
    """Asks `mint` for the token of a user, in a thread: it may run a command or sign with a slow key."""

    def __init__(self, mint: Callable[[str], str]) -> None:
        self._mint = mint
        self._kept: dict[str, tuple[float, str]] = {}

    async def get(self, user: str, *, other_than: str | None = None) -> str:
        """The token of the user; not the one that was just refused, if there is another to be had."""
        since, token = self._kept.get(user, (0.0, ""))
        if not token or token == other_than or time.monotonic() - since > GOOD_FOR_SECONDS:
            token = await asyncio.to_thread(self._mint, user)
            self._kept[user] = (time.monotonic(), token)
        return token
