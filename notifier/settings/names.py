"""The names of all settings, as the environment has them, and their values by name."""

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from notifier.settings.limits import Limits
from notifier.settings.model import Settings
from notifier.settings.values import Group

PREFIX: Final = "NOTIFIER_"
RELOADED: Final = frozenset(
    {
        *(f"{PREFIX}HTTP__{name}" for name in ("ALLOWED_ORIGINS", "PUBLIC_ORIGIN")),
        *(f"{PREFIX}ACCESS__{name}" for name in ("ISSUERS", "TOPIC_RULES", "DEFAULT_TENANT", "TICKET_SECRETS")),
        *(f"{PREFIX}ACCESS__{name}" for name in ("LEEWAY_SECONDS", "TOKEN_MAX_LIFETIME_SECONDS")),
        *(f"{PREFIX}LIMITS__{name.upper()}" for name in Limits.model_fields),
    }
)
"""What a running service takes over from files, on SIGHUP."""


def known_names() -> dict[str, FieldInfo]:
    """Every name of the environment that means something, with its field."""
    return dict(_names_of(Settings, PREFIX))


def changed_names(before: Settings, after: Settings) -> list[str]:
    """The names of the settings that differ."""
    return [name for name in known_names() if _value_of(before, name) != _value_of(after, name)]


def describe_settings(settings: Settings) -> list[str]:
    """One line per setting that is in force, as it would stand in the environment; secrets are masked."""
    return [f"{name}={_as_text(_value_of(settings, name))}" for name in known_names()]


def _value_of(settings: Settings, name: str) -> object:
    value: Any = settings
    for step in name.removeprefix(PREFIX).lower().split("__"):
        value = getattr(value, step)
    return value


def _as_text(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], SecretStr):
        return ",".join("***" for _ in value)
    if isinstance(value, list):
        return json.dumps([each.model_dump(mode="json") if isinstance(each, BaseModel) else each for each in value])
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(url: str) -> str:
    """The URL without the password; its query may hold one as well, as that of a key file."""
    if "@" not in url and "?" not in url:
        return url
    parts = urlsplit(url)
    at = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}:***@" if parts.username else ""
    return parts._replace(netloc=user + at, query="***" if parts.query else "").geturl()


def _names_of(group: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in group.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Group):
            yield from _names_of(kind, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field
