"""How often something may be done: named limits per key, counted by slowapi's limiter in local memory (`counters.py`).

slowapi's decorators and middleware are left out for its limiter: with FastAPI's route tree they miss included routers,
they skip an empty key, and they cost twice as much (`DECISIONS.md`, 1). A tenant has a token bucket (`buckets.py`):
whom it refuses can be told to the millisecond when to come back, which the queue door does.
"""

import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from limits import RateLimitItem, parse
from slowapi import Limiter
from slowapi.util import get_remote_address

from notifier.access.buckets import Buckets
from notifier.access.counters import SCHEME
from notifier.core.errors import LimitExceeded, Standing

TENANT: Final = "tenant"
Ask = Callable[[], Awaitable[Standing]]
"""Asks where a caller stands: one limit of several is told."""


class Rates(Protocol):
    """The counts of all replicas. Each method returns None when that is not to be known now."""

    async def hit(self, item: RateLimitItem, policy: str, key: str, cost: int) -> bool | None:
        """Take `cost`, or say that it is too much."""

    async def standing(self, item: RateLimitItem, policy: str, key: str) -> Standing | None:
        """Where the key stands."""


class Limits:
    """Counts what callers do.

    Args:
        policies: from a name to a limit in the words of `limits`, such as `500/second`; one is `tenant`. Raises
            ValueError for others.
        shared: the counts of all replicas; None: this one counts for itself.
    """

    def __init__(self, policies: Mapping[str, str], shared: Rates | None = None) -> None:
        self._tenants = Buckets(TENANT, policies.get(TENANT, "1/second"))
        self.set(policies)
        # Sliding, since a fixed window lets twice the quota through at its edge; two counters a key.
        limiter = Limiter(key_func=get_remote_address, storage_uri=f"{SCHEME}://", strategy="sliding-window-counter")
        self._strategy = limiter.limiter
        self._shared = shared
        self.refused: Counter[tuple[str, ...]] = Counter()  # By policy.

    def set(self, policies: Mapping[str, str]) -> None:
        """Count by these from here on; one that differs counts from zero. Raises ValueError, and keeps the old ones."""
        self._items: dict[str, RateLimitItem] = {name: parse(text) for name, text in policies.items()}
        if TENANT in policies:
            self._tenants.set(policies[TENANT])

    async def spend(self, policy: str, key: str, cost: int = 1) -> Ask:
        """Take `cost` out of the key's allowance, and return how to ask where it stands.

        Raises LimitExceeded when it is used up; nothing is taken then.
        """
        # Who is over the limit here is over it everywhere: a flood does not get as far as Redis.
        if wait_seconds := self._take_here(policy, key, cost):
            self._refuse(policy, self._standing_here(policy, key), wait_seconds)
        if self._shared is None:
            return partial(self._ask_here, policy, key)
        item = self._items[policy]
        # More than the limit at once is let through when there is room for all of it; a window could never hold it.
        if await self._shared.hit(item, policy, key, min(cost, item.amount)) is False:
            standing = await self._standing(policy, key)
            self._refuse(policy, standing, standing.reset_seconds)
        return partial(self._standing, policy, key)

    def _take_here(self, policy: str, key: str, cost: int) -> float:
        """Take `cost` and return 0, or return the seconds to wait."""
        if policy == TENANT:
            return self._tenants.take(key, cost)
        if self._strategy.hit(self._items[policy], policy, key, cost=cost):
            return 0.0
        return float(self._standing_here(policy, key).reset_seconds)

    def _refuse(self, policy: str, standing: Standing, wait_seconds: float) -> None:
        self.refused[policy,] += 1
        detail = f"over the limit of {standing.quota} per {standing.window_seconds} s for {policy}"
        retry_after = timedelta(seconds=wait_seconds)
        raise LimitExceeded("rate_limited", detail, retry_after=retry_after, standing=standing)

    async def _standing(self, policy: str, key: str) -> Standing:
        shared = None if self._shared is None else await self._shared.standing(self._items[policy], policy, key)
        return shared or self._standing_here(policy, key)

    async def _ask_here(self, policy: str, key: str) -> Standing:
        return self._standing_here(policy, key)

    def _standing_here(self, policy: str, key: str) -> Standing:
        if policy == TENANT:
            return self._tenants.standing(key)
        item = self._items[policy]
        stats = self._strategy.get_window_stats(item, policy, key)
        return standing_of(item, policy, stats.remaining, stats.reset_time)


def standing_of(item: RateLimitItem, policy: str, remaining: int, reset_time: float) -> Standing:
    """From what `limits` tells of a window, in Unix seconds, to where somebody stands."""
    reset_seconds = max(1, math.ceil(reset_time - time.time()))
    return Standing(policy, item.amount, item.get_expiry(), max(0, remaining), reset_seconds)
