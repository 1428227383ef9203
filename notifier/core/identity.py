"""Who a verified token says the bearer is, and what it may do."""

from dataclasses import dataclass
from typing import Final, NewType

Tenant = NewType("Tenant", str)
CANARY_TENANT: Final = Tenant("$canary")
"""Of what a replica sends to itself, and nobody counts. `$` is in no tenant that a token or a message can name."""
TopicPattern = tuple[str, ...]
"""Segments of a topic pattern; `*` stands for one segment, `#` for zero or more. Parsed by `access/topics.py`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A verified bearer: a person's session or a sending service.

    Args:
        tenant: the tenant the bearer belongs to.
        user: the user id, or the name of the calling service; unique within (issuer, tenant).
        issuer: who vouched for it.
        roles: addresses of kind role that reach this bearer.
        topic_patterns: the topics it may subscribe to.
        scopes: what it may do beyond receiving: `notify:send`, `notify:broadcast`, `notify:any-tenant`, and so on.
        tenants: other tenants it may send into.
        expires_at: Unix seconds after which the bearer is nobody.
        token_id: the `jti` claim, or what stands for it where the issuer gives none; None only outside of tokens.
        issued_at: Unix seconds at which the token says that it was issued; 0 is before any revocation.
    """

    tenant: Tenant
    user: str
    issuer: str
    roles: frozenset[str]
    topic_patterns: tuple[TopicPattern, ...]
    scopes: frozenset[str]
    tenants: frozenset[str]
    expires_at: float
    token_id: str | None = None
    issued_at: float = 0.0
