"""The HTTP door: `POST /notify` and `POST /notify/batch`, from a request to the pipeline and back to an answer."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from notifier.core.errors import (
    BadRequest,
    InvalidNotification,
    NotifierError,
    Standing,
    TooLarge,
    UnsupportedMediaType,
    Violation,
)
from notifier.core.identity import Identity
from notifier.core.notification import IdempotencyKey, Notification
from notifier.core.pipeline import Pipeline, Receipt
from notifier.core.pipeline import Request as Sending
from notifier.core.strict_json import parse
from notifier.ingress.answers import accepted, result
from notifier.ingress.body import is_json, media_type, read_body
from notifier.ingress.openapi import BATCH_ROUTE, NOTIFY_ROUTE
from notifier.ingress.schemas import BatchItem, NotificationRequest, read_request
from notifier.ingress.sizes import BATCH_LIMIT_BYTES, BATCH_LIMIT_ITEMS, REQUEST_LIMIT_BYTES

YIELD_ITEMS: Final = 50
LINE_MEDIA_TYPES: Final = frozenset({"application/x-ndjson", "application/jsonl"})


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may send what, and how often. `app.py` fills it; each callable raises the error with which it refuses.

    Args:
        authenticate: from the Authorization header, or None, to the caller.
        authorise: may this caller send this notification.
        spend: take `cost` out of the caller's allowance of this name: `send`, `batch` or `broadcast`.
    """

    authenticate: Callable[[str | None], Identity]
    authorise: Callable[[Identity, Notification], None]
    spend: Callable[[str, Identity, int], Standing]


class HttpDoor:
    """Lets notifications in over HTTP."""

    def __init__(self, pipeline: Pipeline, guard: Guard, *, body_seconds: float = 10.0) -> None:
        self._pipeline = pipeline
        self._guard = guard
        self._body_seconds = body_seconds

    def router(self) -> APIRouter:
        """The routes of this door."""
        router = APIRouter()
        router.add_api_route("/notify", self.notify, methods=["POST"], **NOTIFY_ROUTE)
        router.add_api_route("/notify/batch", self.notify_batch, methods=["POST"], **BATCH_ROUTE)
        return router

    async def notify(self, request: Request) -> Response:
        """Send one notification."""
        caller = self._enter(request, "send")
        media = media_type(request)
        if not is_json(media):
            raise UnsupportedMediaType("unsupported_media_type", "send application/json")
        header = _idempotency_header(request)
        body = await read_body(request, limit_bytes=REQUEST_LIMIT_BYTES, within_seconds=self._body_seconds)
        notification = read_request(NotificationRequest, parse(body)).notification(caller.tenant)
        self._guard.authorise(caller, notification)
        if notification.audience.everyone:
            self._spend(request, "broadcast", caller)
        receipt = await self._pipeline.send_notification(Sending(notification, _key(caller, header)))
        headers = {"Idempotent-Replayed": "true"} if receipt.is_replay else None
        return _json(202, accepted(receipt), headers)

    async def notify_batch(self, request: Request) -> Response:
        """Send up to 1,000 different notifications, each with an outcome of its own."""
        caller = self._enter(request)
        media = media_type(request)
        if not (is_json(media) or media in LINE_MEDIA_TYPES):
            raise UnsupportedMediaType("unsupported_media_type", "send application/json or application/x-ndjson")
        header = _idempotency_header(request)
        body = await read_body(request, limit_bytes=BATCH_LIMIT_BYTES, within_seconds=self._body_seconds)
        values = _lines(body) if media in LINE_MEDIA_TYPES else _array(body)
        self._spend(request, "batch", caller, len(values))
        read: list[Sending | NotifierError] = []
        for index, value in enumerate(values):
            read.append(self._read_item(caller, value, header, index))
            if index % YIELD_ITEMS == 0:
                await asyncio.sleep(0)  # A full batch must not hold the event loop.
        broadcasts = sum(isinstance(item, Sending) and item.notification.audience.everyone for item in read)
        if broadcasts:
            self._spend(request, "broadcast", caller, broadcasts)
        sent = iter(await self._pipeline.send_batch([item for item in read if isinstance(item, Sending)]))
        outcomes = [next(sent) if isinstance(item, Sending) else item for item in read]
        is_accepted = all(isinstance(outcome, Receipt) for outcome in outcomes)
        results = [result(index, outcome) for index, outcome in enumerate(outcomes)]
        return _json(202 if is_accepted else 207, {"results": results})

    def _enter(self, request: Request, limit: str | None = None) -> Identity:
        caller = self._guard.authenticate(request.headers.get("authorization"))
        request.state.caller = caller.user
        if limit is not None:
            self._spend(request, limit, caller)
        return caller

    def _spend(self, request: Request, limit: str, caller: Identity, cost: int = 1) -> None:
        request.state.standing = self._guard.spend(limit, caller, cost)

    def _read_item(self, caller: Identity, value: object, header: str | None, index: int) -> Sending | NotifierError:
        try:
            item = read_request(BatchItem, value)
            notification = item.notification(caller.tenant)
            self._guard.authorise(caller, notification)
        except NotifierError as error:
            return error
        from_header = f"{header}/{index}" if header is not None else None
        return Sending(notification, _key(caller, item.idempotency_key or from_header))


def _idempotency_header(request: Request) -> str | None:
    """The Idempotency-Key, without one pair of quotes. Raises BadRequest for one that breaks the rules."""
    value = request.headers.get("idempotency-key")
    if value is None:
        return None
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not 1 <= len(value) <= 255 or not value.isprintable():
        raise BadRequest("idempotency_key_invalid", "Idempotency-Key is 1 to 255 printable characters")
    return value


def _key(caller: Identity, value: str | None) -> IdempotencyKey | None:
    return None if value is None else IdempotencyKey(caller.issuer, f"http {caller.tenant} {caller.user}", value)


def _array(body: bytes) -> Sequence[object]:
    values = parse(body)
    if not isinstance(values, list):
        raise InvalidNotification([Violation("", "wrong_type", "the body is an array of notifications")])
    return _counted(values)


def _lines(body: bytes) -> Sequence[object]:
    """One value per line that is not blank. Raises BadRequest that names the first line which is not JSON."""
    values: list[object] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if len(values) > BATCH_LIMIT_ITEMS:
            break
        if line.strip():
            try:
                values.append(parse(line))
            except BadRequest as error:
                raise BadRequest(error.code, f"line {number}: {error.detail}") from None
    return _counted(values)


def _counted(values: Sequence[object]) -> Sequence[object]:
    if not values:
        raise InvalidNotification([Violation("", "empty_batch", "the batch has no notification")])
    if len(values) > BATCH_LIMIT_ITEMS:
        raise TooLarge("batch_too_large", f"a batch has at most {BATCH_LIMIT_ITEMS} notifications")
    return values


def _json(status: int, value: object, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(body, status, headers=headers, media_type="application/json")
