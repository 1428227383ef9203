"""Every setting of the service, read from the environment: `NOTIFIER_`, and names joined by `__`.

A wrong value, an unknown name and a combination that cannot work are each refused with a sentence that helps.
"""

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from notifier.setting_files import SUFFIX, read_value, with_files

PREFIX: Final = "NOTIFIER_"
EMBEDDED: Final = "memory://"
DEVELOPMENT_ISSUER: Final = "notifier-development"
DEVELOPMENT_AUDIENCE: Final = "notifier"
DEVELOPMENT_SECRET: Final = "for development on loopback only, not a secret"
# What Kubernetes injects for a Service called notifier, or notifier-something. A bare port, as in NOTIFIER_PORT=8000,
# is somebody's mistake; Kubernetes writes tcp://10.0.0.1:8000.
_SERVICE_NAME: Final = re.compile(r"NOTIFIER_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?)")
_SERVICE_LINK: Final = re.compile(r"NOTIFIER_([A-Z0-9_]+_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)(://.*)?", re.IGNORECASE)
RELOADED: Final = frozenset(
    {
        *(f"{PREFIX}HTTP__{name}" for name in ("ALLOWED_ORIGINS", "PUBLIC_ORIGIN")),
        *(f"{PREFIX}ACCESS__{name}" for name in ("ISSUERS", "TOPIC_RULES", "DEFAULT_TENANT")),
        *(f"{PREFIX}ACCESS__{name}" for name in ("LEEWAY_SECONDS", "TOKEN_MAX_LIFETIME_SECONDS")),
        *(f"{PREFIX}LIMITS__{name}" for name in ("ADDRESS", "SEND", "BATCH", "BROADCAST")),
    }
)
"""What a running service takes over from files, on SIGHUP."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class SettingsError(Exception):
    """The environment does not make a working configuration; `problems` has a sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _split(value: object) -> object:
    """A list is written as a JSON array or with commas."""
    if isinstance(value, str):
        text = value.strip()
        return json.loads(text) if text.startswith("[") else [part.strip() for part in text.split(",") if part.strip()]
    return value


def _limit(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d*/(second|minute|hour|day)", text):
        raise ValueError("must read like 500/second: a number per second, minute, hour or day")
    return text


def _broker_url(url: SecretStr) -> SecretStr:
    """An AMQP address. What is wrong with it is said without it: it holds a password."""
    parts = urlsplit(url.get_secret_value())
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise ValueError("must read like amqp://user:password@host:5672/vhost, or amqps://")
    if "no_verify_ssl" in parse_qs(parts.query, keep_blank_values=True):
        raise ValueError("no_verify_ssl would let anybody be the broker: give cafile instead")
    return url


def _journal_url(url: SecretStr) -> SecretStr:
    return url if url.get_secret_value() == EMBEDDED else _broker_url(url)


def _queue_url(url: SecretStr) -> SecretStr:
    return url if url.get_secret_value() in ("", "off") else _broker_url(url)


def _prefix(prefix: str) -> str:
    if prefix == "amq":
        raise ValueError("RabbitMQ keeps names that begin with amq. for itself")
    return prefix


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_split)]
Port = Annotated[int, Field(ge=0, le=65_535)]
Limit = Annotated[str, BeforeValidator(_limit)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Http(_Group):
    """The public port."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8000, description="Port to listen on; 0 takes a free one.")
    reuse_port: bool = Field(False, description="Let several replicas on one machine share the port.")
    public_origin: str | None = Field(None, description="The origin browsers see, such as `https://push.example.com`.")
    allowed_origins: Names = Field([], description="Origins whose pages may call and connect; empty: the same origin.")
    trusted_proxies: Names = Field([], description="Addresses or networks whose X-Forwarded-For and -Proto count.")
    openapi: bool = Field(False, description="Serve `/openapi.json`.")
    body_timeout_seconds: float = Field(10, gt=0, description="A request body that takes longer is refused.")
    keep_alive_seconds: int = Field(65, gt=0, description="An idle HTTP connection is closed after it.")
    drain_delay_seconds: float = Field(5, ge=0, description="After SIGTERM, serve everything for so long, unready.")
    drain_window_seconds: float = Field(20, ge=0, description="Then close the sessions, spread over it.")
    tcp_user_timeout_milliseconds: int = Field(40_000, ge=0, description="Cut a peer that takes nothing for so long.")
    send_buffer_bytes: int = Field(65_536, ge=4_096, description="Kernel buffer for what a client has not read.")


class Operations(_Group):
    """The operations port: probes, metrics, sessions."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(9000, description="Port to listen on; 0 takes a free one.")
    readiness_on_journal_loss: Literal["keep", "fail"] = Field(
        "keep", description="Whether a replica that cannot reach the broker stays ready, with its sessions."
    )


class Journal(_Group):
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


class Queue(_Group):
    """The queue of requests."""

    url: Annotated[SecretStr, AfterValidator(_queue_url)] = Field(
        SecretStr(""), description="RabbitMQ to take requests from; empty: that of the journal, if it is one; or `off`."
    )
    require_message_id: bool = Field(True, description="Refuse a message without one: its redelivery would repeat it.")
    ordered: bool = Field(True, description="One replica takes requests at a time, which keeps a publisher's order.")
    prefetch: int = Field(50, gt=0, le=2_000, description="Messages taken and not yet acknowledged, at most.")


class Broker(_Group):
    """RabbitMQ, for the journal and for the queue."""

    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "notifier", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Begins every name; one per installation."
    )
    declare: bool = Field(True, description="Create what is needed; false: check that it is there.")


