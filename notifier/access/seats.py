"""Who holds a seat on this replica: at most so many sessions for an address, a tenant and a user.

A seat is taken before the handshake is answered, so that those who come together do not all find the last one, and is
held until the session is gone. One may be given away before its session opens: then it does not open. With shared
counts (`shared_seats.py`) those of all replicas count.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from notifier.access.addresses import network_of
from notifier.core.errors import LimitExceeded
from notifier.core.identity import Identity, Tenant
from notifier.core.spread import spread


class Seat(NamedTuple):
    """A session, opened or about to be. `address`: as `network_of` has it."""

    session: str
    tenant: Tenant
    user: str
    address: str
    opened_at_ms: int  # Unix milliseconds.


@dataclass(frozen=True, slots=True)
class SeatLimits:
    """How many sessions there may be; `evicts`: a user or tenant with more loses the oldest instead of the newest."""

    per_address: int
    per_tenant: int
    per_user: int
    evicts: bool = False


class Claim(NamedTuple):
    """What became of a seat where all replicas count: `over` names a limit it is over."""

    over: str | None


class Register(Protocol):
    """The seats of all replicas."""

    async def claim(self, seat: Seat, limits: SeatLimits) -> Claim | None:
        """Hold the seat against the limits; None when that is not to be known now."""

    def free(self, seat: Seat) -> None:
        """Take note, without waiting, that a seat is given back."""


@dataclass(slots=True)
class _Tenancy:
    seats: dict[str, Seat] = field(default_factory=dict)  # By session, oldest first.
    users: Counter[str] = field(default_factory=Counter)


class Seats:
    """Gives them out, and takes them back.

    Args:
        close: ends the session of this id, if it is here, since a newer one takes its seat.
        shared: the counts of all replicas; None: this one counts for itself.
    """

    def __init__(self, limits: SeatLimits, *, close: Callable[[str], None], shared: Register | None = None) -> None:
        self._limits = limits
        self._close = close
        self._shared = shared
        self._tenancies: dict[Tenant, _Tenancy] = {}
        self._arriving: dict[str, Seat] = {}  # By session: those who are in their handshake, and nobody could close.
        self._addresses: Counter[str] = Counter()
        self.refused: Counter[tuple[str, ...]] = Counter()  # By what was over its limit.
        self.evicted: Counter[tuple[str, ...]] = Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Seat]:
        """The seats of this moment."""
        for tenancy in list(self._tenancies.values()):
            yield from list(tenancy.seats.values())

    async def take(self, identity: Identity, address: str | None) -> str:
        """Take a seat for a session, and return the id that it gets. Raises LimitExceeded."""
        seat = Seat(secrets.token_hex(16), identity.tenant, identity.user, network_of(address), int(time.time() * 1000))
        # Who is over the limit here is over it everywhere: that needs no question.
        if over := self._over(seat, but_evicts=self._limits.evicts):
            self._refuse(over)
        self._add(seat)
        try:
            await self._settle(seat)
        except BaseException:
            self.leave(seat.tenant, seat.session)
            raise
        return seat.session

    def occupy(self, session: str) -> bool:
        """Call it in the turn that opens the session. False: its seat was given away meanwhile, so it must not open."""
        return self._arriving.pop(session, None) is not None

    def leave(self, tenant: Tenant, session: str) -> None:
        """Give a seat back. Calling it twice does no harm."""
        self._arriving.pop(session, None)
        tenancy = self._tenancies.get(tenant)
        seat = None if tenancy is None else tenancy.seats.pop(session, None)
        if tenancy is None or seat is None:
            return
        self._count -= 1
        _subtract(tenancy.users, seat.user)
        _subtract(self._addresses, seat.address)
        if not tenancy.seats:
            del self._tenancies[tenant]
        if self._shared is not None:
            self._shared.free(seat)

    def evict(self, session: str) -> None:
        """End a session whose seat went to a newer one, as all replicas count."""
        self.evicted["shared",] += 1
        self._end(session)

    async def _settle(self, seat: Seat) -> None:
        """Hold a seat that was just taken against the counts of all replicas, or, failing those, against ours."""
        if self._shared is not None:
            claim = await self._shared.claim(seat, self._limits)
            if claim is not None and claim.over:
                self._refuse(claim.over)
            if seat.session not in self._arriving:
                self._shared.free(seat)  # Given away here while all replicas were asked; they count it since.
                return
            if claim is not None:
                return
        if self._limits.evicts:
            self._make_room(seat)

    def _over(self, seat: Seat, *, but_evicts: bool) -> str | None:
        limits, tenancy = self._limits, self._tenancies.get(seat.tenant)
        if self._addresses[seat.address] >= limits.per_address:
            return "address"
        if tenancy is None or but_evicts:
            return None
        if len(tenancy.seats) >= limits.per_tenant:
            return "tenant"
        return "user" if tenancy.users[seat.user] >= limits.per_user else None

    def _make_room(self, seat: Seat) -> None:
        """Close the oldest sessions of who is over a limit with this seat; it stays itself."""
        tenancy = self._tenancies[seat.tenant]
        while tenancy.users[seat.user] > self._limits.per_user:
            self._evict_oldest(tenancy, seat, "user")
        while len(tenancy.seats) > self._limits.per_tenant:
            self._evict_oldest(tenancy, seat, "tenant")

    def _evict_oldest(self, tenancy: _Tenancy, seat: Seat, kind: str) -> None:
        oldest = next(each.session for each in tenancy.seats.values() if kind == "tenant" or each.user == seat.user)
        self.evicted[kind,] += 1
        self._end(oldest)
        self.leave(seat.tenant, oldest)

    def _end(self, session: str) -> None:
        """Close a session whose seat is given away, or see to it that it does not open."""
        self._close(session)
        if (seat := self._arriving.get(session)) is not None:
            self.leave(seat.tenant, session)

    def _add(self, seat: Seat) -> None:
        self._arriving[seat.session] = seat
        tenancy = self._tenancies.setdefault(seat.tenant, _Tenancy())
        tenancy.seats[seat.session] = seat
        tenancy.users[seat.user] += 1
        self._addresses[seat.address] += 1
        self._count += 1

    def _refuse(self, over: str) -> None:
        self.refused[over,] += 1
        what = {"user": "this user has", "tenant": "this tenant has", "address": "your address has"}[over]
        detail = f"{what} as many sessions as one may have"
        raise LimitExceeded("too_many_sessions", detail, retry_after=spread(2, 10))


def _subtract(counts: Counter[str], key: str) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
