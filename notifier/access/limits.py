"""How often something may be done: named limits per key, counted by slowapi's limiter in local memory (`counters.py`).

slowapi's decorators and middleware are left out for its limiter: with FastAPI's route tree they miss included routers,
they skip an empty key, and they cost twice as much (`DECISIONS.md`, 1).
"""

import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from limits import RateLimitItem, parse
from slowapi import Limiter
from slowapi.util import get_remote_address

from notifier.access.counters import SCHEME
from notifier.core.errors import LimitExceeded, Standing


class Limits:
    """Counts what callers do.

    Args:
        policies: from a name to a limit in the words of `limits`, such as `500/second`. Raises ValueError for others.
    """

    def __init__(self, policies: Mapping[str, str]) -> None:
        self.set(policies)
        # Sliding, since a fixed window lets twice the quota through at its edge; two counters a key.
        limiter = Limiter(key_func=get_remote_address, storage_uri=f"{SCHEME}://", strategy="sliding-window-counter")
        self._strategy = limiter.limiter

    def set(self, policies: Mapping[str, str]) -> None:
        """Count by these from here on; one that differs counts from zero. Raises ValueError, and keeps the old ones."""
        self._items: dict[str, RateLimitItem] = {name: parse(text) for name, text in policies.items()}

    def spend(self, policy: str, key: str, cost: int = 1) -> Callable[[], Standing]:
        """Take `cost` out of the key's allowance, and return how to ask where it stands: one of several is told.

        Raises LimitExceeded when it is used up; nothing is taken then.
        """
        item = self._items[policy]
        if self._strategy.hit(item, policy, key, cost=cost):
            return partial(self._standing, policy, key)
        standing = self._standing(policy, key)
        detail = f"over the limit of {item.amount} per {item.get_expiry()} s for {policy}"
        retry_after = timedelta(seconds=standing.reset_seconds)
        raise LimitExceeded("rate_limited", detail, retry_after=retry_after, standing=standing)

    def _standing(self, policy: str, key: str) -> Standing:
        item = self._items[policy]
        stats = self._strategy.get_window_stats(item, policy, key)
        reset_seconds = max(1, math.ceil(stats.reset_time - time.time()))
        return Standing(policy, item.amount, item.get_expiry(), max(0, stats.remaining), reset_seconds)
