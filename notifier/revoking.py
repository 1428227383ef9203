"""Revocation in one replica: its parts are built and introduced to each other, for `app.py` to run and to show."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from notifier.access.gate import Gate
from notifier.access.limits import Limits
from notifier.access.revocations import Revocations
from notifier.access.revoker import Receipt, Revoker, Wish
from notifier.core.control import Control
from notifier.core.errors import Unavailable
from notifier.core.hub import Hub
from notifier.core.identity import Tenant
from notifier.engine import build_control, control_readings
from notifier.ingress.revocations import RevocationDoor, RevocationGuard, Subject
from notifier.journal.control import MemoryControl
from notifier.settings import Settings
from notifier.telemetry.metrics import Reading

log: Final = logging.getLogger(__name__)
RETRY_SECONDS: Final = 0.5


class Revoking:
    """Takes revocations in, and has those of all replicas hold here. `control` carries other records as well."""

    def __init__(self, settings: Settings, hub: Hub) -> None:
        self._stream = build_control(settings) if settings.journal.is_shared else None
        timeout_seconds = settings.journal.publish_timeout_seconds
        self.control = Control(self._stream or MemoryControl(), publish_timeout_seconds=timeout_seconds)
        self._revocations = Revocations(capacity=settings.access.max_revocations)
        self._revoker = Revoker(self.control, self._revocations, hub, token_life_seconds=_token_life_seconds(settings))
        self.covers = self._revocations.covers

    def trust(self, settings: Settings) -> None:
        """Take over how long tokens live."""
        self._revoker.token_life_seconds = _token_life_seconds(settings)

    def build_door(self, gate: Gate, limits: Limits, *, body_seconds: float) -> RevocationDoor:
        """The door for `POST /revocations`."""
        guard = RevocationGuard(
            authenticate=gate.authenticate_revoker,
            authorise=lambda caller, tenant: gate.authorise(caller, tenant, everyone=False),
            spend=lambda caller: limits.spend("revoke", f"{caller.issuer} {caller.tenant} {caller.user}"),
        )

        async def revoke(tenant: Tenant, by: Subject, name: str, issued_before: float | None) -> Receipt:
            return await self._revoker.revoke(Wish(tenant, by, name, issued_before))

        return RevocationDoor(revoke, guard, body_seconds=body_seconds)

    def work(self) -> Mapping[str, Coroutine[Any, Any, None]]:
        """What has to run as long as the app, by name."""
        work = {"control follower": self.control.follow_control(), "revoker": self._revoker.run()}
        return work if self._stream is None else work | {"control writer": self._stream.run()}

    async def catch_up(self) -> None:
        """Return once every revocation was read that somebody was told of before."""
        while not self.control.has_caught_up:
            try:
                await self.control.catch_up()
                log.info("revocations read", extra={"revocations": len(self._revocations)})
            except Unavailable as error:
                log.warning("revocations not read yet", extra={"reason": error.detail})
                await asyncio.sleep(RETRY_SECONDS)

    def state(self) -> str:
        """Whether revocations are heard here. Clients may come all the same, once those of before were read."""
        trouble = None if self._stream is None else self._stream.trouble
        if not self.control.has_caught_up:
            return f"starting: {trouble}" if trouble else "starting"
        if self._stream is None or self._stream.is_following:
            return "ok"
        return f"degraded: {trouble or 'not following'}"

    def readings(self) -> Mapping[str, Reading]:
        """Its numbers."""
        readings: dict[str, Callable[[], Any]] = {
            "notifier_revocations_held": lambda: len(self._revocations),
            "notifier_revocations_total": lambda: {(by,): count for by, count in self._revoker.taken.items()},
            "notifier_control_skipped_records_total": lambda: self.control.skipped,
        }
        return readings if self._stream is None else readings | dict(control_readings(self._stream))


def _token_life_seconds(settings: Settings) -> float:
    """How long a token may count that is issued now: its clock may be ahead of ours, and its end is not kept sharp."""
    access = settings.access
    return access.token_max_lifetime_seconds + 2 * access.leeway_seconds
