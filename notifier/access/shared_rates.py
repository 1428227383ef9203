"""How often something was done on all replicas, counted by the asyncio storage of `limits` in Redis."""

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from notifier.access.limits import standing_of
from notifier.access.shared import Shared
from notifier.core.errors import Standing


class SharedRates:
    """The strategy of the local counts, in a storage that all replicas have in common."""

    def __init__(self, shared: Shared, url: str) -> None:
        self._shared = shared
        storage = RedisStorage(
            f"async+{url}",
            implementation="redispy",
            key_prefix=f"{shared.prefix}:rates",
            connection_pool=shared.pool,  # type: ignore[arg-type]  # `limits` takes it out of its options before use
        )
        self._strategy = SlidingWindowCounterRateLimiter(storage)

    async def hit(self, item: RateLimitItem, policy: str, key: str, cost: int) -> bool | None:
        """Take `cost`, or say that it is too much; None while Redis is away."""
        return await self._shared.ask(lambda: self._strategy.hit(item, policy, key, cost=cost))

    async def standing(self, item: RateLimitItem, policy: str, key: str) -> Standing | None:
        """Where the key stands; None while Redis is away."""
        stats = await self._shared.ask(lambda: self._strategy.get_window_stats(item, policy, key))
        return None if stats is None else standing_of(item, policy, stats.remaining, stats.reset_time)
