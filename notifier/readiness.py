"""Whether clients may be sent to this replica, and why not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from notifier.access.gate import Gate
from notifier.access.key_pool import KeyPool
from notifier.core.canary import Canary
from notifier.core.errors import Unavailable
from notifier.core.ports import Journal
from notifier.ingress.amqp import QueueDoor
from notifier.journal.rabbitmq import RabbitJournal
from notifier.revoking import Revoking


@dataclass(frozen=True, slots=True)
class Readiness:
    """Looks at the parts of a replica when it is asked.

    Args:
        rabbit: the journal, where it is shared.
        on_journal_loss: whether a replica whose journal cannot be reached keeps its clients.
        runs: whether every background task does.
        is_ending: whether the process is about to end.
    """

    gate: Gate
    journal: Journal
    rabbit: RabbitJournal | None
    queue_door: QueueDoor | None
    canary: Canary | None
    keys: KeyPool
    revoking: Revoking
    on_journal_loss: Literal["keep", "fail"]
    runs: Callable[[], bool]
    is_ending: Callable[[], bool]

    async def __call__(self) -> tuple[bool, Mapping[str, str]]:
        """Whether to send clients here, and the state of each check."""
        is_journal_ready, journal = await self._journal_state()
        has_keys, keys = self.keys.state()
        runs, is_ending = self.runs(), self.is_ending()
        checks = {
            "journal": journal,
            "control": self.revoking.state(),
            "keys": keys,
            "queue": self._queue_state(),
            "canary": "off" if self.canary is None else "missing" if self.canary.is_missing else "ok",
            "workers": "ok" if runs else "failed",
            "drain": "ending" if is_ending else "ok",
        }
        delivers = self.canary is None or not self.canary.is_missing
        return is_journal_ready and has_keys and delivers and runs and not is_ending, checks

    async def check_open(self) -> None:
        """Raise Unavailable while nothing can be sent."""
        if self.gate.is_starting:
            raise Unavailable("starting", "this replica has not read the journal yet")
        await self.journal.check()

    def _queue_state(self) -> str:
        """Whether requests are taken from a queue here. Clients may come all the same."""
        if self.queue_door is None:
            return "none"
        if self.queue_door.is_consuming:
            return "ok"
        return f"degraded: {self.queue_door.losses.reason or 'not consuming'}"

    async def _journal_state(self) -> tuple[bool, str]:
        """Whether the journal lets this replica serve, and its state."""
        if self.gate.is_starting:
            trouble = self.rabbit.trouble if self.rabbit is not None else None
            return False, f"starting: {trouble}" if trouble else "starting"
        if self.rabbit is not None and self.rabbit.is_deaf():
            return False, "deaf"
        try:
            await self.journal.check()
        except Unavailable as error:
            return self.on_journal_loss == "keep", f"degraded: {error.code}"
        return True, "ok"
