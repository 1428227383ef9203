"""From the environment, and the files that it names, to settings; or to a sentence for each mistake."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from notifier.setting_files import SUFFIX, with_files
from notifier.settings.model import Settings
from notifier.settings.names import PREFIX, known_names

# What Kubernetes injects for a Service called notifier, or notifier-something. A bare port, as in NOTIFIER_PORT=8000,
# is somebody's mistake; Kubernetes writes tcp://10.0.0.1:8000.
_SERVICE_NAME: Final = re.compile(r"NOTIFIER_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?)")
_SERVICE_LINK: Final = re.compile(r"NOTIFIER_([A-Z0-9_]+_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)(://.*)?", re.IGNORECASE)


class SettingsError(Exception):
    """The environment does not make a working configuration; `problems` has a sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the environment, and the files that it names; `overrides`, by the same names, win over both.

    Raises:
        SettingsError: with every mistake at once.
    """
    named = {name: str(value) for name, value in (overrides or {}).items()}
    overridden = {name + SUFFIX for name in named}
    environment = {name: value for name, value in os.environ.items() if name not in overridden} | named
    given, files, problems = with_files(
        {name: value for name, value in environment.items() if _is_ours(name, value)}, known_names()
    )
    problems += [_unknown(name) for name in sorted(given.keys() - known_names().keys())]
    if environment.get("WEB_CONCURRENCY", "") not in ("", "0", "1"):
        problems.append("WEB_CONCURRENCY is over 1: one process is one replica; start more replicas instead")
    try:
        settings = Settings.model_validate(_nested(given))
    except ValidationError as error:
        problems += [_problem(each, files) for each in error.errors(include_url=False, include_input=False)]
    if problems:
        raise SettingsError(problems)
    settings._files = files
    return settings


def _is_ours(name: str, value: str) -> bool:
    if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
        return False
    is_injected = _SERVICE_NAME.fullmatch(name) or (_SERVICE_LINK.fullmatch(name) and _LINK_VALUE.fullmatch(value))
    # NOTIFIER_PORT_8000_TCP_PORT and _ADDR hold a bare value, and no name of ours looks like them.
    return not (is_injected or re.search(r"_PORT_\d+_(TCP|UDP|SCTP)(_|$)", name))


def _nested(given: Mapping[str, str]) -> dict[str, Any]:
    """Names joined by `__` as nested objects."""
    nested: dict[str, Any] = {}
    for name in given.keys() & known_names().keys():
        *groups, last = name.removeprefix(PREFIX).lower().split("__")
        group = nested
        for each in groups:
            group = group.setdefault(each, {})
        # An empty value takes a name away, where a setting can go without.
        group[last] = None if not given[name] and known_names()[name].annotation == str | None else given[name]
    return nested


def _unknown(name: str) -> str:
    suffix = SUFFIX if name.endswith(SUFFIX) else ""
    nearest = difflib.get_close_matches(name.removesuffix(suffix), known_names(), n=1, cutoff=0.6)
    return f"{name} is not a setting" + (f"; did you mean {nearest[0]}{suffix}?" if nearest else "")


def _problem(error: ErrorDetails, files: Mapping[str, Path]) -> str:
    """Name the setting, and the place inside it where it is JSON."""
    text = error["msg"].removeprefix("Value error, ")
    name = PREFIX.removesuffix("_")
    separator = "_"
    steps = [str(step) for step in error["loc"]]
    while steps and name not in known_names():
        name += separator + steps.pop(0).upper()
        separator = "__"
    name += SUFFIX if name in files else ""
    place = "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps)
    return f"{name}{place}: {text}" if error["loc"] else text
