"""CloudEvents 1.0 in structured JSON, whose `data` is a notification to send: https://github.com/cloudevents/spec."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from notifier.core.envelope import Trace
from notifier.core.errors import InvalidNotification
from notifier.core.strict_json import DEPTH_LIMIT, flaws, is_clean
from notifier.ingress.schemas import NotificationRequest, Opened, read_model

EVENT_MEDIA_TYPE: Final = "application/cloudevents+json"
EVENTS_MEDIA_TYPE: Final = "application/cloudevents-batch+json"
_JSON: Final = r"^[A-Za-z]+/([^;\s]*\+)?[Jj][Ss][Oo][Nn](\s*;.*)?$"
EVENT_DEPTH: Final = DEPTH_LIMIT + 1  # That of a notification, in its event.
EVENT_EXAMPLE: Final[Mapping[str, Any]] = {
    "specversion": "1.0",
    "id": "order-1234-shipped",
    "source": "/shop/orders",
    "type": "com.example.order.shipped",
    "data": {"to": {"users": ["alice"]}, "type": "order.shipped", "title": "Order shipped"},
}


class CloudEvent(BaseModel):
    """An event that asks for a notification. Attributes that are not listed are extensions, and ignored."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    specversion: Literal["1.0"]
    id: str = Field(min_length=1, max_length=255)
    # A URI reference has no white space (RFC 3986), so source and id stay apart in the key that is made of them.
    source: str = Field(max_length=2_048, pattern=r"^\S+$", description="With `id`, the idempotency key.")
    type: str = Field(min_length=1, max_length=1_024, description="The event's; that of the notification is in `data`.")
    datacontenttype: str | None = Field(default=None, pattern=_JSON, description="`data` is JSON, also without it.")
    data: NotificationRequest
    traceparent: str | None = Field(default=None, description="The trace that the notification goes on with.")
    tracestate: str | None = None


def open_event(value: object) -> Opened:
    """Read an event and the notification in it. Raises InvalidNotification that names each broken rule of either."""
    event = read_model(CloudEvent, value, depth=EVENT_DEPTH)
    if not is_clean(value, depth=EVENT_DEPTH):
        raise InvalidNotification(flaws(value, depth=EVENT_DEPTH))
    trace = None if event.traceparent is None else Trace(event.traceparent, event.tracestate or "")
    return Opened(event.data, f"cloudevent {event.source} {event.id}", trace)
