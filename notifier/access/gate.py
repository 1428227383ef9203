"""The rules of entry: who the bearer is, what it may send, and from which pages browsers may come."""

import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from notifier.access.origins import OriginPolicy
from notifier.access.tickets import Tickets
from notifier.access.tokens import TokenVerifier
from notifier.core.errors import Forbidden, LimitExceeded, Unauthenticated, Unavailable
from notifier.core.identity import Identity, Tenant

SEND: Final = "notify:send"
BROADCAST: Final = "notify:broadcast"
ANY_TENANT: Final = "notify:any-tenant"
TICKET: Final = "notify:ticket"


class Gate:
    """Lets in who may enter, and raises for the others.

    Args:
        tickets: None while there are none.
        sessions: how many sessions there are now.
        sessions_of: how many a user of a tenant has.
        max_sessions, max_sessions_per_user: one more is refused.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        origins: OriginPolicy,
        *,
        tickets: Tickets | None = None,
        sessions: Callable[[], int],
        sessions_of: Callable[[Tenant, str], int],
        max_sessions: int,
        max_sessions_per_user: int,
    ) -> None:
        self._verifier = verifier
        self._origins = origins
        self._tickets = tickets
        self._sessions = sessions
        self._sessions_of = sessions_of
        self._max_sessions = max_sessions
        self._max_sessions_per_user = max_sessions_per_user
        self.is_starting = True  # Until the journal was read to its end: no sessions, since a resume might have a hole.
        self.is_draining = False  # Set once, when the process is about to end: no new sessions.

    def trust(self, verifier: TokenVerifier, origins: OriginPolicy) -> None:
        """Judge by these from here on. A new verifier remembers no token; open sessions stay as they were admitted."""
        self._verifier, self._origins = verifier, origins

    def is_readable_from(self, origin: str) -> bool:
        """Tell whether pages of this origin may read answers (CORS)."""
        pattern = self._origins.cors_pattern
        return pattern is not None and re.fullmatch(pattern, origin) is not None

    def authenticate(self, token: str) -> Identity:
        """Verify a token. Raises Unauthenticated."""
        return self._verifier.verify(token)

    def authenticate_bearer(self, authorization: str | None) -> Identity:
        """Verify the Authorization header of a request."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("token_missing", "send a token as Authorization: Bearer")
        return self.authenticate(token.strip())

    def authenticate_sender(self, authorization: str | None) -> Identity:
        """Verify the Authorization header of a request that wants to send."""
        caller = self.authenticate_bearer(authorization)
        _require(caller, SEND)
        return caller

    def read_ticket(self, ticket: str) -> Identity:
        """Verify a ticket. Raises Unauthenticated."""
        if self._tickets is None:
            raise Unauthenticated("ticket_invalid", "This service has no tickets.")
        return self._tickets.read(ticket)

    def mint(self, identity: Identity) -> str:
        """A ticket for a session of this identity. Raises Unauthenticated while there are no tickets."""
        if self._tickets is None:
            raise Unauthenticated("ticket_invalid", "This service has no tickets.")
        return self._tickets.mint(identity)

    def vouch(
        self, caller: Identity, tenant: str | None, user: str, roles: Sequence[str], topics: Sequence[str], seconds: int
    ) -> Identity:
        """Who somebody is on the caller's word. Raises Forbidden when that does not count, or not in that tenant."""
        _require(caller, TICKET)
        into = caller.tenant if tenant is None else Tenant(tenant)
        self.authorise(caller, into, everyone=False)
        return self._verifier.vouched(caller, tenant=into, user=user, roles=roles, topics=topics, seconds=seconds)

    def redeem(self, ticket: str) -> None:
        """Use up a ticket that was verified. Raises Unauthenticated when it was used here before."""
        if self._tickets is not None:
            self._tickets.redeem(ticket)

    def authorise(self, caller: Identity, tenant: Tenant, *, everyone: bool) -> None:
        """Check that the caller may send into the tenant, and to everyone of it. Raises Forbidden."""
        if tenant != caller.tenant and tenant not in caller.tenants and ANY_TENANT not in caller.scopes:
            detail = f"this token may not send into another tenant; {ANY_TENANT} or a tenants claim would allow it"
            raise Forbidden("tenant_forbidden", detail, scope=ANY_TENANT)
        if everyone:
            _require(caller, BROADCAST)

    def check_origin(self, origin: str | None, scheme: str, host: str) -> None:
        """Check where a browser's page comes from. Raises Forbidden."""
        if not self._origins.allows(origin, scheme=scheme, host=host):
            raise Forbidden("origin_forbidden", "pages of this origin may not connect")

    def check_room(self) -> None:
        """Check that this process takes sessions now. Raises Unavailable."""
        if self.is_draining:
            raise Unavailable("draining", "this replica is about to end; connect again to reach another")
        if self.is_starting:
            raise Unavailable("starting", "this replica has not read the journal yet; connect again to reach another")
        if self._sessions() >= self._max_sessions:
            raise Unavailable("overload", "this replica has as many sessions as it may have")

    def admit(self, identity: Identity) -> None:
        """Check the session limit of a verified user. Raises LimitExceeded."""
        if self._sessions_of(identity.tenant, identity.user) >= self._max_sessions_per_user:
            detail = "this user has as many sessions as one may have"
            raise LimitExceeded("too_many_sessions", detail, retry_after=timedelta(seconds=5))


def _require(caller: Identity, scope: str) -> None:
    if scope not in caller.scopes:
        raise Forbidden("insufficient_scope", f"this token does not have the scope {scope}", scope=scope)
