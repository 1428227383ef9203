"""Says what a topic name and a topic pattern are, and which topics a bearer may subscribe to."""

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from sys import intern
from typing import Final, Literal

from notifier.core.identity import Identity, TopicPattern

SEGMENT_LIMIT: Final = 10
LENGTH_LIMIT: Final = 256
_SUB: Final = "{sub}"
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_TOPIC = re.compile(rf"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){{0,{SEGMENT_LIMIT - 1}}}")


def is_topic(name: str) -> bool:
    """Tell whether `name` is a topic. Names that begin with `$` are reserved and are not."""
    return len(name) <= LENGTH_LIMIT and _TOPIC.fullmatch(name) is not None


# Kept because many tokens carry the same patterns: their sessions then share one tuple.
@lru_cache(maxsize=4_096)
def parse_pattern(text: str) -> TopicPattern:
    """Read a pattern: words, `*`, `#` and `{sub}` between dots, within the limits of a topic.

    Raises:
        ValueError: the text is no pattern.
    """
    segments = tuple(map(intern, text.split(".")))
    if len(text) > LENGTH_LIMIT or len(segments) > SEGMENT_LIMIT:
        raise ValueError(f"a topic pattern has at most {SEGMENT_LIMIT} segments and {LENGTH_LIMIT} characters")
    if not all(segment in ("*", "#", _SUB) or _WORD.fullmatch(segment) for segment in segments):
        raise ValueError("a topic pattern holds words of A-Z a-z 0-9 _ -, or *, # or {sub}, between dots")
    return segments


def fill_in(pattern: TopicPattern, user: str) -> TopicPattern | None:
    """Put the user id where `{sub}` stands; None when it is no single word, since nothing could match then.

    Done after parsing, so that a user id such as `*` or `a.#` never turns into a wildcard.
    """
    if _SUB not in pattern:
        return pattern
    if _WORD.fullmatch(user) is None:
        return None
    return tuple(user if segment == _SUB else segment for segment in pattern)


def matches(pattern: TopicPattern, topic: str) -> bool:
    """Tell whether a topic fits a pattern, in at most len(pattern) * len(topic) steps."""
    return _fits(pattern, topic.split("."))


def _fits(pattern: TopicPattern, segments: Sequence[str]) -> bool:
    # When a segment does not fit, only the last "#" needs to take one more: earlier ones could gain nothing by it.
    at = taken = 0
    resume_at, resume_taken = -1, 0
    while taken < len(segments):
        wanted = pattern[at] if at < len(pattern) else None
        if wanted == "#":
            resume_at, resume_taken, at = at, taken, at + 1
        elif wanted == "*" or wanted == segments[taken]:
            at, taken = at + 1, taken + 1
        elif resume_at >= 0:
            resume_taken += 1
            at, taken = resume_at + 1, resume_taken
        else:
            return False
    return all(segment == "#" for segment in pattern[at:])


@dataclass(frozen=True, slots=True)
class TopicRule:
    """A setting that lets bearers subscribe: those with a role, with a scope, or any.

    Args:
        kind: what `value` names.
        value: the role or scope; not looked at when kind is `any`.
        allow: patterns as text.
    """

    kind: Literal["role", "scope", "any"]
    value: str
    allow: tuple[str, ...]
    patterns: tuple[TopicPattern, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(parse_pattern(text) for text in self.allow))

    def applies(self, roles: Set[str], scopes: Set[str]) -> bool:
        """Tell whether a bearer with these roles and scopes is meant."""
        match self.kind:
            case "any":
                return True
            case "role":
                return self.value in roles
            case "scope":
                return self.value in scopes


def allowed_patterns(
    rules: Iterable[TopicRule], claimed: Iterable[TopicPattern], *, user: str, roles: Set[str], scopes: Set[str]
) -> tuple[TopicPattern, ...]:
    """Return the patterns of the token and of the rules that apply, each once, with the user id filled in."""
    granted = chain(claimed, *(rule.patterns for rule in rules if rule.applies(roles, scopes)))
    filled = (fill_in(pattern, user) for pattern in granted)
    return tuple(dict.fromkeys(pattern for pattern in filled if pattern is not None))


def grant(
    identity: Identity, topics: Iterable[str], *, already: Set[str] = frozenset(), limit: int = 100
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Split the topics asked for into those granted and those denied, each once and in the order asked.

    No more than `limit` names are judged, whatever the verdicts: a frame full of names must not hold up the process.

    Args:
        already: the topics the session has; asking for one of them again is granted and costs nothing.
        limit: how many topics the session may have, those included.

    Returns:
        The topics granted, and (topic, code) of the others: `topic_invalid`, `topic_forbidden`, `too_many_topics`.
    """
    asked = iter(dict.fromkeys(topics))
    granted: list[str] = []
    denied: list[tuple[str, str]] = []
    room = limit - len(already)
    for topic in islice(asked, limit):
        code = None if topic in already else _objection(identity, topic, has_room=room > 0)
        if code is not None:
            denied.append((topic, code))
            continue
        granted.append(topic)
        room -= topic not in already
    denied.extend((topic, "too_many_topics") for topic in asked)
    return tuple(granted), tuple(denied)


def _objection(identity: Identity, topic: str, *, has_room: bool) -> str | None:
    if not is_topic(topic):
        return "topic_invalid"
    if not _may_subscribe(identity, topic):
        return "topic_forbidden"
    return None if has_room else "too_many_topics"


def _may_subscribe(identity: Identity, topic: str) -> bool:
    segments = topic.split(".")
    # The first segment rules out most patterns of a long list at a tenth of the cost of a full comparison.
    heads = (segments[0], "*", "#")
    return any(pattern[0] in heads and _fits(pattern, segments) for pattern in identity.topic_patterns)
