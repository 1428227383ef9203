"""When a request is tried again: with full jitter, never before the service asked for it, and not for ever."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
BACKOFF_SECONDS: Final = (0.25, 8.0)


class Patience:
    """Says how long to wait after each failure of one request.

    Args:
        seconds: from the first attempt to the beginning of the last one, which comes at the end, unless the service has
            asked for more.
        clock: monotonic, in seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deadline = clock() + seconds
        self._failures = 0

    def pause_after(self, failure: httpx.Response | httpx.TransportError) -> float | None:
        """Seconds to wait before the next attempt; None: there is to be none."""
        return self.pause(asked_seconds(failure)) if _may_pass(failure) else None

    def pause(self, asked_seconds: float = 0.0) -> float | None:
        """The same after a failure that may pass; `asked_seconds` is the least that the service wants."""
        least, most = BACKOFF_SECONDS
        ceiling = min(most, least * 2.0**self._failures)
        self._failures += 1
        left = self._deadline - self._clock()
        if left <= 0 or asked_seconds > left:
            return None
        return min(left, asked_seconds + random.uniform(0, ceiling))  # noqa: S311 - spreads retries


def asked_seconds(failure: httpx.Response | httpx.TransportError) -> float:
    """What the service asked to wait, in `Retry-After` (RFC 9110, 10.2.3): seconds, or a date."""
    value = failure.headers.get("retry-after", "") if isinstance(failure, httpx.Response) else ""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _may_pass(failure: httpx.Response | httpx.TransportError) -> bool:
    if isinstance(failure, httpx.Response):
        return failure.status_code in PASSING_STATUSES
    # What is wrong with the URL or the request itself stays wrong.
    return not isinstance(failure, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
