"""Whom a notification is for: the union of what it includes, less what it excludes, within one tenant."""

from collections.abc import Set
from typing import Final, Literal, NamedTuple

Kind = Literal["user", "topic", "role", "everyone"]


class Address(NamedTuple):
    """One name that notifications can be sent to and sessions can be reached at."""

    kind: Kind
    value: str


EVERYONE: Final = Address("everyone", "")
"""The address at which each session of a tenant is reached."""


class Audience(NamedTuple):
    """Addresses to include (`EVERYONE` for all of the tenant) and addresses to exclude (users and roles)."""

    include: tuple[Address, ...]
    exclude: tuple[Address, ...] = ()

    @property
    def everyone(self) -> bool:
        """Tell whether all of the tenant is meant, less the excluded."""
        return EVERYONE in self.include

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics, where the audience is topics alone; else empty, so that nobody learns of other recipients."""
        if self.include and self.include[0].kind != "topic":
            return ()  # Of most audiences the first address tells it.
        topics = tuple(value for kind, value in self.include if kind == "topic")
        return topics if len(topics) == len(self.include) else ()

    def reaches(self, addresses: Set[Address]) -> bool:
        """Tell whether somebody reachable at `addresses` is meant."""
        return not addresses.isdisjoint(self.include) and addresses.isdisjoint(self.exclude)
