"""Every setting of the service, read from the environment: `NOTIFIER_`, and names joined by `__`.

A wrong value, an unknown name and a combination that cannot work are each refused with a sentence that helps.
"""

from notifier.settings.access import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER, DEVELOPMENT_SECRET, Match
from notifier.settings.environment import SettingsError, read_settings
from notifier.settings.issuers import Issuer
from notifier.settings.model import Settings
from notifier.settings.names import PREFIX, RELOADED, changed_names, describe_settings, known_names

__all__ = [
    "DEVELOPMENT_AUDIENCE",
    "DEVELOPMENT_ISSUER",
    "DEVELOPMENT_SECRET",
    "PREFIX",
    "RELOADED",
    "Issuer",
    "Match",
    "Settings",
    "SettingsError",
    "changed_names",
    "describe_settings",
    "known_names",
    "read_settings",
]
