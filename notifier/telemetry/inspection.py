"""What the core looks like from outside, in numbers. It only reads."""

import time
from collections.abc import Mapping

from notifier.core.canary import Canary
from notifier.core.hub import Hub
from notifier.core.pipeline import Pipeline
from notifier.core.ports import CloseReason
from notifier.core.window import Window
from notifier.telemetry.metrics import Reading


class Inspection:
    """Looks at one replica."""

    def __init__(self, hub: Hub, window: Window, pipeline: Pipeline) -> None:
        self._hub = hub
        self._window = window
        self._pipeline = pipeline

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


def canary_readings(canary: Canary) -> Mapping[str, Reading]:
    """The numbers of what a replica sends to itself."""
    return {
        "notifier_canary_round_trip_seconds": lambda: canary.round_trips,
        "notifier_canary_missed_total": lambda: canary.missed,
        "notifier_canary_rebuilds_total": lambda: canary.rebuilds,
        "notifier_canary_missing": lambda: canary.is_missing,
    }
