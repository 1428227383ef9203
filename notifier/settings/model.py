"""All settings together, and which of them do not go together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from notifier.setting_files import SUFFIX, read_value
from notifier.settings.access import Access
from notifier.settings.http import Http, Operations
from notifier.settings.limits import Counts, Limits, Overload
from notifier.settings.rabbitmq import Broker, Journal, Queue, broker_url
from notifier.settings.sessions import Idempotency, Sessions, Window
from notifier.settings.telemetry import Telemetry
from notifier.settings.values import LOOPBACK, Group


class Settings(Group):
    """All of them."""

    insecure: bool = Field(False, description="Development keys on loopback. Never for anything else.")
    http: Http = Http()
    operations: Operations = Operations()
    journal: Journal = Journal()
    queue: Queue = Queue()
    broker: Broker = Broker()
    window: Window = Window()
    idempotency: Idempotency = Idempotency()
    sessions: Sessions = Sessions()
    access: Access = Access()
    limits: Limits = Limits()
    counts: Counts = Counts()
    overload: Overload = Overload()
    telemetry: Telemetry = Telemetry()
    _files: Mapping[str, Path] = PrivateAttr(default_factory=dict)  # Where a setting was read from, by its name.

    @model_validator(mode="after")
    def _works_together(self) -> Self:
        if self.insecure and not {self.http.host, self.operations.host} <= LOOPBACK:
            raise ValueError("NOTIFIER_INSECURE gives everybody the keys: it works with a loopback host only")
        if self.insecure and self.access.issuers:
            raise ValueError("NOTIFIER_INSECURE brings its own issuer: leave NOTIFIER_ACCESS__ISSUERS out")
        if not self.insecure and not self.access.issuers:
            raise ValueError(
                "nobody could enter: set NOTIFIER_ACCESS__ISSUERS to whose tokens are accepted, "
                "or NOTIFIER_INSECURE=true for development keys on loopback"
            )
        if self.http.reuse_port and not self.journal.is_shared:
            raise ValueError("NOTIFIER_HTTP__REUSE_PORT needs a shared journal: with memory:// replicas do not meet")
        remembered_seconds = max(self.window.max_age_seconds, self.idempotency.span_seconds)
        if self.journal.is_shared and self.journal.retention_seconds < remembered_seconds:
            raise ValueError(
                "NOTIFIER_JOURNAL__RETENTION_SECONDS is less than the window or the span of idempotency keys: "
                "a replica that starts could not read back what it has to know"
            )
        if "*" in self.http.allowed_origins and not self.insecure:
            raise ValueError("NOTIFIER_HTTP__ALLOWED_ORIGINS: * needs NOTIFIER_INSECURE; name the origins")
        if self.access.tickets == "on" and not self.has_tickets:
            raise ValueError(
                "NOTIFIER_ACCESS__TICKET_SECRETS: replicas that share a journal need the same ones, for tickets"
            )
        return self

    @property
    def has_tickets(self) -> bool:
        """Whether tickets are given here, and taken."""
        are_possible = bool(self.access.ticket_secrets) or self.insecure or not self.journal.is_shared
        return self.access.tickets != "off" and are_possible

    @property
    def queue_url(self) -> str | None:
        """Where requests are taken from; None for nowhere."""
        given = self.queue.url.get_secret_value()
        if given:
            return None if given == "off" else given
        return self.journal.url.get_secret_value() if self.journal.is_shared else None

    def journal_url_now(self) -> str:
        """The URL of the journal as its file has it now, if it has one. Raises ValueError for what is none."""
        return self._url_now("NOTIFIER_JOURNAL__URL", self.journal.url)

    def queue_url_now(self) -> str:
        """The same of the broker that requests are taken from; there must be one."""
        if not self.queue.url.get_secret_value():
            return self.journal_url_now()
        return self._url_now("NOTIFIER_QUEUE__URL", self.queue.url)

    def _url_now(self, name: str, read_at_start: SecretStr) -> str:
        file = self._files.get(name)
        if file is None:
            return read_at_start.get_secret_value()
        try:
            return broker_url(SecretStr(read_value(file))).get_secret_value()
        except ValueError as error:
            raise ValueError(f"{name}{SUFFIX}: {error}") from None
