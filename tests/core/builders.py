"""What the core tests arrange: envelopes and identities with everything that a test does not care about filled in."""

from collections.abc import Iterable
from itertools import count

from notifier.core.audience import EVERYONE, Address, Audience
from notifier.core.envelope import Envelope, Position
from notifier.core.identity import Identity, Tenant
from notifier.core.notification import Notification

ACME = Tenant("acme")
OTHER = Tenant("other")
NEVER = 2**62
"""Unix milliseconds by which no test has ended."""

_numbers = count(1)  # Makes ids unique; no test reads it.


def user(name: str) -> Address:
    return Address("user", name)


def topic(name: str) -> Address:
    return Address("topic", name)


def role(name: str) -> Address:
    return Address("role", name)


def audience(*include: Address, exclude: Iterable[Address] = ()) -> Audience:
    return Audience(include or (EVERYONE,), tuple(exclude))


def envelope(
    *include: Address,
    exclude: Iterable[Address] = (),
    tenant: Tenant = ACME,
    name: str | None = None,
    sealed: bytes = b"{}",
    accepted_at_ms: int = 0,
    expires_at_ms: int = NEVER,
    live_only: bool = False,
    collapse_key: str | None = None,
    key_digest: bytes | None = None,
    content_digest: bytes | None = None,
) -> Envelope:
    """An envelope for these addresses, everyone when there is none."""
    return Envelope(
        id=name or f"n{next(_numbers)}",
        tenant=tenant,
        audience=audience(*include, exclude=exclude),
        sealed=sealed,
        accepted_at_ms=accepted_at_ms,
        expires_at_ms=expires_at_ms,
        live_only=live_only,
        collapse_key=collapse_key,
        key_digest=key_digest,
        content_digest=content_digest,
    )


def identity(
    name: str = "alice", *, tenant: Tenant = ACME, roles: Iterable[str] = (), expires_at: float = float(NEVER)
) -> Identity:
    return Identity(
        tenant=tenant,
        user=name,
        issuer="issuer",
        roles=frozenset(roles),
        topic_patterns=(("#",),),
        scopes=frozenset(),
        tenants=frozenset(),
        expires_at=expires_at,
    )


def notification(
    *include: Address,
    exclude: Iterable[Address] = (),
    tenant: Tenant = ACME,
    title: str | None = "Hello",
    data: dict[str, object] | None = None,
    ttl_seconds: int = 3600,
    collapse_key: str | None = None,
) -> Notification:
    return Notification(
        tenant,
        audience(*include, exclude=exclude),
        "greeting",
        title=title,
        data=data,
        ttl_seconds=ttl_seconds,
        collapse_key=collapse_key,
    )


def at(offset: int, index: int = 0, *, epoch: str = "e") -> Position:
    return Position(epoch, offset, index)
