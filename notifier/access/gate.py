"""The rules of entry: who the bearer is, what it may send, and from which pages browsers may come."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, NoReturn

from notifier.access.addresses import network_of
from notifier.access.buckets import PATIENCE_SECONDS, Buckets, Turnstile
from notifier.access.origins import OriginPolicy
from notifier.access.seats import Seats
from notifier.access.tickets import Tickets
from notifier.access.tokens import TokenVerifier, patiently
from notifier.core.errors import Forbidden, LimitExceeded, Unauthenticated, Unavailable
from notifier.core.identity import Identity, Tenant
from notifier.core.spread import spread

SEND: Final = "notify:send"
BROADCAST: Final = "notify:broadcast"
ANY_TENANT: Final = "notify:any-tenant"
TICKET: Final = "notify:ticket"
REVOKE: Final = "notify:revoke"


class Gate:
    """Lets in who may enter, and raises for the others.

    Args:
        tickets: None while there are none.
        seats: who has a session here.
        max_sessions: one more is refused.
        strain: what this process suffers from now; None: nothing.
        handshakes, address_handshakes: limits in the words of `limits`.
        is_revoked: whether the token of an identity was revoked; asked each time, also for one that is remembered.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        origins: OriginPolicy,
        *,
        tickets: Tickets | None = None,
        seats: Seats,
        max_sessions: int,
        strain: Callable[[], str | None] = lambda: None,
        handshakes: str,
        address_handshakes: str,
        is_revoked: Callable[[Identity], bool] = lambda _: False,
    ) -> None:
        self._verifier = verifier
        self._origins = origins
        self._tickets = tickets
        self._seats = seats
        self._max_sessions = max_sessions
        self._strain = strain
        self._is_revoked = is_revoked
        self._turnstile = Turnstile(handshakes)
        self._handshakes = Buckets("address_handshakes", address_handshakes)
        self.turned_away: Counter[tuple[str, ...]] = Counter()  # Handshakes, by the limit that they were over.
        self.is_starting = True  # Until the journal was read to its end: no sessions, since a resume might have a hole.
        self.is_draining = False  # Set once, when the process is about to end: no new sessions.

    def trust(self, verifier: TokenVerifier, origins: OriginPolicy) -> None:
        """Judge by these from here on. A new verifier remembers no token; open sessions stay as they were admitted."""
        self._verifier, self._origins = verifier, origins

    def set_pace(self, *, handshakes: str, address_handshakes: str) -> None:
        """Go by these limits from here on."""
        self._turnstile.set(handshakes)
        self._handshakes.set(address_handshakes)

    def is_readable_from(self, origin: str) -> bool:
        """Tell whether pages of this origin may read answers (CORS)."""
        pattern = self._origins.cors_pattern
        return pattern is not None and re.fullmatch(pattern, origin) is not None

    def forget_tokens(self) -> None:
        """Verify every token anew from here on: keys have changed."""
        self._verifier.forget_all()

    def authenticate(self, token: str) -> Identity:
        """Verify a token at once. Raises Unauthenticated, or Unavailable when its key may be one not fetched yet."""
        identity = self._verifier.verify(token)
        self.check_standing(identity)
        return identity

    def check_standing(self, identity: Identity) -> None:
        """Check that a token which was verified still counts. Raises Unauthenticated."""
        if self._is_revoked(identity):
            raise Unauthenticated("token_revoked", "This token was revoked.")

    async def authenticate_patiently(self, token: str) -> Identity:
        """Verify a token; one whose key is not known waits for the keys of its issuer, some seconds at most."""
        return await patiently(partial(self.authenticate, token))

    async def authenticate_bearer(self, authorization: str | None) -> Identity:
        """Verify the Authorization header of a request."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("token_missing", "send a token as Authorization: Bearer")
        return await self.authenticate_patiently(token.strip())

    async def authenticate_sender(self, authorization: str | None) -> Identity:
        """Verify the Authorization header of a request that wants to send."""
        caller = await self.authenticate_bearer(authorization)
        _require(caller, SEND)
        return caller

    async def authenticate_revoker(self, authorization: str | None) -> Identity:
        """Verify the Authorization header of a request that wants to revoke."""
        caller = await self.authenticate_bearer(authorization)
        _require(caller, REVOKE)
        return caller

    def read_ticket(self, ticket: str) -> Identity:
        """Verify a ticket. Raises Unauthenticated."""
        if self._tickets is None:
            raise Unauthenticated("ticket_invalid", "This service has no tickets.")
        identity = self._tickets.read(ticket)
        self.check_standing(identity)
        return identity

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
        """Check that the caller may still send into the tenant, and to everyone of it. Raises Forbidden."""
        self.check_standing(caller)  # It may have taken seconds to send its request.
        if tenant != caller.tenant and tenant not in caller.tenants and ANY_TENANT not in caller.scopes:
            detail = f"this token is for its own tenant; {ANY_TENANT} or a tenants claim would allow another"
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
        if len(self._seats) >= self._max_sessions:
            self._turn_away("process", "this replica has as many sessions as it may have")
        if strain := self._strain():
            # Those who are here suffer already: one more would make it worse for all of them.
            self._turn_away(strain, "this replica is under strain, and keeps the sessions that it has")

    async def pace(self, address: str | None) -> None:
        """Count a handshake, and let it wait in line for up to a second. Raises LimitExceeded and Unavailable.

        The address comes first, so that nobody uses up what all have together.
        """
        network = network_of(address)
        if wait_seconds := self._handshakes.take(network):
            self.turned_away["address_handshakes",] += 1
            detail = f"over the limit of handshakes of one address; {self._handshakes.amount} may come at once"
            standing = self._handshakes.standing(network)
            retry_after = spread(wait_seconds, wait_seconds + PATIENCE_SECONDS / 4)
            raise LimitExceeded("too_many_handshakes", detail, retry_after=retry_after, standing=standing)
        line_seconds = self._turnstile.enter()
        if line_seconds is None:
            self._turn_away("handshakes", "this replica takes no more handshakes at the moment; it has a turn for you")
        if line_seconds:
            await asyncio.sleep(line_seconds)

    async def admit(self, identity: Identity, address: str | None) -> str:
        """Take a seat for a verified user, and return the id of its session. Raises LimitExceeded."""
        return await self._seats.take(identity, address)

    def seat(self, session: str) -> None:
        """Check, in the turn that opens the session, that its seat was not given away since. Raises Forbidden."""
        if not self._seats.occupy(session):
            raise Forbidden("superseded", "a newer session has taken the place of this one")

    def dismiss(self, identity: Identity, session: str) -> None:
        """Give the seat back."""
        self._seats.leave(identity.tenant, session)

    def _turn_away(self, why: str, detail: str) -> NoReturn:
        self.turned_away[why,] += 1
        raise Unavailable("overload", detail, retry_after=timedelta(seconds=self._turnstile.turn()))


def _require(caller: Identity, scope: str) -> None:
    if scope not in caller.scopes:
        raise Forbidden("insufficient_scope", f"this token does not have the scope {scope}", scope=scope)


def check_transport(forwarded_scheme: str | None, *, is_proxied: bool, require_tls: bool) -> None:
    """Check that a session did not come to the proxy in the clear, with its token. Raises Forbidden."""
    if is_proxied and require_tls and (forwarded_scheme or "").lower() in ("http", "ws"):
        raise Forbidden("tls_required", "connect with wss or https")
