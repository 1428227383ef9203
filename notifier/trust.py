"""Whom the settings trust, issuers and origins, made ready for the service and for `notifier check`."""

from functools import partial
from secrets import token_bytes
from typing import Final, Literal

from notifier.access.development import mint
from notifier.access.key_fetch import KeyPlace
from notifier.access.key_pool import KeyPool
from notifier.access.keys import KeyMaterial, KeySet, check_algorithms, load_keys, ready_key
from notifier.access.origins import OriginPolicy
from notifier.access.remote_keys import Pace, RemoteKeys
from notifier.access.tickets import SECRET_BYTES, Tickets
from notifier.access.tokens import Issuer, TokenVerifier
from notifier.access.topics import TopicRule
from notifier.settings import (
    DEVELOPMENT_AUDIENCE,
    DEVELOPMENT_ISSUER,
    DEVELOPMENT_SECRET,
    Match,
    Settings,
    SettingsError,
)
from notifier.settings import Issuer as IssuerSettings

# Mints what `NOTIFIER_INSECURE` accepts; arguments as in `access/development.py`.
development_token: Final = partial(
    mint, issuer=DEVELOPMENT_ISSUER, audience=DEVELOPMENT_AUDIENCE, key=DEVELOPMENT_SECRET, algorithm="HS256"
)


def build_key_pool(settings: Settings) -> KeyPool:
    """What fetches the keys of issuers that publish them."""
    access = settings.access
    pace = Pace(
        refresh_seconds=access.jwks_refresh_seconds,
        least_seconds=access.jwks_least_seconds,
        timeout_seconds=access.jwks_timeout_seconds,
        max_stale_seconds=access.jwks_max_stale_seconds,
    )
    return KeyPool(pace, boot_seconds=access.jwks_boot_seconds)


def build_verifier(settings: Settings, pool: KeyPool) -> TokenVerifier:
    """Load the keys and rules. Raises SettingsError for those that cannot be used, all at once.

    Keys that are published come from the pool, which keeps them fresh once it is told to (`use`).
    """
    access = settings.access
    issuers: list[Issuer] = []
    rules: list[TopicRule] = []
    problems: list[str] = []
    for index, configured in enumerate(access.issuers):
        try:
            issuers.append(_issuer(configured, access.default_tenant, pool))
        except (ValueError, OSError) as error:
            problems.append(f"NOTIFIER_ACCESS__ISSUERS[{index}]: {error}")
    for index, rule in enumerate(access.topic_rules):
        try:
            rules.append(TopicRule(*_kind_and_value(rule.match), tuple(rule.allow)))
        except ValueError as error:
            problems.append(f"NOTIFIER_ACCESS__TOPIC_RULES[{index}]: {error}")
    if settings.insecure:
        issuers.append(_development_issuer(access.default_tenant))
    try:
        if not problems:
            return TokenVerifier(
                issuers,
                topic_rules=rules,
                leeway_seconds=access.leeway_seconds,
                max_lifetime_seconds=access.token_max_lifetime_seconds,
            )
    except ValueError as error:
        problems.append(f"NOTIFIER_ACCESS__ISSUERS: {error}")
    raise SettingsError(problems)


def ticket_secrets(settings: Settings) -> list[bytes]:
    """What signs tickets, as far as that is configured."""
    configured = [secret.get_secret_value().encode() for secret in settings.access.ticket_secrets]
    return configured or ([DEVELOPMENT_SECRET.encode()] if settings.insecure else [])


def build_tickets(settings: Settings) -> Tickets | None:
    """The tickets, or None where there are none. One replica alone needs nobody else to read them."""
    if not settings.has_tickets:
        return None
    return Tickets(ticket_secrets(settings) or [token_bytes(SECRET_BYTES)])


def build_origins(settings: Settings) -> OriginPolicy:
    """Read the origins whose pages are let in. Raises SettingsError for what is none."""
    http = settings.http
    try:
        OriginPolicy([], public_origin=http.public_origin)
    except ValueError as error:
        raise SettingsError([f"NOTIFIER_HTTP__PUBLIC_ORIGIN: {error}"]) from None
    try:
        return OriginPolicy(
            [origin for origin in http.allowed_origins if origin != "*"],
            public_origin=http.public_origin,
            allow_any="*" in http.allowed_origins,
        )
    except ValueError as error:
        raise SettingsError([f"NOTIFIER_HTTP__ALLOWED_ORIGINS: {error}"]) from None


def _issuer(configured: IssuerSettings, default_tenant: str | None, pool: KeyPool) -> Issuer:
    materials = [KeyMaterial(key.material(), key.kid) for key in configured.keys]
    claims, algorithms = configured.claim_paths(), configured.signed_with
    return Issuer(
        issuer=configured.issuer,
        keys=load_keys(materials, algorithms) if materials else KeySet([]),
        remote=_remote(configured, pool) if configured.publishes_keys else None,
        algorithms=algorithms,
        audiences=frozenset(configured.audiences),
        tenants=None if configured.tenants is None else frozenset(configured.tenants),
        user_claim=tuple(claims.user),
        tenant_claim=tuple(claims.tenant),
        roles_claim=tuple(claims.roles),
        topics_claim=tuple(claims.topics),
        scopes_claim=tuple(claims.scopes),
        tenants_claim=tuple(claims.tenants),
        audience_claim=tuple(claims.audience),
        default_tenant=default_tenant,
    )


def _remote(configured: IssuerSettings, pool: KeyPool) -> RemoteKeys:
    check_algorithms(configured.signed_with)
    try:
        place = KeyPlace(configured.issuer, configured.jwks_url, configured.ca_file)
    except ValueError as error:
        if configured.jwks_url is None and configured.ca_file is None:
            raise ValueError(f"give keys, or jwks_url, since its keys cannot be discovered: {error}") from None
        raise
    return pool.keys_of(place, configured.signed_with)


def _development_issuer(default_tenant: str | None) -> Issuer:
    return Issuer(
        issuer=DEVELOPMENT_ISSUER,
        keys=KeySet([ready_key(DEVELOPMENT_SECRET.encode(), "HS256", None)]),  # Everybody knows it: loopback only.
        algorithms=("HS256",),
        audiences=frozenset({DEVELOPMENT_AUDIENCE}),
        default_tenant=default_tenant,
    )


def _kind_and_value(match: Match) -> tuple[Literal["role", "scope", "any"], str]:
    if match.role is not None:
        return "role", match.role
    if match.scope is not None:
        return "scope", match.scope
    return "any", ""
