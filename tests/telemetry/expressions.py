"""Which metrics and labels an expression of PromQL names. No parser: it knows what our rules and panels are made of."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SELECTOR = re.compile(r"\b(?P<name>(?:notifier|process|python)_[a-z_]+)\b(?:\{(?P<matchers>[^}]*)\})?")
_MATCHER = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^)]*)\)")
TARGET_LABELS = frozenset({"job", "instance", "namespace", "pod"})
"""What Prometheus adds by where it has scraped."""


class Used(NamedTuple):
    """A metric, and the labels by which an expression selects its series."""

    name: str
    labels: frozenset[str]


def selected(expression: str) -> Iterator[Used]:
    """Each selector."""
    for match in _SELECTOR.finditer(expression):
        yield Used(match["name"], frozenset(_MATCHER.findall(match["matchers"] or "")))


def grouped(expression: str) -> set[str]:
    """The labels by which is grouped or joined."""
    return {label.strip() for group in _GROUPING.findall(expression) for label in group.split(",")}


def unknown(expression: str, labels_of: dict[str, set[str]]) -> list[str]:
    """What the expression names though nobody shows it; `labels_of` is what is shown, by the name of each series."""
    problems = [used.name for used in selected(expression) if used.name not in labels_of]
    known = set(TARGET_LABELS)
    for used in selected(expression):
        own = labels_of.get(used.name, set())
        known |= own
        problems += [f"{used.name}{{{label}}}" for label in used.labels - own - TARGET_LABELS]
    return problems + [f"by ({label})" for label in grouped(expression) - known]
