"""What is said in a session, in both directions, as models: the AsyncAPI document is made of them.

Nothing at run time goes by them: frames are bytes that are made once (frames.py), and what a client says is read by
hand (conversation.py). The tests hold every frame that they see against them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Place = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Opaque; a place to resume from, never compared.")
]
Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC, milliseconds.")]
Ref = Annotated[str | int | None, Field(description="That of the client's frame, if it had one.")]
Code = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Denied(BaseModel):
    """A topic that was not granted."""

    topic: str
    code: Code


class ResumeOutcome(BaseModel):
    """Whether the session goes on where the client stood."""

    status: Literal["new", "resumed", "reset"]
    replayed: int | None = Field(default=None, description="How many notifications follow; of `resumed`.")
    reason: Literal["window_passed", "epoch_changed", "position_ahead", "position_invalid"] | None = None
    available_since: Moment | None = Field(default=None, description="What the window holds begins then; of `reset`.")


class DeliveredNotification(BaseModel):
    """A notification as it arrives."""

    id: str = Field(description="UUIDv7; what has the same id is the same notification.")
    type: str
    title: str | None = None
    body: str | None = None
    link: str | None = None
    data: dict[str, Any] | None = None
    created_at: Moment
    expires_at: Moment | None = None
    collapse_key: str | None = Field(default=None, description="Show it in place of the older one with this key.")
    topics: list[str] | None = Field(default=None, description="Only where it went to topics alone.")


# -- from the service ------------------------------------------------------------------------------------------------


class Welcome(BaseModel):
    """The first frame: the session is open."""

    type: Literal["welcome"]
    protocol: Literal["notifier.v1"]
    session: str = Field(description="Grants nothing.")
    tenant: str
    user: str
    position: Place
    resume: ResumeOutcome
    topics: list[str] = Field(description="Those that were granted.")
    denied: list[Denied]
    heartbeat_seconds: float = Field(description="A client that hears nothing for two of them connects anew.")
    expires_at: Moment = Field(description="The end of the token.")
    server_time: Moment
    features: list[str]


class NotificationFrame(BaseModel):
    """Show it, unless its id was shown."""

    type: Literal["notification"]
    position: Place
    notification: DeliveredNotification


class Heartbeat(BaseModel):
    """Everything for this session up to there has been written to it. Over SSE an `id` alone."""

    type: Literal["heartbeat"]
    position: Place


class Subscribed(BaseModel):
    """Answer to `subscribe`; `resume` if it had a position."""

    type: Literal["subscribed"]
    ref: Ref = None
    topics: list[str]
    denied: list[Denied] | None = None
    position: Place
    resume: ResumeOutcome | None = None


class Unsubscribed(BaseModel):
    """Answer to `unsubscribe`."""

    type: Literal["unsubscribed"]
    ref: Ref = None
    topics: list[str]
    position: Place


class TokenExpiring(BaseModel):
    """Send `refresh`, or over SSE open another stream with a fresh token."""

    type: Literal["token_expiring"]
    in_seconds: int


class Refreshed(BaseModel):
    """Answer to `refresh`; `topics` are those still granted."""

    type: Literal["refreshed"]
    ref: Ref = None
    expires_at: Moment
    topics: list[str]


class Pong(BaseModel):
    """Answer to `ping`, behind everything that was written before."""

    type: Literal["pong"]
    ref: Ref = None
    position: Place


class Degraded(BaseModel):
    """The journal cannot be reached: nothing new comes, the session stays."""

    type: Literal["degraded"]


class Restored(BaseModel):
    """The journal can be reached again; nothing was lost."""

    type: Literal["restored"]


class Failure(BaseModel):
    """A frame was not understood, and the session stays; or, over SSE with `close_code`, why the stream ends."""

    type: Literal["error"]
    ref: Ref = None
    code: Code
    detail: str
    close_code: int | None = Field(default=None, description="What a socket would have been closed with.")


class Reconnect(BaseModel):
    """A close is about to come: wait so long, then connect anew."""

    type: Literal["reconnect"]
    after_ms: int
    reason: Literal["drain", "overload", "rebalance"]
    position: Place


# -- from the client -------------------------------------------------------------------------------------------------

Topics = Annotated[list[str], Field(max_length=100)]
OwnRef = Annotated[str | int | None, Field(description="Comes back in the answer; at most 128 characters.")]


class Auth(BaseModel):
    """The first frame of a client whose token came in no other way, within 5 seconds."""

    type: Literal["auth"]
    token: str
    position: str | None = None
    topics: Topics | None = None


class Subscribe(BaseModel):
    """Be told of these topics as well; with a position, also of what they had since then."""

    type: Literal["subscribe"]
    topics: Topics
    position: str | None = None
    ref: OwnRef = None


class Unsubscribe(BaseModel):
    """Be told of these topics no more."""

    type: Literal["unsubscribe"]
    topics: Topics
    ref: OwnRef = None


class Refresh(BaseModel):
    """Go on under this token, of the same user and tenant."""

    type: Literal["refresh"]
    token: str
    ref: OwnRef = None


class Ping(BaseModel):
    """Ask for an answer."""

    type: Literal["ping"]
    ref: OwnRef = None


FROM_SERVICE = (
    Welcome,
    NotificationFrame,
    Heartbeat,
    Subscribed,
    Unsubscribed,
    TokenExpiring,
    Refreshed,
    Pong,
    Degraded,
    Restored,
    Failure,
    Reconnect,
)
FROM_CLIENT = (Auth, Subscribe, Unsubscribe, Refresh, Ping)
# Over SSE a client says nothing, and a heartbeat is an id without data.
OVER_SSE = (Welcome, NotificationFrame, TokenExpiring, Degraded, Restored, Failure, Reconnect)
