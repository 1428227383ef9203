"""Builders for what a backend sends."""

from typing import Any


def notification(*users: str, **changes: Any) -> dict[str, Any]:
    """A request that is accepted; a change to None takes the member out."""
    good = {"to": {"users": list(users) or ["nobody"]}, "type": "test.sent", "title": "Hello"}
    return {name: value for name, value in (good | changes).items() if value is not None}