class Window(_Group):
    """What a returning client can still get. The oldest goes first when any of these is reached."""

    max_age_seconds: float = Field(3_600, gt=0, description="Age of a notification.")
    max_index_entries: int = Field(200_000, gt=0, description="Addresses of all notifications together.")
    max_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Sealed bytes of all notifications together.")


class Idempotency(_Group):
    """How long an idempotency key is remembered."""

    span_seconds: int = Field(600, gt=0, description="A repeat within it is dropped.")
    capacity: int = Field(200_000, gt=0, description="Keys remembered at most.")


class Sessions(_Group):
    """WebSocket sessions."""

    heartbeat_seconds: float = Field(25, gt=0, description="A session hears this often how far it stands.")
    auth_timeout_seconds: float = Field(5, gt=0, description="Time for a first frame with the token.")
    stall_timeout_seconds: float = Field(20, gt=0, description="A client that takes nothing for so long is closed.")
    write_limit_bytes: int = Field(65_536, gt=0, description="What may wait for a client before it falls behind.")
    max_running_cursors: int = Field(1_000, gt=0, description="Sessions that catch up at a time.")
    frame_limit_bytes: int = Field(16_384, ge=1_024, description="Size of a client's frame.")
    frames_per_second: float = Field(10, gt=0, description="Frames a client may send, on average.")
    frames_burst: int = Field(100, gt=0, description="Frames a client may send at once.")
    max_total: int = Field(15_000, gt=0, description="Sessions of this process.")
    max_per_user: int = Field(50, gt=0, description="Sessions of one user on this replica.")
    max_remembered: int = Field(10_000, ge=0, description="Closed sessions that `notifier why` can tell of.")
    deflate: bool = Field(False, description="Offer permessage-deflate; a broadcast is compressed once.")
    query_token: bool = Field(False, description="Accept `?token=`, which proxies and histories may keep.")


class ClaimPaths(_Group):
    """Where a token says what: each a list of keys, since names hold dots and slashes."""

    user: Names = ["sub"]
    tenant: Names = ["tenant"]
    roles: Names = ["roles"]
    topics: Names = ["topics"]
    scopes: Names = ["scope"]
    tenants: Names = ["tenants"]
    audience: Names = ["aud"]


class Key(_Group):
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


class Issuer(_Group):
    """Somebody whose tokens are accepted."""

    issuer: str
    keys: list[Key] = Field(min_length=1)
    algorithms: list[str] = Field(min_length=1)
    audiences: list[str] = Field(min_length=1)
    tenants: list[str] | None = None
    claims: ClaimPaths = ClaimPaths()


class Match(_Group):
    """Whom a topic rule is for."""

    role: str | None = None
    scope: str | None = None
    any: Literal[True] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if sum(value is not None for value in (self.role, self.scope, self.any)) != 1:
            raise ValueError("give exactly one of role, scope, any")
        return self


class TopicRule(_Group):
    """Topics that bearers may subscribe to beyond those their token names."""

    match: Match
    allow: list[str] = Field(min_length=1)


class Access(_Group):
    """Who may enter."""

    issuers: Annotated[list[Issuer], BeforeValidator(_from_json)] = Field(
        [], description="JSON array: whose tokens are accepted. See Tokens in the README."
    )
    topic_rules: Annotated[list[TopicRule], BeforeValidator(_from_json)] = Field(
        [], description="JSON array of objects with `match` (role, scope or any) and `allow` (patterns)."
    )
    default_tenant: str | None = Field(
        "default", pattern=r"^[A-Za-z0-9_-]{1,64}$", description="Tenant of a token without one; empty refuses it."
    )
    leeway_seconds: int = Field(30, ge=0, le=60, description="Tolerance for clocks that differ.")
    token_max_lifetime_seconds: int = Field(86_400, gt=0, description="Tokens that live longer are refused.")


class Limits(_Group):
    """How often callers may call; per process."""

    address: Limit = Field("1000/second", description="HTTP requests of one address, before anything else.")
    send: Limit = Field("500/second", description="`POST /notify` of one caller.")
    batch: Limit = Field("10000/second", description="Items of `POST /notify/batch` of one caller.")
    broadcast: Limit = Field("20/second", description="Notifications to everyone of one caller.")


