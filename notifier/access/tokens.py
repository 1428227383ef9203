"""Turns a bearer token into an Identity, or refuses it; apart from the keys, all that touches python-jose."""

import hashlib
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from jose import jws
from jose.exceptions import JWSError

from notifier.access.claims import (
    ClaimPath,
    claim_at,
    instant,
    pattern,
    printable,
    scopes_at,
    shared,
    strings_at,
    tenant_name,
)
from notifier.access.keys import KeySet, check_algorithms
from notifier.access.remote_keys import RemoteKeys
from notifier.access.segments import Claims, check_shape, checked_kid, read_segments, refuse
from notifier.access.topics import TopicRule, allowed_patterns, parse_pattern
from notifier.core.errors import InvalidNotification, Unauthenticated, Unavailable, Violation
from notifier.core.identity import Identity, Tenant, TopicPattern

_USER_LIMIT: Final = 256
_ROLE_LIMIT: Final = 128
_TOKEN_ID_LIMIT: Final = 256
_KEYS_UNAVAILABLE: Final = "The keys of the token's issuer are not up to date here."


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens are accepted, and where its tokens say what.

    Args:
        issuer: the exact `iss`.
        keys: those that do not change.
        remote: those that the issuer publishes, beside them.
        audiences: one of them must be in the token.
        tenants: the tenants it may assert; None for any.
        tenants_claim: where the tenants stand that the bearer may send into besides its own.
        audience_claim: `aud`, but Cognito's access tokens name their audience in `client_id`.
        default_tenant: for tokens without a tenant; None refuses them.
    """

    issuer: str
    keys: KeySet
    algorithms: tuple[str, ...]
    audiences: frozenset[str]
    tenants: frozenset[str] | None = None
    user_claim: ClaimPath = ("sub",)
    tenant_claim: ClaimPath = ("tenant",)
    roles_claim: ClaimPath = ("roles",)
    topics_claim: ClaimPath = ("topics",)
    scopes_claim: ClaimPath = ("scope",)
    tenants_claim: ClaimPath = ("tenants",)
    audience_claim: ClaimPath = ("aud",)
    default_tenant: str | None = "default"
    remote: RemoteKeys | None = None

    def __post_init__(self) -> None:
        check_algorithms(self.algorithms)
        if not self.issuer or not self.audiences:
            raise ValueError("an issuer needs its exact iss, and at least one audience its tokens are for")


class KeyPending(Unavailable):
    """The token may be signed with a key that was not fetched yet: have it fetched, or let the bearer come back.

    `refusal` is what the token deserves once its key is known to be nowhere.
    """

    def __init__(self, remote: RemoteKeys, refusal: Unauthenticated) -> None:
        super().__init__("keys_unavailable", _KEYS_UNAVAILABLE, retry_after=remote.retry_after)
        self.fetch = remote.ask
        self.refusal = refusal


async def patiently(verify: Callable[[], Identity]) -> Identity:
    """Verify a token; where its key is not known, have the keys fetched once, and then decide.

    Raises:
        Unauthenticated: also when keys came that were asked for behind the token, and its own is not among them.
        KeyPending: nothing came, or it is too soon to ask.
    """
    try:
        return verify()
    except KeyPending as pending:
        is_certain = await pending.fetch()
    try:
        return verify()
    except KeyPending as pending:
        raise (pending.refusal if is_certain else pending) from None


class TokenVerifier:
    """Verifies tokens of several issuers, and remembers those it verified last.

    Args:
        leeway_seconds: how far clocks may differ.
        max_lifetime_seconds: the longest a token may live, from iat to exp.
        clock: Unix seconds.
        cache_size: how many verified tokens are remembered, about 1 KiB each.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        topic_rules: Sequence[TopicRule] = (),
        leeway_seconds: float = 30,
        max_lifetime_seconds: float = 86_400,
        clock: Callable[[], float] = time.time,
        cache_size: int = 4_096,
    ) -> None:
        known = tuple(issuers)
        self._issuers = {issuer.issuer: issuer for issuer in known}
        if len(self._issuers) < len(known):
            raise ValueError("two issuers have the same iss; give one of them all the keys")
        self._topic_rules = tuple(topic_rules)
        self._leeway = leeway_seconds
        self._max_lifetime = max_lifetime_seconds
        self._clock = clock
        self._cache_size = cache_size
        # By digest, oldest first, so that memory holds no usable token. Only verified tokens enter.
        self._verified: dict[bytes, Identity] = {}

    @property
    def remotes(self) -> tuple[RemoteKeys, ...]:
        """The key sets that issuers publish."""
        return tuple(issuer.remote for issuer in self._issuers.values() if issuer.remote is not None)

    def verify(self, token: str) -> Identity:
        """Return who the bearer is.

        Raises:
            Unauthenticated: whatever is wrong with the token.
            KeyPending: it may be signed with a key that is not known yet. Nothing else leaves this method.
        """
        # Before its shape is looked at, since nothing is remembered whose shape was wrong. A header may hold anything.
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        identity = self._verified.get(digest)
        if identity is None or self._clock() >= identity.expires_at:
            check_shape(token)
            identity = self._read(token)
            self._remember(digest, identity)
        return identity

    def vouched(
        self, voucher: Identity, *, tenant: Tenant, user: str, roles: Iterable[str], topics: Iterable[str], seconds: int
    ) -> Identity:
        """Who somebody is on the word of a bearer: as a token would say it, for so long, and without scopes.

        Raises InvalidNotification for a pattern that is none, and for a longer time than a token may live.
        """
        if seconds > self._max_lifetime:
            detail = f"must be at most {self._max_lifetime}, as the life of a token"
            raise InvalidNotification(
                [Violation("/session_seconds", "too_long", detail)], code="invalid_ticket_request"
            )
        named = shared(frozenset(roles))
        patterns = allowed_patterns(
            self._topic_rules, _patterns(topics), user=user, roles=named, scopes=shared(frozenset())
        )
        return Identity(
            tenant=Tenant(sys.intern(tenant)),
            user=user,
            issuer=voucher.issuer,
            roles=named,
            topic_patterns=shared(patterns),
            scopes=shared(frozenset()),
            tenants=shared(frozenset()),
            expires_at=self._clock() + seconds,
            token_id=f"ticket:{secrets.token_hex(8)}",  # Its own: to revoke this session is not to revoke its voucher.
            issued_at=self._clock(),
        )

    def forget_all(self) -> None:
        """Verify every token anew from here on, as after a change of keys."""
        self._verified.clear()

    def explain(self, token: str) -> list[str]:
        """Say in lines for a person what the token stands for here, or why it is refused."""
        try:
            identity = self.verify(token)
        except Unauthenticated as refusal:
            return [f"refused ({refusal.code}): {refusal.reason}"]
        except KeyPending as pending:
            return [f"refused ({pending.code}): {pending.refusal.reason}"]
        return [
            f"issuer: {identity.issuer}",
            f"tenant: {identity.tenant}",
            f"user: {identity.user}",
            f"roles: {_listed(identity.roles)}",
            f"topics: {_listed('.'.join(pattern) for pattern in identity.topic_patterns)}",
            f"scopes: {_listed(identity.scopes)}",
            f"may send into: {_listed(identity.tenants)}",
            f"token id: {identity.token_id}",
            f"issued: {_moment(identity.issued_at)}",
            f"expires: {_moment(identity.expires_at)}",
        ]

    def _remember(self, digest: bytes, identity: Identity) -> None:
        self._verified.pop(digest, None)
        self._verified[digest] = identity
        if len(self._verified) > self._cache_size:
            del self._verified[next(iter(self._verified))]

    def _read(self, token: str) -> Identity:
        try:
            claims, issuer = self._authentic(token)
            return self._identity(claims, issuer, token)
        except (Unauthenticated, KeyPending):
            raise
        except Exception as error:  # noqa: BLE001 - hostile input makes json and jose raise more than their own
            fault = type(error).__name__
        # Outside the handler, because such errors hold parts of the token as their attributes.
        refuse(f"it cannot be decoded ({fault})")

    def _authentic(self, token: str) -> tuple[Claims, Issuer]:
        """Return the claims, and the issuer that signed them."""
        header, claims = read_segments(token)
        kid = checked_kid(header)
        iss = claims.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            refuse("its iss is none of the configured issuers")
        alg = header.get("alg")
        if not isinstance(alg, str) or alg not in issuer.algorithms:
            refuse(f"its alg is not among {_listed(issuer.algorithms)}")
        try:
            _check_signature(token, kid, alg, issuer)
        except Unauthenticated as refusal:
            if issuer.remote is None or issuer.keys.has(kid, alg) or issuer.remote.keys.has(kid, alg):
                raise
            self._check_unknown(claims, issuer.remote, refusal)
        return claims, issuer

    def _check_unknown(self, claims: Claims, remote: RemoteKeys, refusal: Unauthenticated) -> NoReturn:
        """Refuse a token whose key is not known, for good only if there can be no such key.

        Invalid is a final word, which its bearer does not deserve when the key is newer than the set that is here.
        """
        # An old token may outlive the key it was signed with. Its bearer should hear that a fresh one will do.
        self._expiry(claims)
        if remote.may_change or not remote.is_newer_than(instant(claims, "iat"), self._leeway):
            raise KeyPending(remote, refusal)
        raise refusal

    def _identity(self, claims: Claims, issuer: Issuer, token: str) -> Identity:
        if issuer.audiences.isdisjoint(strings_at(claims, issuer.audience_claim, "the audience")):
            refuse(f"it is not for the audience {_listed(issuer.audiences)}")
        user = printable(claim_at(claims, issuer.user_claim), _USER_LIMIT, "the user")
        named = [printable(role, _ROLE_LIMIT, "a role") for role in strings_at(claims, issuer.roles_claim, "roles")]
        roles = shared(frozenset(named))
        scopes = shared(scopes_at(claims, issuer.scopes_claim))
        patterns = map(pattern, strings_at(claims, issuer.topics_claim, "topics"))
        return Identity(
            tenant=_tenant(claims, issuer),
            user=user,
            issuer=issuer.issuer,
            roles=roles,
            topic_patterns=shared(allowed_patterns(self._topic_rules, patterns, user=user, roles=roles, scopes=scopes)),
            scopes=scopes,
            tenants=shared(frozenset(map(tenant_name, strings_at(claims, issuer.tenants_claim, "tenants")))),
            token_id=_token_id(claims, token),
            issued_at=instant(claims, "iat"),
            # Last, so that "expired" means that a fresh one of the same kind would do.
            expires_at=self._expiry(claims),
        )

    def _expiry(self, claims: Claims) -> float:
        now = self._clock()
        expires_at, issued_at = instant(claims, "exp"), instant(claims, "iat")
        if issued_at > now + self._leeway:
            refuse("its iat is in the future")
        if "nbf" in claims and instant(claims, "nbf") > now + self._leeway:
            refuse("its nbf is in the future")
        if expires_at - issued_at > self._max_lifetime:
            refuse(f"it lives longer than {self._max_lifetime} seconds from iat to exp")
        if now >= expires_at + self._leeway:
            refuse("its exp is in the past", code="token_expired")
        return expires_at


