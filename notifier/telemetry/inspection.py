"""What the core looks like from outside, for operators: sessions, notifications, numbers. It only reads."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from notifier.core.audience import Address
from notifier.core.hub import Hub
from notifier.core.identity import Tenant
from notifier.core.notification import rfc3339
from notifier.core.pipeline import Pipeline
from notifier.core.ports import CloseReason
from notifier.core.session import Session
from notifier.core.window import Window
from notifier.telemetry.metrics import Reading


class Inspection:
    """Looks at one replica."""

    def __init__(self, hub: Hub, window: Window, pipeline: Pipeline) -> None:
        self._hub = hub
        self._window = window
        self._pipeline = pipeline

    def sessions(self, tenant: str | None, user: str | None) -> Sequence[Mapping[str, Any]]:
        """The sessions here, of one tenant and user if these are given."""
        return [
            self._describe(session)
            for session in self._hub
            if tenant in (None, session.identity.tenant) and user in (None, session.identity.user)
        ]

    def notification(self, notification_id: str, tenant: str, user: str | None) -> Mapping[str, Any] | None:
        """What is known of a notification; with a user, whether it is for them and written to their sessions here."""
        entry = self._window.find(Tenant(tenant), notification_id)
        if entry is None:
            return None
        position, envelope = entry
        found: dict[str, Any] = {
            "id": envelope.id,
            "tenant": envelope.tenant,
            "position": str(position),
            "accepted_at": rfc3339(envelope.accepted_at_ms),
            "expires_at": rfc3339(envelope.expires_at_ms),
            "collapse_key": envelope.collapse_key,
        }
        if user is not None:
            found["named"] = envelope.audience.everyone or Address("user", user) in envelope.audience.include
            found["sessions"] = [
                {
                    "session": session.id,
                    "entitled": envelope.audience.reaches(session.addresses()),
                    "written": position <= self._hub.position_of(session),
                }
                for session in self._hub.sessions_of(envelope.tenant, user)
            ]
        return found

    def readings(self) -> Mapping[str, Reading]:
        """The numbers that the core keeps anyway."""
        hub, window, pipeline = self._hub, self._window, self._pipeline
        return {
            "notifier_repeats_total": lambda: pipeline.repeats,
            "notifier_journal_append_seconds": lambda: pipeline.append_durations,
            "notifier_journal_appends_refused_total": lambda: pipeline.appends_refused,
            "notifier_journal_lag_seconds": lambda: pipeline.lag,
            "notifier_delivery_seconds": lambda: hub.delivery_durations,
            "notifier_deliveries_total": lambda: hub.delivered,
            "notifier_unreached_total": lambda: hub.unreached,
            "notifier_dropped_total": lambda: pipeline.dropped,
            "notifier_sessions": lambda: len(hub),
            "notifier_sessions_behind": lambda: len(hub.replay),
            "notifier_fallen_behind_total": lambda: hub.fallen_behind,
            "notifier_sessions_closed_total": lambda: {
                (reason.name.lower(),): hub.closed[reason] for reason in CloseReason
            },
            "notifier_resumes_total": lambda: hub.resumes,
            "notifier_window_entries": lambda: len(window),
            "notifier_window_bytes": lambda: window.size_bytes,
            "notifier_window_age_seconds": self._window_age_seconds,
            "notifier_window_evictions_total": lambda: {
                ("age",): window.evicted_by_age,
                ("size",): window.evicted_by_size,
            },
        }

    def _window_age_seconds(self) -> float:
        oldest_at_ms = self._window.oldest_at_ms
        return 0.0 if oldest_at_ms is None else max(0.0, time.time() - oldest_at_ms / 1000)

    def _describe(self, session: Session) -> Mapping[str, Any]:
        identity = session.identity
        return {
            "session": session.id,
            "tenant": identity.tenant,
            "user": identity.user,
            "roles": sorted(identity.roles),
            "topics": sorted(session.topics),
            "state": "live" if session.cursor is None else "behind",
            "position": str(self._hub.position_of(session)),
            "delivered": session.delivered,
            "expires_at": rfc3339(int(identity.expires_at * 1000)),
        }
