"""What a sender asks for, and sealing: turning it, once, into the bytes that every session receives."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring as _quoted
from typing import Final, NamedTuple

from notifier.core.audience import Audience
from notifier.core.envelope import Envelope
from notifier.core.errors import TooLarge
from notifier.core.identity import Tenant

SEALED_LIMIT_BYTES: Final = 64 * 1024
_to_json: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_to_canonical_json: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


class Notification(NamedTuple):
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


def seal(
    notification: Notification,
    *,
    accepted_at_ms: int,
    key: IdempotencyKey | None = None,
    notification_id: str | None = None,
) -> Envelope:
    """Give the notification its final bytes, and an id unless it comes with one. Raises TooLarge over 64 KiB."""
    ours = notification_id or new_id(accepted_at_ms)
    expires_at_ms = accepted_at_ms + notification.ttl_seconds * 1000
    sealed = _to_public_json(notification, ours, accepted_at_ms, expires_at_ms).encode()
    if len(sealed) > SEALED_LIMIT_BYTES:
        raise TooLarge("sealed_too_large", f"sealed, it has {len(sealed)} bytes; the limit is {SEALED_LIMIT_BYTES}")
    envelope = Envelope(
        ours,
        notification.tenant,
        notification.audience,
        sealed,
        accepted_at_ms,
        expires_at_ms,
        notification.ttl_seconds == 0,
        notification.collapse_key,
    )
    if key is None:
        return envelope
    key_digest = _digest(notification.tenant, key.issuer, key.caller, key.value)
    return envelope._replace(key_digest=key_digest, content_digest=_content_digest(notification))


def _to_public_json(notification: Notification, notification_id: str, created: int, expires: int) -> str:
    """Write what receivers see, member by member: an encoder made anew for each whole object takes twice as long."""
    _, audience, kind, title, body, link, data, ttl_seconds, collapse_key = notification
    members = [f'{{"id":"{notification_id}","type":{_quoted(kind)}']
    if title is not None:
        members.append(f'"title":{_quoted(title)}')
    if body is not None:
        members.append(f'"body":{_quoted(body)}')
    if link is not None:
        members.append(f'"link":{_quoted(link)}')
    if data is not None:
        members.append(f'"data":{_to_json(data)}')
    members.append(f'"created_at":"{rfc3339(created)}"')
    if ttl_seconds:
        members.append(f'"expires_at":"{rfc3339(expires)}"')
    if collapse_key is not None:
        members.append(f'"collapse_key":{_quoted(collapse_key)}')
    if topics := audience.topics:
        members.append(f'"topics":{_to_json(topics)}')
    return ",".join(members) + "}"


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
    return new_ids(now_ms, 1)[0]


def new_ids(now_ms: int, count: int) -> list[str]:
    """Make as many UUIDv7s, in order: they share random bits, and the last 48 bits count on from a random start."""
    time, random = f"{now_ms:012x}", os.urandom(10).hex()
    variant = "89ab"[int(random[3], 16) & 3]
    head = f"{time[:8]}-{time[8:]}-7{random[:3]}-{variant}{random[4:7]}-"
    start = min(int(random[8:], 16), 2**48 - count)  # So that counting never runs over (RFC 9562, 6.2).
    return [f"{head}{number:012x}" for number in range(start, start + count)]


@lru_cache(maxsize=64)
def rfc3339(unix_ms: int) -> str:
    """Write a time as `2026-11-20T08:15:30.123Z`. Those of a batch are all the same two."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return f"{_rfc3339_seconds(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=256)
def _rfc3339_seconds(unix_seconds: int) -> str:
    """Many notifications are accepted, and expire, in the same second."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
