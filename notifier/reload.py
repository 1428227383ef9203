"""What SIGHUP does: reads all settings anew, and takes over what a running service can, or nothing."""

import logging
from collections.abc import Callable
from typing import Final

from notifier.app import Service
from notifier.broker.rotation import place_of
from notifier.settings import RELOADED, Settings, SettingsError, changed_names

log: Final = logging.getLogger(__name__)


class Reloader:
    """Called at each signal.

    Args:
        settings: those in force.
        read: those of now, from the same environment and its files; raises SettingsError.
    """

    def __init__(self, settings: Settings, service: Service, read: Callable[[], Settings]) -> None:
        self._settings = settings  # What the parts that cannot be changed go by; the others were last told `_taken`.
        self._taken = settings
        self._service = service
        self._read = read

    def __call__(self) -> None:
        """Take over what has changed, in one turn of the event loop; on any problem nothing, and say so."""
        try:
            settings = self._read()
            self._service.trust(settings)
        except SettingsError as error:
            self._service.metrics.count_reload("refused")
            log.error("settings not reloaded", extra={"problems": error.problems})
            return
        self._service.metrics.count_reload("taken")
        changed = [name for name in changed_names(self._taken, settings) if name in RELOADED]
        log.info("settings reloaded", extra={"changed": changed})  # Key files may have changed beside them.
        left = [name for name in changed_names(self._settings, settings) if name not in RELOADED]
        for name, before, after in (
            ("NOTIFIER_JOURNAL__URL", self._settings.journal.url, settings.journal.url),
            ("NOTIFIER_QUEUE__URL", self._settings.queue.url, settings.queue.url),
        ):
            # A new password is taken at the next connection anyway.
            if name in left and place_of(before.get_secret_value()) == place_of(after.get_secret_value()):
                left.remove(name)
        if left:
            log.warning("settings take a restart", extra={"settings": left})
        self._taken = settings