class Telemetry(_Group):
    """What can be seen."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object per line, or text for people.")
    traces: Literal["auto", "on", "off"] = Field(
        "auto", description="OpenTelemetry, by the `OTEL_` variables; `auto`: when they name an OTLP endpoint."
    )


class Settings(_Group):
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
    telemetry: Telemetry = Telemetry()
    _files: Mapping[str, Path] = PrivateAttr(default_factory=dict)  # Where a setting was read from, by its name.

    @model_validator(mode="after")
    def _works_together(self) -> Self:
        if self.insecure and not {self.http.host, self.operations.host} <= _LOOPBACK:
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
        return self

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
            return _broker_url(SecretStr(read_value(file))).get_secret_value()
        except ValueError as error:
            raise ValueError(f"{name}{SUFFIX}: {error}") from None


def read_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Read the environment, and the files that it names; `overrides`, by the same names, win over both.

    Raises:
        SettingsError: with every mistake at once.
    """
    named = {name: str(value) for name, value in (overrides or {}).items()}
    overridden = {name + SUFFIX for name in named}
    environment = {name: value for name, value in os.environ.items() if name not in overridden} | named
    given, files, problems = with_files(
        {name: value for name, value in environment.items() if _is_ours(name, value)}, known_names()
    )
    problems += [_unknown(name) for name in sorted(given.keys() - known_names().keys())]
    if environment.get("WEB_CONCURRENCY", "") not in ("", "0", "1"):
        problems.append("WEB_CONCURRENCY is over 1: one process is one replica; start more replicas instead")
    try:
        settings = Settings.model_validate(_nested(given))
    except ValidationError as error:
        problems += [_problem(each, files) for each in error.errors(include_url=False, include_input=False)]
    if problems:
        raise SettingsError(problems)
    settings._files = files
    return settings


def known_names() -> dict[str, FieldInfo]:
    """Every name of the environment that means something, with its field."""
    return dict(_names_of(Settings, PREFIX))


def changed_names(before: Settings, after: Settings) -> list[str]:
    """The names of the settings that differ."""
    return [name for name in known_names() if _value_of(before, name) != _value_of(after, name)]


def describe_settings(settings: Settings) -> list[str]:
    """One line per setting that is in force, as it would stand in the environment; secrets are masked."""
    return [f"{name}={_as_text(_value_of(settings, name))}" for name in known_names()]


def _value_of(settings: Settings, name: str) -> object:
    value: Any = settings
    for step in name.removeprefix(PREFIX).lower().split("__"):
        value = getattr(value, step)
    return value


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return json.dumps([each.model_dump(mode="json") if isinstance(each, BaseModel) else each for each in value])
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return _masked(value.get_secret_value())
    return str(value).lower() if isinstance(value, bool) else str(value)


def _masked(url: str) -> str:
    """The URL without the password; its query may hold one as well, as that of a key file."""
    if "@" not in url and "?" not in url:
        return url
    parts = urlsplit(url)
    at = parts.netloc.rpartition("@")[2]
    user = f"{parts.username}:***@" if parts.username else ""
    return parts._replace(netloc=user + at, query="***" if parts.query else "").geturl()


def _names_of(group: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in group.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, _Group):
            yield from _names_of(kind, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper(), field


def _is_ours(name: str, value: str) -> bool:
    if not name.startswith(PREFIX) or name.startswith(f"{PREFIX}TEST_"):
        return False
    is_injected = _SERVICE_NAME.fullmatch(name) or (_SERVICE_LINK.fullmatch(name) and _LINK_VALUE.fullmatch(value))
    # NOTIFIER_PORT_8000_TCP_PORT and _ADDR hold a bare value, and no name of ours looks like them.
    return not (is_injected or re.search(r"_PORT_\d+_(TCP|UDP|SCTP)(_|$)", name))


def _nested(given: Mapping[str, str]) -> dict[str, Any]:
    """Names joined by `__` as nested objects."""
    nested: dict[str, Any] = {}
    for name in given.keys() & known_names().keys():
        *groups, last = name.removeprefix(PREFIX).lower().split("__")
        group = nested
        for each in groups:
            group = group.setdefault(each, {})
        # An empty value takes a name away, where a setting can go without.
        group[last] = None if not given[name] and known_names()[name].annotation == str | None else given[name]
    return nested


def _unknown(name: str) -> str:
    suffix = SUFFIX if name.endswith(SUFFIX) else ""
    nearest = difflib.get_close_matches(name.removesuffix(suffix), known_names(), n=1, cutoff=0.6)
    return f"{name} is not a setting" + (f"; did you mean {nearest[0]}{suffix}?" if nearest else "")


def _problem(error: ErrorDetails, files: Mapping[str, Path]) -> str:
    """Name the setting, and the place inside it where it is JSON."""
    text = error["msg"].removeprefix("Value error, ")
    name = PREFIX.removesuffix("_")
    separator = "_"
    steps = [str(step) for step in error["loc"]]
    while steps and name not in known_names():
        name += separator + steps.pop(0).upper()
        separator = "__"
    name += SUFFIX if name in files else ""
    place = "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in steps)
    return f"{name}{place}: {text}" if error["loc"] else text
