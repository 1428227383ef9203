"""From a message of the request queue to what it asks for, held against the same rules as a request over HTTP."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from aio_pika.abc import AbstractIncomingMessage

from notifier.broker.lenient import UNDECODABLE
from notifier.core.envelope import Envelope, Trace
from notifier.core.errors import (
    BadRequest,
    Forbidden,
    InvalidNotification,
    NotifierError,
    TooLarge,
    UnsupportedMediaType,
    Violation,
)
from notifier.core.identity import Tenant
from notifier.core.notification import IdempotencyKey, Notification
from notifier.core.pipeline import Request
from notifier.core.strict_json import parse
from notifier.ingress.body import is_json
from notifier.ingress.cloud_events import EVENT_MEDIA_TYPE, EVENTS_MEDIA_TYPE, open_event
from notifier.ingress.schemas import Opened, open_request
from notifier.ingress.sizes import BATCH_LIMIT_BYTES, REQUEST_LIMIT_BYTES, counted

_ROUTING_KEY: Final = re.compile(r"([A-Za-z0-9_-]{1,64})\.(send|broadcast)", re.ASCII)
ISSUER: Final = "amqp"  # No token has said who the caller is: the broker has.


class MessageTrace(Protocol):
    """A message under way, while the trace of it is recorded."""

    @property
    def trace_id(self) -> str | None:
        """For log lines."""

    def place(self, origin: Trace | None = None) -> Trace | None:
        """Give one of its notifications its place in the trace, or in the one that it says it comes from."""

    def end(self, error: str | None) -> None:
        """The message is acknowledged; `error` is the code with which it was given up."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A message that was taken from the queue, and what it asks for, sealed; or what is wrong with it."""

    message: AbstractIncomingMessage
    envelopes: Sequence[Envelope] = ()
    error: NotifierError | None = None
    trace: MessageTrace | None = None

    @property
    def is_array(self) -> bool:
        """Whether its answer has an outcome for each item."""
        return self.message.body.lstrip()[:1] == b"["


def read_message(message: AbstractIncomingMessage, *, require_message_id: bool) -> list[Request]:
    """Read one notification, or an array of them, which is taken as a whole. Raises what is wrong with it.

    The trace of each is the one that it says it comes from itself.
    """
    _check_decoded(message)
    tenant, may_broadcast = _route(message.routing_key or "")
    media = _media(message)
    are_events = media in (EVENT_MEDIA_TYPE, EVENTS_MEDIA_TYPE)
    message_id = _message_id(message.message_id, is_required=require_message_id and not are_events)
    caller = f"{tenant} {message.user_id or 'amqp'}"
    value = _parse(message.body)
    if are_events and isinstance(value, list) != (media == EVENTS_MEDIA_TYPE):
        raise InvalidNotification(
            [Violation("", "wrong_type", f"{media} is an event, or an array of them with -batch")]
        )
    read = partial(_read, open_event if are_events else open_request, tenant=tenant, may_broadcast=may_broadcast)
    if not isinstance(value, list):
        notification, key, trace = read(value)
        return [Request(notification, _key(caller, key or message_id), trace)]
    requests = []
    for index, item in enumerate(counted(value)):
        try:
            notification, key, trace = read(item)
        except NotifierError as error:
            raise at_item(index, error) from None
        requests.append(Request(notification, _key(caller, key or (message_id and f"{message_id}/{index}")), trace))
    return requests


def _check_decoded(message: AbstractIncomingMessage) -> None:
    if UNDECODABLE in message.headers:
        raise BadRequest(
            "properties_undecodable", f"its properties cannot be decoded: {message.headers[UNDECODABLE]!s}"
        )


def _route(routing_key: str) -> tuple[Tenant, bool]:
    """The tenant, and whether everyone of it may be meant: the broker's topic permissions say who may use which key."""
    match = _ROUTING_KEY.fullmatch(routing_key)
    if match is None:
        raise BadRequest("routing_key_invalid", "the routing key is <tenant>.send or <tenant>.broadcast")
    return Tenant(match[1]), match[2] == "broadcast"


def _message_id(message_id: str | None, *, is_required: bool) -> str | None:
    if not message_id:
        if is_required:
            raise BadRequest("message_id_missing", "message_id is the idempotency key, and required here")
        return None
    if len(message_id) > 255 or not message_id.isprintable():
        raise BadRequest("message_id_invalid", "message_id is 1 to 255 printable characters")
    return message_id


def _media(message: AbstractIncomingMessage) -> str:
    """The media type, lower case, without parameters."""
    if (message.content_encoding or "identity").lower() not in ("identity", "utf-8"):
        raise UnsupportedMediaType("unsupported_content_encoding", "send the body without a content encoding")
    media = (message.content_type or "application/json").partition(";")[0].strip().lower()
    if not is_json(media):
        raise UnsupportedMediaType("unsupported_media_type", "send application/json")
    return media


def _parse(body: bytes) -> object:
    if len(body) > BATCH_LIMIT_BYTES:
        raise TooLarge("request_too_large", f"the body is over {BATCH_LIMIT_BYTES} bytes")
    value = parse(body)
    if not isinstance(value, list) and len(body) > REQUEST_LIMIT_BYTES:
        raise TooLarge("request_too_large", f"the body is over {REQUEST_LIMIT_BYTES} bytes, and no array")
    return value


def _read(
    opening: Callable[[object], Opened], value: object, *, tenant: Tenant, may_broadcast: bool
) -> tuple[Notification, str | None, Trace | None]:
    opened = opening(value)
    notification = opened.request.notification(tenant)
    if notification.tenant != tenant:
        raise Forbidden("tenant_forbidden", f"a message with this routing key is for the tenant {tenant} alone")
    if notification.audience.everyone and not may_broadcast:
        raise Forbidden("broadcast_forbidden", f"everyone needs the routing key {tenant}.broadcast")
    return notification, opened.key, opened.trace


def at_item(index: int, error: NotifierError) -> NotifierError:
    """The same error, of an array, which says in which item it is."""
    violations: Sequence[Violation] = [Violation("", error.code, error.detail)]
    if isinstance(error, InvalidNotification):
        violations = error.violations
    return InvalidNotification(
        [Violation(f"/{index}{each.pointer}", each.code, each.detail) for each in violations], error.code
    )


def _key(caller: str, value: str | None) -> IdempotencyKey | None:
    return None if value is None else IdempotencyKey(ISSUER, caller, value)
