"""Turns a bearer token into an Identity, or refuses it; apart from the keys, all that touches python-jose."""

import base64
import hashlib
import json
import math
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Final, NoReturn

from jose import jws
from jose.exceptions import JWSError

from notifier.access.keys import KeySet, check_algorithms, is_kid
from notifier.access.topics import TopicRule, allowed_patterns, parse_pattern
from notifier.core.errors import Unauthenticated
from notifier.core.identity import Identity, Tenant

TOKEN_LIMIT_BYTES: Final = 7_168
_SEGMENTS: Final = 3
_DEPTH_LIMIT: Final = 16
_USER_LIMIT: Final = 256
_ROLE_LIMIT: Final = 128
_SCOPE_LIMIT: Final = 256
_TOKEN_ID_LIMIT: Final = 256
_YEAR_10000: Final = 253_402_300_800
# Each of them has the token choose its own key (RFC 8725 section 3.10) or changes what the signature covers.
_DANGEROUS: Final = ("jku", "x5u", "jwk", "crit", "zip", "b64")
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_TENANT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DETAILS: Final = {
    "token_missing": "A bearer token is required.",
    "token_invalid": "The bearer token is not valid.",
    "token_expired": "The bearer token has expired.",
}
Claims = Mapping[str, object]
ClaimPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Issuer:
    """Somebody whose tokens are accepted, and where its tokens say what.

    Args:
        issuer: the exact `iss`.
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

    def __post_init__(self) -> None:
        check_algorithms(self.algorithms)
        if not self.issuer or not self.audiences:
            raise ValueError("an issuer needs its exact iss, and at least one audience its tokens are for")


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

    def verify(self, token: str) -> Identity:
        """Return who the bearer is.

        Raises:
            Unauthenticated: whatever is wrong with the token; nothing else leaves this method.
        """
        _check_shape(token)
        digest = hashlib.sha256(token.encode("ascii")).digest()
        identity = self._verified.get(digest)
        if identity is None or self._clock() >= identity.expires_at:
            identity = self._read(token)
            self._remember(digest, identity)
        return identity

    def forget_all(self) -> None:
        """Verify every token anew from here on, as after a change of keys."""
        self._verified.clear()

    def explain(self, token: str) -> list[str]:
        """Say in lines for a person what the token stands for here, or why it is refused."""
        try:
            identity = self.verify(token)
        except Unauthenticated as refusal:
            return [f"refused ({refusal.code}): {refusal.reason}"]
        return [
            f"issuer: {identity.issuer}",
            f"tenant: {identity.tenant}",
            f"user: {identity.user}",
            f"roles: {_listed(identity.roles)}",
            f"topics: {_listed('.'.join(pattern) for pattern in identity.topic_patterns)}",
            f"scopes: {_listed(identity.scopes)}",
            f"may send into: {_listed(identity.tenants)}",
            f"expires: {datetime.fromtimestamp(identity.expires_at, UTC).isoformat(timespec='milliseconds')}",
        ]

    def _remember(self, digest: bytes, identity: Identity) -> None:
        self._verified.pop(digest, None)
        self._verified[digest] = identity
        if len(self._verified) > self._cache_size:
            del self._verified[next(iter(self._verified))]

    def _read(self, token: str) -> Identity:
        try:
            claims, issuer = self._authentic(token)
            return self._identity(claims, issuer)
        except Unauthenticated:
            raise
        except Exception as error:  # noqa: BLE001 - hostile input makes json and jose raise more than their own
            fault = type(error).__name__
        # Outside the handler, because such errors hold parts of the token as their attributes.
        _refuse(f"it cannot be decoded ({fault})")

    def _authentic(self, token: str) -> tuple[Claims, Issuer]:
        """Return the claims, and the issuer that signed them."""
        header_segment, claims_segment, signature_segment = token.split(".")
        _decoded(signature_segment)
        header, claims = _strict_json(header_segment), _strict_json(claims_segment)
        kid = _checked_kid(header)
        iss = claims.get("iss")
        issuer = self._issuers.get(iss) if isinstance(iss, str) else None
        if issuer is None:
            _refuse("its iss is none of the configured issuers")
        alg = header.get("alg")
        if not isinstance(alg, str) or alg not in issuer.algorithms:
            _refuse(f"its alg is not among {_listed(issuer.algorithms)}")
        _check_signature(token, kid, alg, issuer)
        return claims, issuer

    def _identity(self, claims: Claims, issuer: Issuer) -> Identity:
        if issuer.audiences.isdisjoint(_strings(claims, issuer.audience_claim, "the audience")):
            _refuse(f"it is not for the audience {_listed(issuer.audiences)}")
        user = _name(_at(claims, issuer.user_claim), _USER_LIMIT, "the user")
        roles = frozenset(_name(role, _ROLE_LIMIT, "a role") for role in _strings(claims, issuer.roles_claim, "roles"))
        scopes = _scopes(claims, issuer.scopes_claim)
        patterns = map(_pattern, _strings(claims, issuer.topics_claim, "topics"))
        return Identity(
            tenant=_tenant(claims, issuer),
            user=user,
            issuer=issuer.issuer,
            roles=roles,
            topic_patterns=allowed_patterns(self._topic_rules, patterns, user=user, roles=roles, scopes=scopes),
            scopes=scopes,
            tenants=frozenset(map(_tenant_name, _strings(claims, issuer.tenants_claim, "tenants"))),
            token_id=None if claims.get("jti") is None else _name(claims["jti"], _TOKEN_ID_LIMIT, "jti"),
            # Last, so that "expired" means that a fresh one of the same kind would do.
            expires_at=self._expiry(claims),
        )

    def _expiry(self, claims: Claims) -> float:
        now = self._clock()
        expires_at, issued_at = _instant(claims, "exp"), _instant(claims, "iat")
        if issued_at > now + self._leeway:
            _refuse("its iat is in the future")
        if "nbf" in claims and _instant(claims, "nbf") > now + self._leeway:
            _refuse("its nbf is in the future")
        if expires_at - issued_at > self._max_lifetime:
            _refuse(f"it lives longer than {self._max_lifetime} seconds from iat to exp")
        if now >= expires_at + self._leeway:
            _refuse("its exp is in the past", code="token_expired")
        return expires_at


def _refuse(reason: str, *, code: str = "token_invalid") -> NoReturn:
    raise Unauthenticated(code, _DETAILS[code], reason=reason)


def _check_shape(token: str) -> None:
    if not token:
        _refuse("no token came", code="token_missing")
    if len(token) > TOKEN_LIMIT_BYTES:
        _refuse(f"it is longer than {TOKEN_LIMIT_BYTES} bytes")
    segments = token.split(".")
    if len(segments) != _SEGMENTS:
        _refuse(f"it has {len(segments)} segments instead of three (an encrypted one has five)")
    if not all(map(_SEGMENT.fullmatch, segments)):
        _refuse("a segment is not base64url without padding")


def _check_signature(token: str, kid: str | None, alg: str, issuer: Issuer) -> None:
    keys = issuer.keys.find(kid, alg)
    if not keys:
        _refuse("its kid is not known" if kid else "the issuer has no key for its alg")
    for key in keys:
        try:
            # A list: python-jose tests membership, and a string would admit its substrings.
            jws.verify(token, key, list(issuer.algorithms))
        except JWSError:
            continue
        return
    _refuse("its signature was not made with a key of the issuer")


def _decoded(segment: str) -> bytes:
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != segment.encode("ascii"):
        # Else one token would have several spellings.
        _refuse("a segment is not canonical base64url")
    return data


def _strict_json(segment: str) -> Claims:
    text = _decoded(segment).decode("utf-8")
    value: object = _STRICT.decode(text)
    if not isinstance(value, dict):
        _refuse("its header or its claims are not a JSON object")
    if _is_deep(value):
        _refuse(f"it nests deeper than {_DEPTH_LIMIT} levels")
    if "\\u" in text:
        # Only an escape can smuggle in a lone surrogate, which has no UTF-8 form.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        _refuse("a JSON object in it has two members of one name")
    return members


def _no_constant(_: str) -> NoReturn:
    _refuse("it holds NaN or Infinity")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse("it holds a number that is not finite")
    return number


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique_members, parse_constant=_no_constant, parse_float=_finite)


def _is_deep(value: dict[str, object] | list[object]) -> bool:
    level, depth = [value], 0
    while level and depth < _DEPTH_LIMIT:
        children = chain.from_iterable(node.values() if isinstance(node, dict) else node for node in level)
        level, depth = [child for child in children if isinstance(child, (dict, list))], depth + 1
    return bool(level)


def _checked_kid(header: Claims) -> str | None:
    for name in _DANGEROUS:
        if name in header:
            _refuse(f"its header has the dangerous field {name}")
    kid = header.get("kid")
    if "kid" in header and not is_kid(kid):
        _refuse("its kid is not 1 to 256 printable ASCII characters")
    return kid if isinstance(kid, str) else None


def _at(claims: Claims, path: ClaimPath) -> object:
    """Return what stands at the end of the path; None when there is nothing."""
    value: object = claims if path else None
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _strings(claims: Claims, path: ClaimPath, what: str) -> tuple[str, ...]:
    """Return a claim that is a string or an array of strings as a tuple; nothing, null and "" are empty."""
    value = _at(claims, path)
    if value is None or value == "":
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in values):
        _refuse(f"{what} must be a string or an array of strings")
    return tuple(values)


def _name(value: object, limit: int, what: str) -> str:
    name = unicodedata.normalize("NFC", value) if isinstance(value, str) else ""
    if not 0 < len(name) <= limit or not name.isprintable():
        _refuse(f"{what} must be 1 to {limit} printable characters")
    return name


def _scopes(claims: Claims, path: ClaimPath) -> frozenset[str]:
    value = _at(claims, path)
    scopes = filter(None, value.split(" ")) if isinstance(value, str) else _strings(claims, path, "scopes")
    return frozenset(_name(scope, _SCOPE_LIMIT, "a scope") for scope in scopes)


def _pattern(text: str) -> tuple[str, ...]:
    try:
        return parse_pattern(text)
    except ValueError:
        pass
    _refuse("a topic pattern in it is malformed")


def _tenant_name(value: object) -> str:
    if not isinstance(value, str) or _TENANT.fullmatch(value) is None:
        _refuse("a tenant must be 1 to 64 of A-Z a-z 0-9 _ -")
    return value


def _tenant(claims: Claims, issuer: Issuer) -> Tenant:
    claimed = _at(claims, issuer.tenant_claim)
    tenant = issuer.default_tenant if claimed is None else _tenant_name(claimed)
    if tenant is None:
        _refuse("it names no tenant, and there is no default")
    if issuer.tenants is not None and tenant not in issuer.tenants:
        _refuse("its issuer may not assert this tenant")
    return Tenant(tenant)


def _instant(claims: Claims, name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _YEAR_10000:
        _refuse(f"{name} must be a number of seconds since 1970")
    return float(value)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values)) or "none"
