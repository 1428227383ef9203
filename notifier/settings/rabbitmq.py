"""The journal and the queue of requests, and RabbitMQ, which both may be on."""

from typing import Annotated, Final
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from notifier.settings.values import LOOPBACK, Group

EMBEDDED: Final = "memory://"


def broker_url(url: SecretStr) -> SecretStr:
    """An AMQP address. What is wrong with it is said without it: it holds a password."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError("must read like amqp://user:password@host:5672/vhost, or amqps://")
    if "no_verify_ssl" in parse_qs(parts.query, keep_blank_values=True):
        raise ValueError("no_verify_ssl would let anybody be the broker: give cafile instead")
    if (parts.username, parts.password) == ("guest", "guest") and parts.hostname not in LOOPBACK:
        raise ValueError("guest:guest is for a broker on loopback: give notifier a user of its own")
    return url


def _journal_url(url: SecretStr) -> SecretStr:
    return url if url.get_secret_value() == EMBEDDED else broker_url(url)


def _queue_url(url: SecretStr) -> SecretStr:
    return url if url.get_secret_value() in ("", "off") else broker_url(url)


def _prefix(prefix: str) -> str:
    if prefix == "amq":
        raise ValueError("RabbitMQ keeps names that begin with amq. for itself")
    return prefix


class Journal(Group):
    """The way from replica to replica."""

    url: Annotated[SecretStr, AfterValidator(_journal_url)] = Field(
        SecretStr(EMBEDDED), description="`memory://`: embedded, for one process; `amqp://` or `amqps://`: RabbitMQ."
    )
    publish_timeout_seconds: float = Field(3, gt=0, le=3, description="A slower append is a 503.")
    retention_seconds: int = Field(21_600, gt=0, description="Age at which the stream drops a record.")
    retention_bytes: int = Field(2 * 1024**3, ge=64 * 1024**2, description="Size at which the stream drops the oldest.")

    @property
    def is_shared(self) -> bool:
        return self.url.get_secret_value() != EMBEDDED


class Queue(Group):
    """The queue of requests."""

    url: Annotated[SecretStr, AfterValidator(_queue_url)] = Field(
        SecretStr(""), description="RabbitMQ to take requests from; empty: that of the journal, if it is one; or `off`."
    )
    require_message_id: bool = Field(True, description="Refuse a message without one: its redelivery would repeat it.")
    ordered: bool = Field(True, description="One replica takes requests at a time, which keeps a publisher's order.")
    prefetch: int = Field(50, gt=0, le=2_000, description="Messages taken and not yet acknowledged, at most.")
    held: int = Field(
        500, gt=0, le=5_000, description="Beside them: those that wait, their tenant being over its limit."
    )


class Broker(Group):
    """RabbitMQ, for the journal and for the queue."""

    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "notifier", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Begins every name; one per installation."
    )
    declare: bool = Field(True, description="Create what is needed; false: check that it is there.")
