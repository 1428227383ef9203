"""Messages of tenants that are over their limit: set aside until there is enough for them, so that others pass.

They stay unacknowledged, so a crash loses none of them, and in their order: while a tenant has any here, its next ones
stand behind them.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from notifier.core.errors import LimitExceeded
from notifier.core.identity import Tenant
from notifier.ingress.requests import Taken

HELD_BYTES: Final = 16 * 1024 * 1024
RETRY_SECONDS: Final = 0.05  # At least: counts of all replicas tell whole seconds, or what another replica takes first.

SpendTenant = Callable[[Tenant, int], Awaitable[object]]
"""Takes so many notifications out of a tenant's allowance. Raises LimitExceeded."""


class Held:
    """What waits for its tenant's allowance.

    Args:
        capacity: messages. Without room nothing more is to be read: the queue as a whole waits, since the next message
            may be one more of those.
    """

    def __init__(self, spend: SpendTenant, *, capacity: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._spend = spend
        self._capacity = capacity
        self._monotonic = monotonic
        self._waiting: dict[Tenant, deque[Taken]] = {}
        self._due: dict[Tenant, float] = {}  # Monotonic seconds at which the first of a tenant is tried again.
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def has_room(self) -> bool:
        return self._count < self._capacity and self._bytes < HELD_BYTES

    @property
    def due_at(self) -> float:
        """Monotonic seconds at which `due` has something to do; infinite while nothing waits."""
        return min(self._due.values(), default=inf)

    def clear(self) -> None:
        """Forget all: the connection that they came over is gone, and they are in the queue again."""
        self._waiting.clear()
        self._due.clear()
        self._count = self._bytes = 0

    async def passes(self, taken: Taken) -> bool:
        """Tell whether the message may go on; otherwise it is held. What cannot be sent costs nothing."""
        if not taken.envelopes:
            return True
        tenant = taken.envelopes[0].tenant
        waiting = self._waiting.get(tenant)
        if waiting is None:
            if await self._is_paid(tenant, taken):
                return True
            waiting = self._waiting[tenant] = deque()
        waiting.append(taken)
        self._count += 1
        self._bytes += len(taken.message.body)
        return False

    async def due(self) -> list[Taken]:
        """Take out what may go on now."""
        now = self._monotonic()
        ready: list[Taken] = []
        for tenant in [tenant for tenant, due_at in self._due.items() if due_at <= now]:
            waiting = self._waiting[tenant]
            while waiting and await self._is_paid(tenant, waiting[0]):
                ready.append(waiting.popleft())
            if not waiting:
                del self._waiting[tenant], self._due[tenant]
        self._count -= len(ready)
        self._bytes -= sum(len(each.message.body) for each in ready)
        return ready

    async def _is_paid(self, tenant: Tenant, taken: Taken) -> bool:
        try:
            await self._spend(tenant, len(taken.envelopes))
        except LimitExceeded as error:
            self._due[tenant] = self._monotonic() + max(RETRY_SECONDS, error.retry_after.total_seconds())
            return False
        return True
