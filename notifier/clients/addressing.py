"""Whom a notification is for, in a sender's words."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """The union of users, topics and roles, or everyone of the tenant; less those that are excluded.

    Made by the functions below, as `users("alice") | topics("orders.eu")`; up to 1,000 users, 100 topics and 100 roles.

    Args:
        tenant: another one than the sender's own, for a sender that may; None is its own.
    """

    users: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    everyone: bool = False
    excluded_users: tuple[str, ...] = ()
    excluded_roles: tuple[str, ...] = ()
    tenant: str | None = None

    def __or__(self, other: Self) -> Self:
        """Both audiences, less whom either excludes. Raises ValueError where they are of different tenants."""
        tenants = {self.tenant, other.tenant} - {None}
        if len(tenants) > 1:
            raise ValueError(f"a notification is for one tenant, and not for {self.tenant} and {other.tenant}")
        return replace(
            self,
            users=self.users + other.users,
            topics=self.topics + other.topics,
            roles=self.roles + other.roles,
            everyone=self.everyone or other.everyone,
            excluded_users=self.excluded_users + other.excluded_users,
            excluded_roles=self.excluded_roles + other.excluded_roles,
            tenant=next(iter(tenants), None),
        )

    def excluding(self, *, users: Iterable[str] = (), roles: Iterable[str] = ()) -> Self:
        """The same, less these, whatever includes them."""
        return replace(
            self,
            excluded_users=self.excluded_users + _names(users),
            excluded_roles=self.excluded_roles + _names(roles),
        )

    def of(self, tenant: str) -> Self:
        """The same, of another tenant: needs the scope `notify:any-tenant`, or a `tenants` claim that lists it."""
        return replace(self, tenant=tenant)

    def to_json(self) -> dict[str, Any]:
        """The member `to` of a request."""
        exclude = {"users": list(self.excluded_users), "roles": list(self.excluded_roles)}
        members = {
            "users": list(self.users),
            "topics": list(self.topics),
            "roles": list(self.roles),
            "everyone": self.everyone,
            "exclude": {name: names for name, names in exclude.items() if names},
            "tenant": self.tenant,
        }
        return {name: value for name, value in members.items() if value}


def users(*names: str) -> Audience:
    """These users."""
    return Audience(users=names)


def topics(*names: str) -> Audience:
    """Whoever is subscribed to one of these topics."""
    return Audience(topics=names)


def roles(*names: str) -> Audience:
    """Whoever has one of these roles."""
    return Audience(roles=names)


def everyone() -> Audience:
    """Everyone of the tenant: needs the scope `notify:broadcast`."""
    return Audience(everyone=True)


def _names(names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"expected several names, and not the text {names!r}")
    return tuple(names)
