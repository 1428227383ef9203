"""Real tokens for tests, signed with the development key."""

from typing import Any

from notifier.trust import development_token


def token(user: str = "alice", **claims: Any) -> str:
    """Mint a token; `claims` as in `notifier.access.development.mint`."""
    return development_token(user=user, **claims)


def bearer(user: str = "backend", **claims: Any) -> dict[str, str]:
    """The header of a backend that may send and broadcast, unless `claims` name other scopes."""
    claims.setdefault("scopes", ["notify:send", "notify:broadcast"])
    return {"Authorization": f"Bearer {token(user, **claims)}"}
