"""Redis, where replicas count together: asked for at most 50 ms, and left alone for a while after it did not answer.

It is never more than a better count: whoever asks gets None while it is away, and counts alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_Answer = TypeVar("_Answer")
log: Final = logging.getLogger(__name__)
ASK_SECONDS: Final = 0.05
REACH_SECONDS: Final = 2.0
"""For what nobody waits for: to connect, and to bring the counts up to date."""
CONNECTIONS: Final = 32


class Shared:
    """A Redis, and whether it is there.

    Args:
        url: `redis://` or `rediss://`.
        prefix: begins every key; one per installation.
        away_seconds: how long it is left alone.
    """

    def __init__(self, url: str, *, prefix: str, away_seconds: float = 30.0) -> None:
        self.prefix = prefix
        self._away_seconds = away_seconds
        self.pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=ASK_SECONDS,
            socket_connect_timeout=REACH_SECONDS,
            socket_timeout=REACH_SECONDS,
            retry=Retry(NoBackoff(), 0),  # Nobody waits for a second try.
        )
        self.client = Redis(connection_pool=self.pool)
        self.is_there = False  # Also until it was reached first.
        self.losses = 0
        self.woken = asyncio.Event()  # Set when who serves it has something to do.

    async def ask(self, question: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """The answer; None while it is away, which it is from the first question on that it does not answer."""
        if not self.is_there:
            return None
        try:
            async with asyncio.timeout(ASK_SECONDS):
                return await question()
        except (RedisError, OSError, TimeoutError) as error:
            self.lose(error)
            return None

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
        async with self.client:
            while True:
                try:
                    self.woken.clear()
                    await serve()
                except (RedisError, OSError, TimeoutError) as error:
                    if not self.is_there:
                        log.warning("shared counts not reached", extra={"reason": str(error) or type(error).__name__})
                    self.lose(error)
                with suppress(RedisError, OSError, TimeoutError):
                    async with asyncio.timeout(REACH_SECONDS):
                        await self.pool.disconnect()
                await asyncio.sleep(self._away_seconds)
