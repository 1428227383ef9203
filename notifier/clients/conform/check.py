"""A check: one rule of the protocol, where it stands, and how a server is held against it."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from notifier.clients.conform.target import Target

CHECK_SECONDS: Final = 30.0
# RFC 3339 in UTC with milliseconds, as everywhere in the protocol.
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")

Run: TypeAlias = Callable[["Target"], Awaitable[None]]


class Broken(Exception):
    """The server does not keep the rule."""

    def __init__(self, expected: str, came: object) -> None:
        super().__init__(f"expected {expected}; got {came}")


class Inapplicable(Exception):
    """The rule cannot be tried; the text says why."""


@dataclass(frozen=True, slots=True)
class Check:
    """One rule.

    Args:
        claim: the rule as a sentence.
        source: the RFC or page that it stands in.
        run: tries it. Raises Broken or Inapplicable.
        is_slow: it only waits, and does so beside the others.
    """

    name: str
    claim: str
    source: str
    run: Run
    is_slow: bool = False
    within_seconds: float = CHECK_SECONDS


def rule(source: str, *, is_slow: bool = False, within_seconds: float = CHECK_SECONDS) -> Callable[[Run], Check]:
    """Make a check of a function: its name is the check's, its docstring the claim."""

    def make(run: Run) -> Check:
        claim, name = (run.__doc__ or "").strip(), getattr(run, "__name__", "").replace("_", "-")
        return Check(name, claim, source, run, is_slow, within_seconds)

    return make


def expect(is_so: object, expected: str, came: object) -> None:
    """Raise Broken unless it is so."""
    if not is_so:
        raise Broken(expected, came)


def same(what: str, came: object, expected: object) -> None:
    """Raise Broken unless both are equal."""
    expect(came == expected, f"{what} {expected}", came)


@asynccontextmanager
async def within(seconds: float, expected: str) -> AsyncIterator[None]:
    """Raise Broken where it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Broken(expected, f"nothing in {seconds:g} s") from None


def is_moment(value: object) -> bool:
    """Tell whether it is a timestamp of the protocol."""
    return isinstance(value, str) and _MOMENT.fullmatch(value) is not None
