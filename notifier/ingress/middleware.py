"""What happens around every HTTP request, in plain ASGI: an id, one log line, an address limit, problem answers."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from notifier.core.errors import HeadersTooLarge, NotifierError, Standing
from notifier.core.notification import new_id
from notifier.ingress.problems import internal_problem, refuse, standing_headers

log: Final = logging.getLogger(__name__)
Ask = Callable[[], Awaitable[Standing]]
"""Asks where a caller stands with a limit."""
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")


class RequestLine:
    """Gives each request an id, echoes it, adds where the caller stands with its limits, and logs one line.

    A request under way shares `scope["state"]`: `request_id`, and what others add for the line or the headers:
    `caller`, `trace_id`, `code` of a refusal, and `standing`, which tells where the caller stands when it is asked.
    """

    def __init__(self, app: ASGIApp, *, observe: Callable[[str, str, int, float, str | None], None]) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        # Ours alone: uvicorn copies its state per request, other servers may not.
        state = scope["state"] = {**scope.get("state", {}), "request_id": _request_id(scope)}
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", state["request_id"].encode()),
                ]
                if standing := state.get("standing"):
                    headers += standing_headers(await standing())
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            self._finish(scope, status, time.perf_counter() - began)

    def _finish(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "")
        code = scope["state"].get("code")
        self._observe(scope["method"], route, status, seconds, code)
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
            "request_id": scope["state"]["request_id"],
            "caller": scope["state"].get("caller"),
            "code": code,
            "address": scope["client"][0] if scope.get("client") else None,
        }
        if trace_id := scope["state"].get("trace_id"):
            fields["trace_id"] = trace_id
        log.info("request", extra=fields)


class Cors(CORSMiddleware):
    """Lets pages of other origins read answers; to a request that names no origin it only adds what caches need.

    `is_readable_from` is asked for each origin, since the list may change while the app runs.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        is_readable_from: Callable[[str], bool],
        allow_methods: Sequence[str],
        allow_headers: Sequence[str],
        expose_headers: Sequence[str],
    ) -> None:
        super().__init__(app, allow_methods=allow_methods, allow_headers=allow_headers, expose_headers=expose_headers)
        self._is_readable_from = is_readable_from

    def is_allowed_origin(self, origin: str) -> bool:
        """Starlette's question."""
        return self._is_readable_from(origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
            return

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"vary", b"Origin")]
            await send(message)

        await self.app(scope, receive, send_with_vary)


class Threshold:
    """Refuses requests, to whatever route or none, over the limit of their address or with large headers.

    It stands before the router, so that no route can be left out. The parser has no bound for headers of its own.
    """

    def __init__(
        self, app: ASGIApp, *, spend: Callable[[str | None], Awaitable[Ask]], headers_limit_bytes: int = 32 * 1024
    ) -> None:
        self._app = app
        self._spend = spend
        self._headers_limit_bytes = headers_limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                await self._check(scope)
            except NotifierError as refusal:
                await refuse(scope, refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        client = scope.get("client")
        scope["state"]["standing"] = await self._spend(client[0] if client else None)
        if _size(scope) > self._headers_limit_bytes:
            detail = f"the headers are over {self._headers_limit_bytes} bytes together"
            raise HeadersTooLarge("headers_too_large", detail)


class Failsafe:
    """Answers what nobody foresaw with a problem, inside the middlewares that add headers to answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = is_gone = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_begun, is_gone
            has_begun = True
            try:
                await send(message)
            except (RuntimeError, OSError):
                is_gone = True  # uvloop's word for a connection that was lost meanwhile.
                raise

        try:
            await self._app(scope, receive, send_and_note)
        except Exception:
            if is_gone:
                return
            log.exception("request failed", extra={"request_id": scope["state"]["request_id"]})
            if has_begun:
                raise
            await internal_problem(scope["path"])(scope, receive, send)


def _request_id(scope: Scope) -> str:
    given: bytes = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_id(int(time.time() * 1000))


def _size(scope: Scope) -> int:
    return sum([len(name) + len(value) for name, value in scope["headers"]])
