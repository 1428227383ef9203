"""Which tokens do not count any more, though they have not expired: what was revoked, found by whom it is about.

Pure. Revocations merge in whatever order they come, and however often: the later of two moments holds.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from notifier.core.identity import Identity, Tenant

By = Literal["session", "token", "user", "everyone"]
KINDS: Final[tuple[By, ...]] = ("session", "token", "user", "everyone")
_NAME_CHARACTERS: Final = 256


class Revocation(NamedTuple):
    """One of them, for one tenant.

    `by` says what `name` is: the id of a session, whose replica then revokes its token; a token id; a user. It is empty
    for everyone of the tenant. `issued_before` (Unix seconds) is for users and everyone: their later tokens count.
    After `expires_at` (Unix seconds) no token is left that it could be about. `session`: the id of the session whose
    token this is, where that was asked for.
    """

    id: str
    tenant: Tenant
    by: By
    name: str
    issued_before: float
    expires_at: float
    session: str | None = None

    @classmethod
    def read(cls, fields: Mapping[str, object]) -> "Revocation":
        """Read what `_asdict` wrote, of this version or a newer one. Raises ValueError for what is none."""
        get = fields.get
        identifier, tenant, by, name, session = get("id"), get("tenant"), get("by"), get("name"), get("session")
        issued_before, expires_at = get("issued_before"), get("expires_at")
        if (
            isinstance(identifier, str)
            and isinstance(tenant, str)
            and by in KINDS
            and isinstance(name, str)
            and len(name) <= _NAME_CHARACTERS
            and _is_moment(issued_before)
            and _is_moment(expires_at)
            and (session is None or isinstance(session, str))
        ):
            return cls(identifier, Tenant(tenant), by, name, issued_before, expires_at, session)  # type: ignore[arg-type]  # looked at above
        raise ValueError("a field of the revocation is missing or has a value of another type")


class _Cut(NamedTuple):
    """Tokens that were issued before do not count; from `expires_at` on there are none."""

    issued_before: float
    expires_at: float


_NO_CUT: Final = _Cut(0.0, 0.0)


@dataclass(slots=True)
class _Revoked:
    """What is revoked in one tenant. Tokens and sessions are held with the Unix seconds up to which."""

    everyone: _Cut = _NO_CUT
    users: dict[str, _Cut] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    sessions: dict[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.users) + len(self.tokens) + len(self.sessions) + (self.everyone is not _NO_CUT)

    def holds(self, revocation: Revocation) -> bool:
        """Tell whether there is one about the same."""
        match revocation.by:
            case "everyone":
                return self.everyone is not _NO_CUT
            case "user":
                return revocation.name in self.users
            case "token":
                return revocation.name in self.tokens
            case "session":
                return revocation.name in self.sessions

    def add(self, revocation: Revocation) -> bool:
        """Merge it in. False when all that it says was known."""
        cut, name = _Cut(revocation.issued_before, revocation.expires_at), revocation.name
        match revocation.by:
            case "everyone":
                before, self.everyone = self.everyone, _later(self.everyone, cut)
                issued_before = self.everyone.issued_before
                self.users = {user: own for user, own in self.users.items() if own.issued_before > issued_before}
                return self.everyone != before
            case "user" if cut.issued_before > self.everyone.issued_before:
                held = self.users.get(name, _NO_CUT)
                self.users[name] = _later(held, cut)
                return self.users[name] != held
            case "token":
                is_news = _hold(self.tokens, name, cut.expires_at)
                session = revocation.session
                return (session is not None and _hold(self.sessions, session, cut.expires_at)) or is_news
            case _:
                return False

    def drop_expired(self, now: float) -> None:
        if self.everyone.expires_at <= now:
            self.everyone = _NO_CUT
        self.users = {user: cut for user, cut in self.users.items() if cut.expires_at > now}
        self.tokens = {token: until for token, until in self.tokens.items() if until > now}
        self.sessions = {session: until for session, until in self.sessions.items() if until > now}


class Revocations:
    """Those that hold now, by tenant.

    Args:
        capacity: more than so many are not to be asked for; of them, no tenant has more than half. What was revoked
            elsewhere is taken in all the same: forgetting one would let its token in again.
        clock: Unix seconds.
    """

    def __init__(self, *, capacity: int = 100_000, clock: Callable[[], float] = time.time) -> None:
        self._capacity = capacity
        self._clock = clock
        self._by_tenant: dict[Tenant, _Revoked] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def covers(self, identity: Identity) -> bool:
        """Tell whether the token of this identity was revoked. A few look-ups, however many there are."""
        revoked = self._by_tenant.get(identity.tenant)
        if revoked is None:
            return False
        issued_at = identity.issued_at
        return (
            issued_at < revoked.everyone.issued_before
            or issued_at < revoked.users.get(identity.user, _NO_CUT).issued_before
            or identity.token_id in revoked.tokens
        )

    def has_revoked_session(self, tenant: Tenant, session_id: str) -> bool:
        """Tell whether the token of this session was revoked, since somebody asked for that."""
        revoked = self._by_tenant.get(tenant)
        return revoked is not None and session_id in revoked.sessions

    def has_room_for(self, revocation: Revocation) -> bool:
        """Tell whether one more may be asked for: one about what is held already, or that takes the place of others."""
        revoked = self._by_tenant.get(revocation.tenant)
        if revoked is not None and (revocation.by == "everyone" or revoked.holds(revocation)):
            return True
        held = 0 if revoked is None else len(revoked)
        return self._count < self._capacity and held < max(1, self._capacity // 2)

    def add(self, revocation: Revocation) -> bool:
        """Have it hold from here on. False for one whose time is over, or that says nothing new."""
        if revocation.expires_at <= self._clock():
            return False
        revoked = self._by_tenant.setdefault(revocation.tenant, _Revoked())
        before = len(revoked)
        is_news = revoked.add(revocation)
        self._count += len(revoked) - before
        if not revoked:
            del self._by_tenant[revocation.tenant]
        return is_news

    def drop_expired(self) -> None:
        """Forget those whose tokens have all expired; call it once in a while."""
        now = self._clock()
        for revoked in self._by_tenant.values():
            revoked.drop_expired(now)
        self._by_tenant = {tenant: revoked for tenant, revoked in self._by_tenant.items() if revoked}
        self._count = sum(map(len, self._by_tenant.values()))


def _later(one: _Cut, other: _Cut) -> _Cut:
    return _Cut(max(one.issued_before, other.issued_before), max(one.expires_at, other.expires_at))


def _hold(held: dict[str, float], name: str, until: float) -> bool:
    before = held.get(name, 0.0)
    held[name] = max(until, before)
    return until > before


def _is_moment(value: object) -> bool:
    # Nothing but a finite number compares so: what is no moment must not hold for ever.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**53
