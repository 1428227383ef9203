"""Who may enter: the issuers of tokens, and topics by rule."""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from notifier.settings.values import Group, Names, Secrets, from_json

DEVELOPMENT_ISSUER: Final = "notifier-development"
DEVELOPMENT_AUDIENCE: Final = "notifier"
DEVELOPMENT_SECRET: Final = "for development on loopback only, not a secret"


class ClaimPaths(Group):
    """Where a token says what: each a list of keys, since names hold dots and slashes."""

    user: Names = Field(["sub"])
    tenant: Names = Field(["tenant"])
    roles: Names = Field(["roles"])
    topics: Names = Field(["topics"])
    scopes: Names = Field(["scope"])
    tenants: Names = Field(["tenants"])
    audience: Names = Field(["aud"])


class Key(Group):
    """One key of an issuer: a secret, or a public key as PEM, here or in a file."""

    kid: str | None = None
    secret: SecretStr | None = None
    secret_file: Path | None = None
    public_key: str | None = None
    public_key_file: Path | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = (self.secret, self.secret_file, self.public_key, self.public_key_file)
        if sum(source is not None for source in sources) != 1:
            raise ValueError("give exactly one of secret, secret_file, public_key, public_key_file")
        return self

    def material(self) -> bytes:
        """The key itself. Raises OSError when its file cannot be read."""
        if self.secret is not None:
            return self.secret.get_secret_value().encode()
        if self.public_key is not None:
            return self.public_key.encode()
        file = self.secret_file or self.public_key_file
        assert file is not None
        return file.read_bytes().strip()


class Issuer(Group):
    """Somebody whose tokens are accepted."""

    issuer: str
    keys: list[Key] = Field(min_length=1)
    algorithms: list[str] = Field(min_length=1)
    audiences: list[str] = Field(min_length=1)
    tenants: list[str] | None = None
    claims: ClaimPaths = ClaimPaths()


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
    leeway_seconds: int = Field(30, ge=0, le=60, description="Tolerance for clocks that differ.")
    token_max_lifetime_seconds: int = Field(86_400, gt=0, description="Tokens that live longer are refused.")
    tickets: Literal["auto", "on", "off"] = Field(
        "auto", description="`POST /ticket`; `auto`: where there are secrets, or one replica, which makes its own."
    )
    ticket_secrets: Secrets = Field(
        [], description="What signs tickets, at least 32 bytes each, by commas or lines: the first signs, all verify."
    )
