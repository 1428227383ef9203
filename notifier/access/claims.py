"""Reading claims: where a token says what, and the form each must have."""

import re
import unicodedata
from collections.abc import Hashable
from functools import lru_cache
from typing import Final, TypeVar

from notifier.access.segments import Claims, refuse
from notifier.access.topics import parse_pattern
from notifier.core.identity import TopicPattern

_SCOPE_LIMIT: Final = 256
_YEAR_10000: Final = 253_402_300_800
_TENANT: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
ClaimPath = tuple[str, ...]
_Value = TypeVar("_Value", bound=Hashable)


def claim_at(claims: Claims, path: ClaimPath) -> object:
    """Return what stands at the end of the path; None when there is nothing."""
    value: object = claims if path else None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def strings_at(claims: Claims, path: ClaimPath, what: str) -> tuple[str, ...]:
    """Return a claim that is a string or an array of strings as a tuple; nothing, null and "" are empty."""
    value = claim_at(claims, path)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        refuse(f"{what} must be a string or an array of strings")
    return tuple(values)


def printable(value: object, limit: int, what: str) -> str:
    """Return a name in NFC."""
    name = unicodedata.normalize("NFC", value) if isinstance(value, str) else ""
    if not 0 < len(name) <= limit or not name.isprintable():
        refuse(f"{what} must be 1 to {limit} printable characters")
    return name


def scopes_at(claims: Claims, path: ClaimPath) -> frozenset[str]:
    """Return the scopes; a string holds several, split by spaces."""
    value = claim_at(claims, path)
    scopes = filter(None, value.split(" ")) if isinstance(value, str) else strings_at(claims, path, "scopes")
    return frozenset(printable(scope, _SCOPE_LIMIT, "a scope") for scope in scopes)


def pattern(text: str) -> TopicPattern:
    """Parse a topic pattern."""
    try:
        return parse_pattern(text)
    except ValueError:
        pass
    refuse("a topic pattern in it is malformed")


def tenant_name(value: object) -> str:
    """Return the name of a tenant."""
    if not isinstance(value, str) or _TENANT.fullmatch(value) is None:
        refuse("a tenant must be 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def instant(claims: Claims, name: str) -> float:
    """Return a claim that is a time, in Unix seconds."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        refuse(f"{name} must be a number of seconds since 1970")
    return float(value)


# Thousands of tokens say the same: their sessions then share one set of roles, of scopes, of patterns.
@lru_cache(maxsize=4_096)
def shared(value: _Value) -> _Value:
    """The first that was equal to the value."""
    return value