def _patterns(topics: Iterable[str]) -> Iterator[TopicPattern]:
    for number, text in enumerate(topics):
        try:
            yield parse_pattern(text)
        except ValueError as error:
            violation = Violation(f"/topics/{number}", "bad_pattern", str(error))
            raise InvalidNotification([violation], code="invalid_ticket_request") from None


def _check_signature(token: str, kid: str | None, alg: str, issuer: Issuer) -> None:
    keys = issuer.keys.find(kid, alg)
    if issuer.remote is not None:
        keys = (*keys, *issuer.remote.keys.find(kid, alg))
    if not keys:
        refuse("its kid is not known" if kid else "the issuer has no key for its alg")
    for key in keys:
        try:
            # A list: python-jose tests membership, and a string would admit its substrings.
            jws.verify(token, key, list(issuer.algorithms))
        except JWSError:
            continue
        return
    refuse("its signature was not made with a key of the issuer")


def _token_id(claims: Claims, token: str) -> str:
    """The jti, or else a digest of what was signed: a signature can be written in more ways than one."""
    if claims.get("jti") is not None:
        return printable(claims["jti"], _TOKEN_ID_LIMIT, "jti")
    return f"sha256:{hashlib.sha256(token.rpartition('.')[0].encode()).hexdigest()}"


def _tenant(claims: Claims, issuer: Issuer) -> Tenant:
    claimed = claim_at(claims, issuer.tenant_claim)
    tenant = issuer.default_tenant if claimed is None else tenant_name(claimed)
    if tenant is None:
        refuse("it names no tenant, and there is no default")
    if issuer.tenants is not None and tenant not in issuer.tenants:
        refuse("its issuer may not assert this tenant")
    return Tenant(sys.intern(tenant))


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "none"
