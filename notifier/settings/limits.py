"""How often callers may call, how many sessions there may be, and where that is counted."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from notifier.settings.values import Group, Limit


def _redis_url(url: SecretStr) -> SecretStr:
    """The address of a Redis. What is wrong with it is said without it: it holds a password."""
    given = url.get_secret_value()
    parts = urlsplit(given)
    if given and (parts.scheme not in ("redis", "rediss") or not parts.hostname):
        raise ValueError("must read like redis://:password@host:6379/0, or rediss://")
    return url


class Limits(Group):
    """How often callers may call."""

    address: Limit = Field("1000/second", description="HTTP requests of one address, before anything else.")
    send: Limit = Field("500/second", description="`POST /notify` of one caller.")
    batch: Limit = Field("10000/second", description="Items of `POST /notify/batch` of one caller.")
    broadcast: Limit = Field("20/second", description="Notifications to everyone of one caller.")
    revoke: Limit = Field("50/second", description="`POST /revocations` of one caller.")
    ticket: Limit = Field("100/second", description="`POST /ticket` of one caller.")
    tenant: Limit = Field("10000/second", description="Notifications of one tenant, by HTTP and by queue together.")
    handshakes: Limit = Field("500/second", description="Handshakes of this process, whoever comes.")
    address_handshakes: Limit = Field("200/second", description="Handshakes of one address with this process.")


class Counts(Group):
    """Where replicas count together."""

    url: Annotated[SecretStr, AfterValidator(_redis_url)] = Field(
        SecretStr(""), description="`redis://` or `rediss://`, for all replicas; empty: each counts for itself."
    )
    patience_seconds: float = Field(0.05, gt=0, description="Redis is awaited for so long.")
    away_seconds: float = Field(30, gt=0, description="When it did not answer in time, it is left alone for so long.")


class Overload(Group):
    """When new sessions are refused, so that those which are open do not suffer."""

    loop_lag_seconds: float = Field(0.5, gt=0, description="The event loop is late by this, twice in a row.")
    memory_fraction: float = Field(0.9, gt=0, le=1, description="The process takes this share of its memory.")
    memory_limit_bytes: int = Field(0, ge=0, description="That memory; 0: what the control group allows.")
