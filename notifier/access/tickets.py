"""Tickets: what stands in a URL in the place of a token, for half a minute, to open one session and nothing else.

A ticket is `v1`, a JSON object in base64url, and an HMAC-SHA256 of both (RFC 2104), with dots between them. A JWT
signed with the same secret is never a ticket, nor the other way round: the first segment of a JWT is a JSON object.
"""

import hashlib
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from notifier.access.claims import shared
from notifier.access.topics import parse_pattern
from notifier.core.errors import TooLarge, Unauthenticated
from notifier.core.identity import Identity, Tenant

TICKET_SECONDS: Final = 30
LIMIT_CHARACTERS: Final = 6_144  # It stands in a request line, which has 8 KiB at most proxies.
SECRET_BYTES: Final = 32
_VERSION: Final = "v1"
_DETAILS: Final = {
    "ticket_invalid": "The ticket is not valid.",
    "ticket_expired": "The ticket has expired; get another one.",
    "ticket_used": "The ticket has been used; get another one.",
}


class Tickets:
    """Mints tickets, reads them, and remembers those that were used here.

    Args:
        secrets: the first signs, all verify; at least 32 bytes each. Raises ValueError for others.
        clock: Unix seconds.
    """

    def __init__(self, secrets: Sequence[bytes], *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._used: set[str] = set()  # By signature; they are let go of when they would have expired.
        self._used_until: deque[tuple[float, str]] = deque()
        self.trust(secrets)

    def trust(self, secrets: Sequence[bytes]) -> None:
        """Sign and verify with these from here on. Raises ValueError, and keeps the old ones."""
        if not secrets or any(len(secret) < SECRET_BYTES for secret in secrets):
            raise ValueError(f"a ticket secret has at least {SECRET_BYTES} bytes")
        self._secrets = tuple(secrets)

    def mint(self, identity: Identity) -> str:
        """A ticket for a session of this identity, which ends when the identity does. Scopes are left behind.

        Raises TooLarge where the identity does not fit into a URL.
        """
        fields = {
            "until": self._clock() + TICKET_SECONDS,
            "nonce": secrets.token_urlsafe(12),
            "tenant": identity.tenant,
            "user": identity.user,
            "issuer": identity.issuer,
            "roles": sorted(identity.roles),
            "topics": [".".join(pattern) for pattern in identity.topic_patterns],
            "expires": identity.expires_at,
            "token": identity.token_id,
            "issued": identity.issued_at,
        }
        payload = urlsafe_b64encode(json.dumps(fields, separators=(",", ":")).encode()).decode().rstrip("=")
        ticket = f"{_VERSION}.{payload}.{_signature(self._secrets[0], payload)}"
        if len(ticket) > LIMIT_CHARACTERS:
            raise TooLarge("ticket_too_large", "there are too many roles and topics for a URL")
        return ticket

    def read(self, ticket: str) -> Identity:
        """Return whose session the ticket opens. Raises Unauthenticated."""
        fields = self._authentic(ticket)
        if self._clock() >= fields["until"]:
            _refuse(code="ticket_expired")
        if _signature_of(ticket) in self._used:
            _refuse(code="ticket_used")
        return Identity(
            tenant=Tenant(fields["tenant"]),
            user=fields["user"],
            issuer=fields["issuer"],
            roles=shared(frozenset(fields["roles"])),
            topic_patterns=shared(tuple(map(parse_pattern, fields["topics"]))),
            scopes=shared(frozenset()),
            tenants=shared(frozenset()),
            expires_at=fields["expires"],
            token_id=fields["token"],
            issued_at=fields["issued"],
        )

    def redeem(self, ticket: str) -> None:
        """Use up a ticket that was read. Raises Unauthenticated when it was used here before."""
        now, signature = self._clock(), _signature_of(ticket)
        while self._used_until and self._used_until[0][0] < now:
            self._used.discard(self._used_until.popleft()[1])
        if signature in self._used:
            _refuse(code="ticket_used")
        self._used.add(signature)
        self._used_until.append((now + TICKET_SECONDS, signature))

    def _authentic(self, ticket: str) -> dict[str, Any]:
        version, _, rest = ticket.partition(".")
        payload, _, signature = rest.partition(".")
        if version != _VERSION or len(ticket) > LIMIT_CHARACTERS or not ticket.isascii():
            _refuse(code="ticket_invalid")
        if not any(hmac.compare_digest(_signature(secret, payload), signature) for secret in self._secrets):
            _refuse(code="ticket_invalid")
        fields: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return fields


def _signature(secret: bytes, payload: str) -> str:
    digest = hmac.digest(secret, f"{_VERSION}.{payload}".encode(), hashlib.sha256)
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _signature_of(ticket: str) -> str:
    return ticket.rpartition(".")[2]


def _refuse(*, code: str) -> NoReturn:
    raise Unauthenticated(code, _DETAILS[code])
