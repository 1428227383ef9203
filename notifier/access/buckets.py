"""Token buckets: so many a second on average, and what has gathered at once.

`limits` counts windows, and does not tell when a moment later there will be enough; here a caller is told to a
millisecond, so that the queue door can wait and a client can be given a turn of its own. A bucket is one number, the
moment at which it will be full again (GCRA, ITU-T I.371), and costs a fiftieth of a look at `limits`.
"""

import math
import time
from collections.abc import Callable
from typing import Final

from limits import parse

from notifier.core.errors import Standing
from notifier.core.spread import spread

SWEPT_AT: Final = 10_000  # Keys, from which on full buckets are looked for and forgotten.
PATIENCE_SECONDS: Final = 60.0
"""No client is told to wait for longer than this for a turn."""


class Buckets:
    """A bucket for each key.

    Args:
        policy: the name of the limit, for those who are told where they stand.
        text: the limit in the words of `limits`, such as `500/second`: a bucket holds that much.
    """

    def __init__(self, policy: str, text: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._monotonic = monotonic
        self._full_at: dict[str, float] = {}  # Monotonic seconds, by key; full ones need not be here.
        self._swept_at = SWEPT_AT
        self.set(text)

    def set(self, text: str) -> None:
        """Go by this limit from here on."""
        item = parse(text)
        self.amount, self._window_seconds = item.amount, item.get_expiry()
        self._seconds_each = self._window_seconds / self.amount

    def take(self, key: str, cost: int = 1) -> float:
        """Take tokens and return 0; or take none, and return the seconds until there are enough.

        What costs more than a bucket holds is taken from a full one, which owes the rest.
        """
        now = self._monotonic()
        full_at = max(self._full_at.get(key, now), now)
        wait_seconds = full_at + min(cost, self.amount) * self._seconds_each - now - self._window_seconds
        if wait_seconds > 1e-6:
            return wait_seconds
        self._full_at[key] = full_at + cost * self._seconds_each
        if len(self._full_at) > self._swept_at:
            self._sweep(now)
        return 0.0

    def standing(self, key: str) -> Standing:
        """Where the key stands."""
        empty_seconds = max(0.0, self._full_at.get(key, 0.0) - self._monotonic())
        remaining = max(0, math.floor(self.amount - empty_seconds / self._seconds_each + 1e-6))
        return Standing(self._policy, self.amount, self._window_seconds, remaining, max(1, math.ceil(empty_seconds)))

    def _sweep(self, now: float) -> None:
        self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        self._swept_at = max(SWEPT_AT, 2 * len(self._full_at))


class Turnstile:
    """Lets so many through a second, and gives each of the others a turn of its own to come back at.

    So a crowd that came at once comes back one by one, at the pace at which it can be let in.
    """

    def __init__(self, text: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._free_at = self._turn_at = -math.inf  # Monotonic seconds: of who was let in last, and of the last turn.
        self.set(text)

    def set(self, text: str) -> None:
        """Go by this limit from here on."""
        item = parse(text)
        self._seconds_each = item.get_expiry() / item.amount
        # A tenth of a second at once, so that a few who come together are let in, and no second has twice as many.
        self._burst_seconds = max(self._seconds_each, 0.1)

    def enter(self) -> float:
        """Return 0 for who is let in, and else the seconds until their turn."""
        now = self._monotonic()
        free_at = max(self._free_at, now - self._burst_seconds) + self._seconds_each
        if free_at <= now + 1e-6:
            self._free_at = free_at
            return 0.0
        return self.turn()

    def turn(self) -> float:
        """Seconds until the next turn that nobody was given yet; any within the minute when there is none."""
        now = self._monotonic()
        turn_at = max(self._turn_at, now) + self._seconds_each
        if turn_at > now + PATIENCE_SECONDS:
            return spread(PATIENCE_SECONDS / 2, PATIENCE_SECONDS).total_seconds()
        self._turn_at = turn_at
        return turn_at - now
