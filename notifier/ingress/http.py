"""The HTTP door: `POST /notify` and `POST /notify/batch`, from a request to the pipeline and back to an answer."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from notifier.core.envelope import Envelope, Trace
from notifier.core.errors import (
    BadRequest,
    InvalidNotification,
    NotifierError,
    UnsupportedMediaType,
    Violation,
)
from notifier.core.identity import Identity, Tenant
from notifier.core.notification import IdempotencyKey
from notifier.core.pipeline import Pipeline, Receipt
from notifier.core.pipeline import Request as Sending
from notifier.core.strict_json import parse
from notifier.ingress.answers import accepted, results
from notifier.ingress.body import headers_of, is_json, media_type, read_body
from notifier.ingress.cloud_events import EVENT_MEDIA_TYPE, EVENTS_MEDIA_TYPE, open_event
from notifier.ingress.middleware import Ask
from notifier.ingress.openapi import BATCH_ROUTE, NOTIFY_ROUTE
from notifier.ingress.problems import refuse
from notifier.ingress.schemas import Opened, open_item, open_request
from notifier.ingress.sizes import BATCH_LIMIT_BYTES, BATCH_LIMIT_ITEMS, REQUEST_LIMIT_BYTES, counted

SLICE_ITEMS: Final = 50  # In one turn of the event loop: a full batch must not hold it.
LINE_MEDIA_TYPES: Final = frozenset({"application/x-ndjson", "application/jsonl"})


@dataclass(frozen=True, slots=True)
class Guard:
    """Who may send what, and how often. `app.py` fills it; each callable raises the error with which it refuses.

    Args:
        authenticate: from the Authorization header, or None, to the caller.
        authorise: may this caller send into this tenant; to everyone of it, when the last argument says so.
        spend: take `cost` out of the caller's allowance of this name (`send`, `batch` or `broadcast`), and return how
            to ask where the caller stands.
        spend_tenant: the same of a tenant that is sent into, whoever sends.
    """

    authenticate: Callable[[str | None], Awaitable[Identity]]
    authorise: Callable[[Identity, Tenant, bool], None]
    spend: Callable[[str, Identity, int], Awaitable[Ask]]
    spend_tenant: Callable[[Tenant, int], Awaitable[Ask]]


class Shortcut:
    """Takes what is sent at the doors past the layers of FastAPI, which describes these routes and has nothing to add.

    Whatever else comes, also another method at a door, goes on to FastAPI.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[APIRoute]) -> None:
        self._app = app
        self._routes = {("POST", route.path): route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # As the router would: the line and the metrics of a request name it.
        response: Response
        try:
            response = await route.endpoint(Request(scope, receive))
        except NotifierError as error:
            response = refuse(scope, error)
        await response(scope, receive, send)


class HttpDoor:
    """Lets notifications in over HTTP. `count_refusal` is told the code of each item of a batch that is refused."""

    def __init__(
        self,
        pipeline: Pipeline,
        guard: Guard,
        *,
        count_refusal: Callable[[str], None] = lambda _: None,
        body_seconds: float = 10.0,
    ) -> None:
        self._pipeline = pipeline
        self._guard = guard
        self._count_refusal = count_refusal
        self._body_seconds = body_seconds

    def open(self, api: FastAPI) -> None:
        """Add the routes of this door, and the way past the router; what is added to the app later stands before it."""
        api.add_api_route("/notify", self.notify, methods=["POST"], **NOTIFY_ROUTE)
        api.add_api_route("/notify/batch", self.notify_batch, methods=["POST"], **BATCH_ROUTE)
        api.add_middleware(Shortcut, routes=[route for route in api.routes[-2:] if isinstance(route, APIRoute)])

    async def notify(self, request: Request) -> Response:
        """Send one notification."""
        headers = headers_of(request)
        caller = await self._enter(request, headers)
        await self._spend(request, "send", caller)
        media = media_type(headers)
        if not is_json(media) or media == EVENTS_MEDIA_TYPE:
            raise UnsupportedMediaType("unsupported_media_type", f"send application/json or {EVENT_MEDIA_TYPE}")
        key, is_event = _idempotency_header(headers), media == EVENT_MEDIA_TYPE
        _check_one_key(key, is_event=is_event)
        body = await read_body(
            request.receive, headers, limit_bytes=REQUEST_LIMIT_BYTES, within_seconds=self._body_seconds
        )
        opened = (open_event if is_event else open_request)(parse(body))
        notification = opened.request.notification(caller.tenant)
        everyone = notification.audience.everyone
        self._guard.authorise(caller, notification.tenant, everyone)
        await self._guard.spend_tenant(notification.tenant, 1)
        if everyone:
            await self._spend(request, "broadcast", caller)
        trace = _trace(request)
        sending = Sending(notification, _key(caller, opened.key or key), None if trace is None else trace(opened.trace))
        receipt = await self._pipeline.send_notification(sending)
        replayed = {"Idempotent-Replayed": "true"} if receipt.is_replay else None
        return _json(202, accepted(receipt), replayed)

    async def notify_batch(self, request: Request) -> Response:
        """Send up to 1,000 different notifications, each with an outcome of its own."""
        headers = headers_of(request)
        caller = await self._enter(request, headers)
        media = media_type(headers)
        if not (is_json(media) or media in LINE_MEDIA_TYPES) or media == EVENT_MEDIA_TYPE:
            wanted = f"send application/json, application/x-ndjson or {EVENTS_MEDIA_TYPE}"
            raise UnsupportedMediaType("unsupported_media_type", wanted)
        key, are_events = _idempotency_header(headers), media == EVENTS_MEDIA_TYPE
        _check_one_key(key, is_event=are_events)
        body = await read_body(
            request.receive, headers, limit_bytes=BATCH_LIMIT_BYTES, within_seconds=self._body_seconds
        )
        values = _lines(body) if media in LINE_MEDIA_TYPES else _array(body)
        await self._spend(request, "batch", caller, len(values))
        batch = _Batch(values, open_event if are_events else open_item, key, _trace(request))
        sealed = await self._seal_all(caller, batch)
        envelopes = [item for item in sealed if isinstance(item, Envelope)]
        for tenant, count in Counter(envelope.tenant for envelope in envelopes).items():
            await self._guard.spend_tenant(tenant, count)
        if broadcasts := sum(envelope.audience.everyone for envelope in envelopes):
            await self._spend(request, "broadcast", caller, broadcasts)
        outcomes = await self._pipeline.append_sealed(sealed)
        if set(map(type, outcomes)) == {Receipt}:
            return _json(202, results(outcomes))
        for outcome in outcomes:
            if isinstance(outcome, NotifierError):
                self._count_refusal(outcome.code)
        return _json(207, results(outcomes))

    async def _enter(self, request: Request, headers: Mapping[str, str]) -> Identity:
        caller = await self._guard.authenticate(headers.get("authorization"))
        request.scope["state"]["caller"] = caller.user
        return caller

    async def _spend(self, request: Request, limit: str, caller: Identity, cost: int = 1) -> None:
        request.scope["state"]["standing"] = await self._guard.spend(limit, caller, cost)

    async def _seal_all(self, caller: Identity, batch: "_Batch") -> list[Envelope | NotifierError]:
        """Read and seal each item, or say what is wrong with it."""
        # Nearly always the same tenant, so it is asked once. A refusal is not kept, and raised anew.
        authorise = cache(partial(self._guard.authorise, caller))
        sealed: list[Envelope | NotifierError] = []
        for start in range(0, len(batch.values), SLICE_ITEMS):
            read: list[Sending | NotifierError] = []
            for index, value in enumerate(batch.values[start : start + SLICE_ITEMS], start):
                try:
                    item = batch.open(value)
                    notification = item.request.notification(caller.tenant)
                    authorise(notification.tenant, notification.audience.everyone)
                except NotifierError as error:
                    read.append(error)
                else:
                    own = item.key or (None if batch.key is None else f"{batch.key}/{index}")
                    trace = None if batch.trace is None else batch.trace(item.trace)
                    read.append(Sending(notification, _key(caller, own), trace))
            sealed += self._pipeline.seal_batch(read)
            await asyncio.sleep(0)
        return sealed


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch, and how its items are read; `key` is that of the whole of it."""

    values: Sequence[object]
    open: Callable[[object], Opened]
    key: str | None
    trace: Callable[[Trace | None], Trace | None] | None


def _check_one_key(header: str | None, *, is_event: bool) -> None:
    if is_event and header is not None:
        raise BadRequest("idempotency_key_invalid", "the key of a CloudEvent is its source and id: send no header")


def _idempotency_header(headers: Mapping[str, str]) -> str | None:
    """The Idempotency-Key, without one pair of quotes. Raises BadRequest for one that breaks the rules."""
    value = headers.get("idempotency-key")
    if value is None:
        return None
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    if not 1 <= len(value) <= 255 or not value.isprintable():
        raise BadRequest("idempotency_key_invalid", "Idempotency-Key is 1 to 255 printable characters")
    return value


def _trace(request: Request) -> Callable[[Trace | None], Trace | None] | None:
    """What gives each notification of the request its place in the caller's trace, or in the one that it names itself.

    None while no trace is recorded.
    """
    trace: Callable[[Trace | None], Trace | None] | None = request.scope["state"].get("trace")
    return trace


def _key(caller: Identity, value: str | None) -> IdempotencyKey | None:
    return None if value is None else IdempotencyKey(caller.issuer, f"http {caller.tenant} {caller.user}", value)


def _array(body: bytes) -> Sequence[object]:
    values = parse(body)
    if not isinstance(values, list):
        raise InvalidNotification([Violation("", "wrong_type", "the body is an array of notifications")])
    return counted(values)


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
    return counted(values)


def _json(status: int, body: str, headers: dict[str, str] | None = None) -> Response:
    return Response(body.encode(), status, headers=headers, media_type="application/json")
