"""Tokens for development: minted by whoever holds the key, never by the service itself in production."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from jose import jwt
from jose.exceptions import JOSEError


def mint(
    *,
    issuer: str,
    audience: str,
    key: str,
    algorithm: str,
    user: str,
    tenant: str | None = None,
    roles: Sequence[str] = (),
    topics: Sequence[str] = (),
    scopes: Sequence[str] = (),
    tenants: Sequence[str] = (),
    lifetime_seconds: int = 3_600,
    extra: Mapping[str, Any] | None = None,
    kid: str | None = None,
) -> str:
    """Return a signed token with every claim that notifier reads, at its default place.

    Raises ValueError when the key does not fit the algorithm.
    """
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "iat": now,
        "exp": now + lifetime_seconds,
        "jti": str(uuid.uuid4()),
        "roles": list(roles),
        "topics": list(topics),
        "scope": " ".join(scopes),
        "tenants": list(tenants),
    }
    if tenant is not None:
        claims["tenant"] = tenant
    try:
        headers = None if kid is None else {"kid": kid}
        return jwt.encode(claims | dict(extra or {}), key, algorithm=algorithm, headers=headers)
    except JOSEError as error:
        raise ValueError(f"the key does not sign with {algorithm}: {error}") from None
