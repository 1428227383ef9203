"""What the settings say of limits, made ready: how often, how many, and where replicas count together."""

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from notifier.access.limits import Limits
from notifier.access.seats import SeatLimits, Seats
from notifier.settings import Settings, SettingsError
from notifier.telemetry.metrics import Reading

if TYPE_CHECKING:
    from notifier.access.shared import Shared


def shared_of(settings: Settings) -> "Shared | None":
    """The Redis that the settings name. Raises SettingsError when its client is not installed."""
    if not (url := settings.counts.url.get_secret_value()):
        return None
    try:
        from notifier.access.shared import Shared  # noqa: PLC0415 - an extra, which only this setting needs
    except ImportError:
        needed = "NOTIFIER_COUNTS__URL needs the extra redis: pip install '.[server,redis]' in the project's folder"
        raise SettingsError([needed]) from None
    return Shared(
        url,
        prefix=settings.broker.prefix,
        patience_seconds=settings.counts.patience_seconds,
        away_seconds=settings.counts.away_seconds,
    )


class Counts:
    """The limits of one replica. Raises SettingsError when Redis is named and its client is not installed.

    Args:
        close: ends the session of this id, if it is here, since a newer one takes its seat.
    """

    def __init__(self, settings: Settings, *, close: Callable[[str], None]) -> None:
        sessions, policies = settings.sessions, settings.limits.model_dump()
        seat_limits = SeatLimits(
            sessions.max_per_address,
            sessions.max_per_tenant,
            sessions.max_per_user,
            evicts=sessions.at_limit == "evict_oldest",
        )
        self.work: Coroutine[Any, Any, None] | None = None  # Keeps Redis up to date; None without one.
        self._shared = shared = shared_of(settings)
        if shared is None:
            self.limits, self.seats = Limits(policies), Seats(seat_limits, close=close)
            return
        from notifier.access.shared_rates import SharedRates  # noqa: PLC0415 - needs the extra, as `Shared`
        from notifier.access.shared_seats import SharedSeats  # noqa: PLC0415

        entered = SharedSeats(shared, seats=lambda: self.seats, evict=self._evict)
        self.limits = Limits(policies, SharedRates(shared, settings.counts.url.get_secret_value()))
        self.seats = Seats(seat_limits, close=close, shared=entered)
        self.work = entered.run()

    def _evict(self, session: str) -> None:
        self.seats.evict(session)

    def readings(self, turned_away: Mapping[tuple[str, ...], int]) -> Mapping[str, Reading]:
        """What was refused, by limit; `turned_away` are the handshakes that the gate has refused."""
        readings: dict[str, Reading] = {
            "notifier_limited_total": lambda: {
                **{(f"sessions_{over}",): count for (over,), count in self.seats.refused.items()},
                **self.limits.refused,
                **turned_away,
            },
            "notifier_sessions_evicted_total": lambda: self.seats.evicted,
        }
        if (shared := self._shared) is not None:
            readings |= {
                "notifier_shared_counts_reached": lambda: shared.is_there,
                "notifier_shared_counts_lost_total": lambda: shared.losses,
            }
        return readings
