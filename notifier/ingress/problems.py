"""Errors as RFC 9457 problems: the HTTP doors' one table from error to status, and the answers made of it."""

import json
import math
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from notifier.core.errors import (
    BadRequest,
    Forbidden,
    HeadersTooLarge,
    IdempotencyKeyReused,
    InvalidNotification,
    LimitExceeded,
    NotFound,
    NotifierError,
    Standing,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    UpgradeRequired,
)

TYPE_PREFIX: Final = "urn:notifier:problem:"
MEDIA_TYPE: Final = "application/problem+json"
_STATUS_OF_ERROR: Final[tuple[tuple[type[NotifierError], int], ...]] = (
    (BadRequest, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (TooLarge, 413),
    (HeadersTooLarge, 431),
    (UnsupportedMediaType, 415),
    (InvalidNotification, 422),
    (IdempotencyKeyReused, 422),
    (UpgradeRequired, 426),
    (LimitExceeded, 429),
    (Unavailable, 503),
)
_CODE_OF_STATUS: Final = {404: "not_found", 405: "method_not_allowed"}


def status_of(error: NotifierError) -> int:
    """The HTTP status for an error."""
    return next((status for kind, status in _STATUS_OF_ERROR if isinstance(error, kind)), 500)


def problem(error: NotifierError, instance: str | None = None) -> dict[str, Any]:
    """The problem object for an error; `instance` is the path it happened at."""
    members = _members(status_of(error), error.code, error.detail, instance)
    if isinstance(error, InvalidNotification):
        members["errors"] = [{"pointer": v.pointer, "code": v.code, "detail": v.detail} for v in error.violations]
    return members


def problem_response(error: NotifierError, instance: str | None = None) -> Response:
    """The whole answer for an error, with the headers that its status calls for."""
    return _response(problem(error, instance), _headers(error))


def denial_response(error: NotifierError) -> Response:
    """The answer to a handshake, around which no middleware adds where its sender stands."""
    response = problem_response(error)
    if isinstance(error, LimitExceeded) and error.standing is not None:
        response.raw_headers += standing_headers(error.standing)
    return response


def internal_problem(instance: str) -> Response:
    """The answer where nothing better is known."""
    return _response(_members(500, "internal_error", "something went wrong on our side", instance), {})


async def answer_error(request: Request, error: Exception) -> Response:
    """Exception handler for our errors, and for Starlette's 404 and 405."""
    if isinstance(error, NotifierError):
        return refuse(request.scope, error)
    path = request.scope["path"]
    if isinstance(error, HTTPException):
        code = _CODE_OF_STATUS.get(error.status_code, "http_error")
        return _response(_members(error.status_code, code, error.detail, path), error.headers or {})
    raise error


def refuse(scope: Scope, error: NotifierError) -> Response:
    """The answer for an error of ours to this request."""
    if isinstance(error, LimitExceeded) and (standing := error.standing) is not None:
        # The limit that refused is told, not one that was passed before it.
        scope["state"]["standing"] = partial(_told, standing)
    scope["state"]["code"] = error.code
    return problem_response(error, scope["path"])


async def _told(standing: Standing) -> Standing:
    return standing


def standing_headers(standing: Standing) -> list[tuple[bytes, bytes]]:
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers, structured fields), as ASGI has headers."""
    policy = f'"{standing.policy}";q={standing.quota};w={standing.window_seconds}'
    here = f'"{standing.policy}";r={standing.remaining};t={standing.reset_seconds}'
    return [(b"ratelimit-policy", policy.encode()), (b"ratelimit", here.encode())]


def _members(status: int, code: str, detail: str, instance: str | None) -> dict[str, Any]:
    members = {"type": TYPE_PREFIX + code, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if instance is not None:
        members["instance"] = quote(instance)  # A URI reference (RFC 9457, 3.1.5); paths come decoded.
    return members | {"code": code}


def _headers(error: NotifierError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="notifier", error="invalid_token"'}
    if isinstance(error, Forbidden) and error.scope:
        return {"WWW-Authenticate": f'Bearer realm="notifier", error="insufficient_scope", scope="{error.scope}"'}
    if isinstance(error, UpgradeRequired):
        return {"Upgrade": "websocket", "Connection": "Upgrade"}
    if isinstance(error, LimitExceeded | Unavailable):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after.total_seconds())))}
    return {}


def _response(members: Mapping[str, Any], headers: Mapping[str, str]) -> Response:
    body = json.dumps(members, ensure_ascii=True).encode()
    return Response(body, members["status"], headers=dict(headers), media_type=MEDIA_TYPE)
