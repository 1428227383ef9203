"""Builders for what a backend sends."""

from typing import Any


def notification(*users: str, **changes: Any) -> dict[str, Any]:
    """A request that is accepted; a change to None takes the member out."""
    good = {"to": {"users": list(users) or ["nobody"]}, "type": "test.sent", "title": "Hello"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def event(*users: str, **changes: Any) -> dict[str, Any]:
    """A CloudEvent that is accepted; a change to None takes the attribute out."""
    good = {
        "specversion": "1.0",
        "id": "1",
        "source": "/test",
        "type": "com.example.test",
        "data": notification(*users),
    }
    return {name: value for name, value in (good | changes).items() if value is not None}
