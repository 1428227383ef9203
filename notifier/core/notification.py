"""What a sender asks for, and sealing: turning it, once, into the bytes that every session receives."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from notifier.core.audience import Audience
from notifier.core.envelope import Envelope
from notifier.core.errors import TooLarge
from notifier.core.identity import Tenant

SEALED_LIMIT_BYTES: Final = 64 * 1024
_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_to_canonical_json: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Notification:
    """A valid request to notify an audience; the doors build it and answer for the rules.

    Args:
        data: a JSON object; passed on as it came.
        ttl_seconds: 0 to 604,800; 0 means only the sessions present when it is read.
    """

    tenant: Tenant
    audience: Audience
    type: str
    title: str | None = None
    body: str | None = None
    link: str | None = None
    data: Mapping[str, object] | None = None
    ttl_seconds: int = 86_400
    collapse_key: str | None = None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's promise that two requests with this key are the same request.

    `issuer` and `caller` say whose key it is: two callers, or two doors, never share one.
    """

    issuer: str
    caller: str
    value: str


def seal(notification: Notification, *, accepted_at_ms: int, key: IdempotencyKey | None = None) -> Envelope:
    """Give the notification its id and its final bytes. Raises TooLarge over 64 KiB."""
    notification_id = new_id(accepted_at_ms)
    expires_at_ms = accepted_at_ms + notification.ttl_seconds * 1000
    sealed = _to_json(_public_fields(notification, notification_id, accepted_at_ms, expires_at_ms)).encode()
    if len(sealed) > SEALED_LIMIT_BYTES:
        raise TooLarge("sealed_too_large", f"sealed, it has {len(sealed)} bytes; the limit is {SEALED_LIMIT_BYTES}")
    return Envelope(
        id=notification_id,
        tenant=notification.tenant,
        audience=notification.audience,
        sealed=sealed,
        accepted_at_ms=accepted_at_ms,
        expires_at_ms=expires_at_ms,
        live_only=notification.ttl_seconds == 0,
        collapse_key=notification.collapse_key,
        key_digest=None if key is None else _digest(notification.tenant, key.issuer, key.caller, key.value),
        content_digest=None if key is None else _content_digest(notification),
    )


def _public_fields(notification: Notification, notification_id: str, created: int, expires: int) -> dict[str, object]:
    fields: dict[str, object] = {"id": notification_id, "type": notification.type}
    if notification.title is not None:
        fields["title"] = notification.title
    if notification.body is not None:
        fields["body"] = notification.body
    if notification.link is not None:
        fields["link"] = notification.link
    if notification.data is not None:
        fields["data"] = notification.data
    fields["created_at"] = rfc3339(created)
    if notification.ttl_seconds:
        fields["expires_at"] = rfc3339(expires)
    if notification.collapse_key is not None:
        fields["collapse_key"] = notification.collapse_key
    if topics := notification.audience.topics:
        fields["topics"] = topics
    return fields


def _content_digest(notification: Notification) -> bytes:
    """Digest what was asked, whatever the order of names; equal content has equal digests on every replica."""
    audience = notification.audience
    content = [
        [sorted(audience.include), sorted(audience.exclude)],
        [notification.type, notification.title, notification.body, notification.link, notification.data],
        [notification.ttl_seconds, notification.collapse_key],
    ]
    return _digest(_to_canonical_json(content))


def _digest(*parts: str) -> bytes:
    """Hash parts that cannot run into each other: each is led by its length."""
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.blake2b(joined.encode(), digest_size=16).digest()


def new_id(now_ms: int) -> str:
    """Make a UUIDv7 (RFC 9562, 5.7). The standard library has one from Python 3.14 on."""
    random = int.from_bytes(os.urandom(10))
    value = now_ms << 80 | 0x7 << 76 | (random >> 62 & 0xFFF) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def rfc3339(unix_ms: int) -> str:
    """Write a time as `2026-11-20T08:15:30.123Z`."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return f"{_rfc3339_seconds(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _rfc3339_seconds(unix_seconds: int) -> str:
    """Many notifications are accepted, and expire, in the same second."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
