"""What is sent, and what became of it, in a sender's words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Required, TypedDict

from notifier.clients.addressing import Audience


class Notification(TypedDict, total=False):
    """A notification to send: at least one of title, body and data; at most 64 KiB as JSON. None is as left out.

    Args:
        to: whom it is for.
        type: `[a-z0-9_.-]{1,128}`, such as `order.shipped`; `notifier.` is reserved.
        link: an https URL or an absolute path.
        data: passed on as it is; a JSON object, at most 8 deep.
        ttl_seconds: after it nothing is delivered or replayed; 86,400 unless given, at most 604,800; 0: only who is
            connected now.
        collapse_key: of one key only the newest is replayed; clients replace what they show.
        idempotency_key: 1 to 255 printable characters: what has the same key is sent once in ten minutes. Left out, one
            is made up, so that a retry is harmless.
    """

    to: Required[Audience]
    type: Required[str]
    title: str | None
    body: str | None
    link: str | None
    data: Mapping[str, Any] | None
    ttl_seconds: int | None
    collapse_key: str | None
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Sent:
    """The journal has it.

    Args:
        id: of the notification, as clients see it.
        is_repeat: it was sent before, under the same idempotency key, and has had this id since.
    """

    id: str
    is_repeat: bool = False


def members(notification: Notification) -> dict[str, Any]:
    """What the service takes, as JSON has it; what it does not know it says itself. TypeError: no audience."""
    given = {name: value for name, value in notification.items() if value is not None}
    to = given.get("to")
    if not isinstance(to, Audience):
        example = f"users({to!r})" if isinstance(to, str) else 'users("alice")'
        raise TypeError(f"to= takes an audience, such as {example}, and not {to!r}")
    return given | {"to": to.to_json()}


def encode(value: object) -> bytes:
    """JSON as the service takes it. Raises ValueError for NaN and infinities, TypeError for what JSON cannot say."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
