"""Redis, where replicas count together: awaited for a moment, and left alone for a while after it did not answer.

It is never more than a better count: whoever asks gets None while it is away, and counts alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_Answer = TypeVar("_Answer")
log: Final = logging.getLogger(__name__)
REACH_SECONDS: Final = 2.0
"""For what nobody waits for: to connect, and to bring the counts up to date."""
CONNECTIONS: Final = 8
"""Opened ahead, since to open one takes as long as five questions; over them go some 20,000 questions a second."""


class Shared:
    """A Redis, and whether it is there.

    Args:
        url: `redis://` or `rediss://`.
        prefix: begins every key; one per installation.
        patience_seconds: how long an answer is awaited.
        away_seconds: how long it is left alone.
    """

    def __init__(self, url: str, *, prefix: str, patience_seconds: float = 0.05, away_seconds: float = 30.0) -> None:
        self.prefix = prefix
        self._patience_seconds = patience_seconds
        self._away_seconds = away_seconds
        self.pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=REACH_SECONDS,
            socket_timeout=REACH_SECONDS,
            retry=Retry(NoBackoff(), 0),  # Nobody waits for a second try.
        )
        self.client = Redis(connection_pool=self.pool)
        self.is_there = False  # Also until it was reached first.
        self._free = asyncio.Semaphore(CONNECTIONS)
        self.losses = 0
        self.late = 0  # Questions for which there was no time, though it is there: this process was busy.
        self.woken = asyncio.Event()  # Set when who serves it has something to do.

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """The answer; None while it is away, which it is from the first question on that it does not answer in time.

        A question that waits behind others, or while the event loop does something else, says nothing about Redis.
        """
        loop = asyncio.get_running_loop()
        due, was_asked = loop.time() + self._patience_seconds, False
        try:
            async with asyncio.timeout_at(due), self._free:
                if not self.is_there:
                    return None
                was_asked = True
                return await question()
        except TimeoutError as error:
            if was_asked and loop.time() - due < self._patience_seconds:
                self.lose(error)
            else:
                self.late += 1
        except (RedisError, OSError) as error:
            self.lose(error)
        return None

    async def warm(self) -> None:
        """Open the connections over which it will be asked."""
        pings = [cast(Awaitable[bool], self.client.ping()) for _ in range(CONNECTIONS)]
        await asyncio.gather(*pings)

    def reach(self) -> None:
        """Ask it from here on."""
        self.is_there = True
        log.info("shared counts reached")

    def lose(self, error: BaseException) -> None:
        """Leave it alone for a while."""
        if self.is_there:
            self.losses += 1
            self.is_there = False
            log.warning("shared counts lost", extra={"reason": str(error) or type(error).__name__})
        self.woken.set()

    async def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """Reach it, and reach it again after each loss; `serve` returns or raises when it is lost. Never returns."""
        try:
            while True:
                try:
                    self.woken.clear()
                    await serve()
                except (RedisError, OSError, TimeoutError) as error:
                    if not self.is_there:
                        log.warning("shared counts not reached", extra={"reason": str(error) or type(error).__name__})
                    self.lose(error)
                await self._hang_up()
                await asyncio.sleep(self._away_seconds)
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        """Let go of the connections; those on which somebody waits are closed as the wait ends."""
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(REACH_SECONDS):
                await self.pool.disconnect(inuse_connections=False)
