"""JSON as the doors accept it: no duplicate names, no numbers beyond a float, no lone surrogates, no deep nesting.

The standard parser takes all of these. Here they do not stop the parsing either: each leaves a mark in its place, and
`flaws` finds the marks, so that one bad item of a batch is named by its pointer and the others are not lost.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from notifier.core.errors import BadRequest, InvalidNotification, Violation

DEPTH_LIMIT: Final = 8
FLAWS_LIMIT: Final = 100  # Named in one answer; a body can break a hundred thousand rules.


@dataclass(frozen=True, slots=True)
class _Mark:
    code: str
    detail: str


def parse(raw: bytes) -> object:
    """Parse UTF-8 JSON. Raises BadRequest when it is none, InvalidNotification when its depth breaks the parser."""
    try:
        text = raw.decode()
        try:
            return _DECODER.decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:  # An integer of over 4,300 digits; parse again to mark it in its place.
            return _CAREFUL_DECODER.decode(text)
    except UnicodeDecodeError:
        raise BadRequest("not_json", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        detail = f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise BadRequest("not_json", detail) from None
    except RecursionError:
        raise InvalidNotification([_too_deep("")]) from None


def flaws(value: object, *, depth: int = DEPTH_LIMIT) -> list[Violation]:
    """Name the broken rules in a parsed value, a hundred at most; the value itself is at depth 1."""
    return [] if is_clean(value, depth=depth) else list(islice(_flaws(value, "", depth), FLAWS_LIMIT))


def is_clean(value: object, *, depth: int = DEPTH_LIMIT) -> bool:
    """Tell whether `flaws` would find nothing. Nearly always so, and told in a third of its time."""
    if isinstance(value, str):
        return value.isascii() or _is_unicode(value)
    if isinstance(value, dict):
        return depth > 0 and all(
            (name.isascii() or _is_unicode(name)) and is_clean(item, depth=depth - 1) for name, item in value.items()
        )
    if isinstance(value, list):
        return depth > 0 and all(is_clean(item, depth=depth - 1) for item in value)
    return not isinstance(value, _Mark)


def _flaws(value: object, pointer: str, levels: int) -> Iterator[Violation]:
    if isinstance(value, str):
        if not _is_unicode(value):
            yield Violation(pointer, "lone_surrogate", "text holds half of a surrogate pair")
    elif isinstance(value, _Mark):
        yield Violation(pointer, value.code, value.detail)
    elif isinstance(value, dict | list):
        if not levels:
            yield _too_deep(pointer)
            return
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            if isinstance(name, str) and not _is_unicode(name):
                yield Violation(pointer, "lone_surrogate", "a name holds half of a surrogate pair")
            else:
                yield from _flaws(item, f"{pointer}/{escape(name)}", levels - 1)


def escape(name: object) -> str:
    """Write one step of a JSON pointer (RFC 6901)."""
    return str(name).replace("~", "~0").replace("/", "~1")


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep(pointer: str) -> Violation:
    return Violation(pointer, "too_deep", "the nesting is too deep")


def _object(pairs: list[tuple[str, object]]) -> object:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    return _Mark("duplicate_name", "an object has two members of one name")


def _constant(name: str) -> object:
    return _Mark("number_not_finite", f"{name} is not a JSON number")


def _float(text: str) -> object:
    number = float(text)
    return number if math.isfinite(number) else _Mark("number_not_finite", "a number is beyond what a double holds")


def _integer(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return _Mark("number_too_long", "an integer has too many digits")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_CAREFUL_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float, parse_int=_integer
)
