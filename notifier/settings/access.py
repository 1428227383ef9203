"""Who may enter: the issuers of tokens, and topics by rule."""

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from notifier.settings.issuers import Issuer
from notifier.settings.values import Group, Secrets, from_json

DEVELOPMENT_ISSUER: Final = "notifier-development"
DEVELOPMENT_AUDIENCE: Final = "notifier"
DEVELOPMENT_SECRET: Final = "for development on loopback only, not a secret"


class Match(Group):
    """Whom a topic rule is for."""

    role: str | None = None
    scope: str | None = None
    any: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in (self.role, self.scope, self.any)) != 1:
            raise ValueError("give exactly one of role, scope, any")
        return self


class TopicRule(Group):
    """Topics that bearers may subscribe to beyond those their token names."""

    match: Match
    allow: list[str] = Field(min_length=1)


class Access(Group):
    """Who may enter."""

    issuers: Annotated[list[Issuer], BeforeValidator(from_json)] = Field(
        [], description="JSON array: whose tokens are accepted. See Tokens in the README."
    )
    topic_rules: Annotated[list[TopicRule], BeforeValidator(from_json)] = Field(
        [], description="JSON array of objects with `match` (role, scope or any) and `allow` (patterns)."
    )
    default_tenant: str | None = Field(
        "default", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Tenant of a token without one; empty refuses it."
    )
    jwks_refresh_seconds: float = Field(600, gt=0, le=1_800, description="Keys of issuers are fetched anew after it.")
    jwks_least_seconds: float = Field(
        30, gt=0, le=600, description="Least time between two fetches from one issuer, whatever tokens come."
    )
    jwks_timeout_seconds: float = Field(3, gt=0, le=10, description="A fetch that takes longer has failed.")
    jwks_max_stale_seconds: float = Field(
        86_400, gt=0, description="Keys whose issuer cannot be reached are kept for so long."
    )
    jwks_boot_seconds: float = Field(
        30, ge=0, description="A replica without the keys of an issuer is unready for so long after its start."
    )
    leeway_seconds: int = Field(30, ge=0, le=60, description="Tolerance for clocks that differ.")
    token_max_lifetime_seconds: int = Field(86_400, gt=0, description="Tokens that live longer are refused.")
    tickets: Literal["auto", "on", "off"] = Field(
        "auto", description="`POST /ticket`; `auto`: where there are secrets, or one replica, which makes its own."
    )
    ticket_secrets: Secrets = Field(
        [], description="What signs tickets, at least 32 bytes each, by commas or lines: the first signs, all verify."
    )
    max_revocations: int = Field(100_000, gt=0, description="More are refused; of them, a tenant has at most half.")
