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
LINE_SECONDS: Final = 1.0
SUDDEN_SECONDS: Final = 0.1
"""A few who come together after a quiet moment need not wait for each other: so much of the pace is let in at once."""
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
    """Lets so many through a second, one behind the other, and gives each of the others a turn to come back at.

    A client can be told whole seconds only, so those who come back come together at the tick of one; for so long they
    wait in line, and leave it at the pace that is set.
    """

    def __init__(self, text: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._next_at = self._turn_at = -math.inf  # Monotonic seconds: who comes next is let in; comes back.
        self.set(text)

    def set(self, text: str) -> None:
        """Go by this limit from here on."""
        item = parse(text)
        self._seconds_each = item.get_expiry() / item.amount

    def enter(self) -> float | None:
        """Return the seconds to wait in line, up to one; None for who is turned away."""
        now = self._monotonic()
        next_at = max(self._next_at, now - SUDDEN_SECONDS)
        if next_at - now > LINE_SECONDS:
            return None
        self._next_at = next_at + self._seconds_each
        return max(0.0, next_at - now)

    def turn(self) -> float:
        """Seconds until the next turn that nobody was given yet; any within the minute when there is none."""
        now = self._monotonic()
        turn_at = max(self._turn_at, now + LINE_SECONDS) + self._seconds_each
        if turn_at > now + PATIENCE_SECONDS:
            return spread(PATIENCE_SECONDS / 2, PATIENCE_SECONDS).total_seconds()
        self._turn_at = turn_at
        return turn_at - now
