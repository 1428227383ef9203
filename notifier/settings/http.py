"""The two ports."""

from typing import Literal

from pydantic import Field

from notifier.settings.values import Group, Names, Port


class Http(Group):
    """The public port."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(8000, description="Port to listen on; 0 takes a free one.")
    reuse_port: bool = Field(False, description="Let several replicas on one machine share the port.")
    public_origin: str | None = Field(None, description="The origin browsers see, such as `https://push.example.com`.")
    allowed_origins: Names = Field([], description="Origins whose pages may call and connect; empty: the same origin.")
    trusted_proxies: Names = Field([], description="Addresses or networks whose X-Forwarded-For and -Proto count.")
    require_tls: bool = Field(True, description="Refuse a session that came to a trusted proxy in the clear.")
    openapi: bool = Field(False, description="Serve `/openapi.json`.")
    body_timeout_seconds: float = Field(10, gt=0, description="A request body that takes longer is refused.")
    keep_alive_seconds: int = Field(65, gt=0, description="An idle HTTP connection is closed after it.")
    drain_delay_seconds: float = Field(5, ge=0, description="After SIGTERM, serve everything for so long, unready.")
    drain_window_seconds: float = Field(20, ge=0, description="Then close the sessions, spread over it.")
    tcp_user_timeout_milliseconds: int = Field(40_000, ge=0, description="Cut a peer that takes nothing for so long.")
    send_buffer_bytes: int = Field(65_536, ge=4_096, description="Kernel buffer for what a client has not read.")


class Operations(Group):
    """The operations port: probes, metrics, sessions."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: Port = Field(9000, description="Port to listen on; 0 takes a free one.")
    readiness_on_journal_loss: Literal["keep", "fail"] = Field(
        "keep", description="Whether a replica that cannot reach the broker stays ready, with its sessions."
    )
    canary_seconds: float = Field(
        5, ge=0, le=8, description="How often a replica sends to itself, to prove that it delivers; 0: never."
    )
