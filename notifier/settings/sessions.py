"""Sessions, and what is remembered for them and for callers."""

from typing import Literal

from pydantic import Field

from notifier.settings.values import Group


class Window(Group):
    """What a returning client can still get. The oldest goes first when any of these is reached."""

    max_age_seconds: float = Field(3_600, gt=0, description="Age of a notification.")
    max_index_entries: int = Field(200_000, gt=0, description="Addresses of all notifications together.")
    max_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Sealed bytes of all notifications together.")


class Idempotency(Group):
    """How long an idempotency key is remembered."""

    span_seconds: int = Field(600, gt=0, description="A repeat within it is dropped.")
    capacity: int = Field(200_000, gt=0, description="Keys remembered at most.")


class Sessions(Group):
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
    max_per_user: int = Field(50, gt=0, description="Sessions of one user.")
    max_per_tenant: int = Field(1_000_000, gt=0, description="Sessions of one tenant.")
    max_per_address: int = Field(5_000, gt=0, description="Sessions of one IPv4 address, or of the /64 of an IPv6 one.")
    at_limit: Literal["reject", "evict_oldest"] = Field(
        "reject", description="What gives way when a user or tenant has too many: the newest session, or the oldest."
    )
    max_remembered: int = Field(10_000, ge=0, description="Closed sessions that `notifier why` can tell of.")
    deflate: bool = Field(False, description="Offer permessage-deflate; a broadcast is compressed once.")
    query_token: bool = Field(False, description="Accept `?token=`, which proxies and histories may keep.")
