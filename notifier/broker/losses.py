"""What is said of a connection that is lost and comes back: few lines, however long it is away."""

import logging
import time
from collections.abc import Callable
from typing import Final

from notifier.broker.connection import Broker, BrokerError

log: Final = logging.getLogger(__name__)
AGAIN_SECONDS: Final = 60.0


class Losses:
    """Counts the failures of one connection, and logs the first of each kind, and then one a minute.

    Args:
        role: what the connection is for.
    """

    def __init__(self, role: str, broker: Broker, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._role = role
        self._broker = broker
        self._monotonic = monotonic
        self._said_at = 0.0
        self.count = 0
        self.reason: str | None = None  # Why there is no connection; None while there is one.

    def note(self, error: BrokerError) -> None:
        """It was lost, or could not be opened."""
        self.count += 1
        now = self._monotonic()
        if str(error) != self.reason or now - self._said_at >= AGAIN_SECONDS:
            self._said_at, self.reason = now, str(error)
            log.warning("no connection to the broker", extra=self._fields() | {"reason": self.reason})

    def end(self) -> None:
        """It works."""
        if self.reason is not None:
            self.reason = None
            log.info("connection to the broker is back", extra=self._fields())

    def _fields(self) -> dict[str, object]:
        return {"role": self._role, "broker": str(self._broker), "failures": self.count}
