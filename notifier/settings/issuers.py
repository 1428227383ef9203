"""An issuer of tokens: its keys, fixed or fetched, and where its tokens say what."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self

from pydantic import Field, SecretStr, model_validator

from notifier.settings.values import Group, Names

Preset = Literal["keycloak", "auth0", "entra", "cognito", "okta"]
# Where it differs from the usual; docs/identity says why. All sign with RS256 unless told otherwise.
PRESETS: Final[Mapping[Preset, Mapping[str, Any]]] = MappingProxyType(
    {
        "keycloak": {"roles": ["realm_access", "roles"]},
        "auth0": {},
        "entra": {"user": ["oid"], "scopes": ["roles"]},
        "cognito": {"audience": ["client_id"], "roles": ["cognito:groups"]},
        "okta": {"user": ["uid"], "roles": ["groups"], "scopes": ["scp"]},
    }
)


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
    preset: Preset | None = None
    keys: list[Key] = Field([])
    jwks_url: str | None = None
    ca_file: Path | None = None
    algorithms: list[str] = Field([])
    audiences: list[str] = Field(min_length=1)
    tenants: list[str] | None = None
    claims: ClaimPaths = ClaimPaths()

    @model_validator(mode="after")
    def _works_together(self) -> Self:
        if not self.signed_with:
            raise ValueError('give algorithms, such as ["RS256"], or a preset')
        if self.ca_file is not None and not self.publishes_keys:
            raise ValueError("ca_file is for fetching keys, and these are fixed: add jwks_url, or take it out")
        if self.publishes_keys and self.signed_with[0].startswith("HS"):
            raise ValueError("HS tokens need a secret, which nobody publishes: give keys, and no jwks_url")
        return self

    @property
    def publishes_keys(self) -> bool:
        """Whether keys are fetched: from `jwks_url`, or, where there is no key at all, from where the issuer says."""
        return self.jwks_url is not None or not self.keys

    @property
    def signed_with(self) -> tuple[str, ...]:
        """The algorithms of its tokens."""
        return tuple(self.algorithms) or (("RS256",) if self.preset else ())

    def claim_paths(self) -> ClaimPaths:
        """Where its tokens say what: as given, else as the preset has it, else at the usual places."""
        preset = PRESETS[self.preset] if self.preset else {}
        return ClaimPaths(**{**preset, **self.claims.model_dump(exclude_unset=True)})
