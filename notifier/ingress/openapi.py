"""How the HTTP doors describe themselves: every status, every problem code, an example of each body."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.responses import Response

from notifier.ingress.cloud_events import EVENT_EXAMPLE, EVENT_MEDIA_TYPE, EVENTS_MEDIA_TYPE, CloudEvent
from notifier.ingress.problems import MEDIA_TYPE, TYPE_PREFIX
from notifier.ingress.schemas import BatchItem, NotificationRequest, TicketRequest

SENDING_CODES: Final[Mapping[int, Sequence[str]]] = {
    400: ("not_json", "idempotency_key_invalid", "body_timeout", "body_incomplete"),
    401: ("token_missing", "token_invalid", "token_expired", "token_revoked"),
    403: ("insufficient_scope", "tenant_forbidden"),
    413: ("request_too_large", "sealed_too_large", "batch_too_large"),
    415: ("unsupported_media_type", "unsupported_content_encoding"),
    422: ("invalid_notification", "idempotency_key_reused"),
    429: ("rate_limited",),
    431: ("headers_too_large",),
    500: ("internal_error",),
    503: ("journal_unavailable", "journal_blocked", "journal_full"),
}
TICKET_REFUSALS: Final = ("ticket_invalid", "ticket_expired", "ticket_used")
# How a handshake is refused to whoever is not a browser.
SOCKET_CODES: Final[Mapping[int, Sequence[str]]] = {
    401: ("token_missing", "token_invalid", "token_expired", "token_revoked", *TICKET_REFUSALS),
    403: ("origin_forbidden", "tls_required", "superseded"),
    426: ("upgrade_required", "subprotocol_required"),
    429: ("rate_limited", "too_many_sessions", "too_many_handshakes"),
    500: ("internal_error",),
    503: (
        "overload",
        "too_many_handshakes",
        "starting",
        "draining",
        "keys_unavailable",
        "journal_unavailable",
        "journal_blocked",
        "journal_full",
    ),
}
# A stream of events is no other door, and asks for no upgrade. To a browser's EventSource 401 and 403 are 204.
STREAM_CODES: Final[Mapping[int, Sequence[str]]] = {
    **{status: codes for status, codes in SOCKET_CODES.items() if status != 426},
}
TICKET_CODES: Final[Mapping[int, Sequence[str]]] = {
    400: ("not_json", "body_timeout", "body_incomplete"),
    401: ("token_missing", "token_invalid", "token_expired", "token_revoked"),
    403: ("insufficient_scope", "tenant_forbidden"),
    404: ("tickets_off",),
    413: ("request_too_large", "ticket_too_large"),
    415: ("unsupported_media_type", "unsupported_content_encoding"),
    422: ("invalid_ticket_request",),
    429: ("rate_limited",),
    431: ("headers_too_large",),
    500: ("internal_error",),
}
REVOKING_CODES: Final[Mapping[int, Sequence[str]]] = {
    400: ("not_json", "body_timeout", "body_incomplete"),
    401: ("token_missing", "token_invalid", "token_expired", "token_revoked"),
    403: ("insufficient_scope", "tenant_forbidden"),
    404: ("session_not_found",),
    413: ("request_too_large",),
    415: ("unsupported_media_type", "unsupported_content_encoding"),
    422: ("invalid_revocation",),
    429: ("rate_limited",),
    431: ("headers_too_large",),
    500: ("internal_error",),
    503: ("journal_unavailable", "journal_blocked", "journal_full", "revocations_full"),
}
# Answers to what is no operation at all; they stand under components/responses.
ANYWHERE_CODES: Final[Mapping[int, Sequence[str]]] = {404: ("not_found",), 405: ("method_not_allowed",)}
EXAMPLE: Final[dict[str, Any]] = {
    "to": {"users": ["alice"]},
    "type": "order.shipped",
    "title": "Order shipped",
    "body": "On its way",
    "link": "/orders/1234",
    "data": {"order": 1234},
    "ttl_seconds": 3600,
    "collapse_key": "order-1234",
}
_EXAMPLE_ID: Final = "019a9f6e-7c11-7c3a-9d4e-0c5b6f3f2a10"


def _all_codes() -> list[str]:
    tables = (SENDING_CODES, REVOKING_CODES, SOCKET_CODES, STREAM_CODES, TICKET_CODES, ANYWHERE_CODES)
    return sorted({code for table in tables for codes in table.values() for code in codes})


class Accepted(BaseModel):
    """The journal has the notification."""

    id: str = Field(examples=[_EXAMPLE_ID], description="UUIDv7")
    tenant: str = Field(examples=["default"])
    accepted_at: str = Field(examples=["2026-11-20T08:15:30.123Z"], json_schema_extra={"format": "date-time"})
    status: Literal["queued"]


class Ticket(BaseModel):
    """What opens one session."""

    ticket: str
    expires_in: int = Field(examples=[30], description="Seconds in which it has to be used.")
    session_expires_at: str = Field(
        examples=["2026-11-20T09:15:30.123Z"],
        json_schema_extra={"format": "date-time"},
        description="The session ends.",
    )


class BrokenRule(BaseModel):
    """One broken rule of a request."""

    pointer: str = Field(examples=["/to/users/0"], description="JSON pointer into the body; empty means the whole.")
    code: str = Field(examples=["not_printable"])
    detail: str = Field(examples=["must be printable characters"])


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = Field(examples=[f"{TYPE_PREFIX}rate_limited"], description="A stable URI that ends in the code.")
    title: str
    status: int
    detail: str
    instance: str | None = None
    code: str = Field(json_schema_extra={"enum": [*_all_codes()]})
    errors: list[BrokenRule] | None = None


class BatchResult(BaseModel):
    """The outcome of one item: an id, or a problem."""

    index: int
    status: int = Field(examples=[202])
    id: str | None = Field(default=None, examples=[_EXAMPLE_ID])
    replayed: bool | None = Field(default=None, description="True: an earlier request with this key was accepted.")
    problem: Problem | None = None


class BatchResults(BaseModel):
    """The outcomes, in the order of the items."""

    results: list[BatchResult]


def problems(codes: Mapping[int, Sequence[str]]) -> dict[int | str, dict[str, Any]]:
    """The answers with these codes, by status."""
    return {status: _problem(status, codes[status]) for status in codes}


def _problem(status: int, codes: Sequence[str]) -> dict[str, Any]:
    examples = {
        code: {"value": {"type": TYPE_PREFIX + code, "title": "…", "status": status, "detail": "…", "code": code}}
        for code in codes
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": "Problem: " + ", ".join(codes),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }
    if names := _HEADERS.get(status):
        response["headers"] = {name: {"schema": {"type": "string"}} for name in names}
    return response


_HEADERS: Final[Mapping[int, Sequence[str]]] = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    405: ("Allow",),
    426: ("Upgrade",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}
SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}]
_IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Makes a retry harmless for ten minutes.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}


def _parameter(name: str, place: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": False, "description": description, "schema": {"type": "string"}}


_LINES: Final = {
    "schema": {"type": "string", "description": "One notification per line."},
    "example": json.dumps(EXAMPLE) + "\n",
}

NOTIFY_ROUTE: Final[dict[str, Any]] = {
    "status_code": 202,
    "summary": "Send one notification",
    "operation_id": "notify",
    "response_model": Accepted,
    "responses": problems(SENDING_CODES),
    "openapi_extra": {
        "security": SECURITY,
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/NotificationRequest"},
                    "example": EXAMPLE,
                },
                EVENT_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/CloudEvent"}, "example": EVENT_EXAMPLE},
            },
        },
    },
}
BATCH_ROUTE: Final[dict[str, Any]] = {
    "status_code": 202,
    "summary": "Send up to 1,000 different notifications",
    "operation_id": "notify_batch",
    "response_model": BatchResults,
    "responses": {207: {"model": BatchResults, "description": "Some were not accepted"}} | problems(SENDING_CODES),
    "openapi_extra": {
        "security": SECURITY,
        "parameters": [_IDEMPOTENCY_KEY],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 1_000,
                        "items": {"$ref": "#/components/schemas/BatchItem"},
                    },
                    "example": [EXAMPLE],
                },
                EVENTS_MEDIA_TYPE: {
                    "schema": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 1_000,
                        "items": {"$ref": "#/components/schemas/CloudEvent"},
                    },
                    "example": [EVENT_EXAMPLE],
                },
                "application/x-ndjson": _LINES,
                "application/jsonl": _LINES,
            },
        },
    },
}
SOCKET_ROUTE: Final[dict[str, Any]] = {
    "status_code": 426,
    "summary": "Sessions: WebSocket, subprotocol notifier.v1",
    "operation_id": "sessions",
    "response_class": Response,  # Without a media type of its own: there are problems only.
    "responses": problems(SOCKET_CODES),
}

_EVENTS: Final = {"schema": {"type": "string"}, "example": 'id: 3bcb3bfa.2.0\ndata: {"type":"notification", …}\n\n'}
STREAM_ROUTE: Final[dict[str, Any]] = {
    "summary": "Sessions: a stream of events (SSE)",
    "description": "Each event is a message of the protocol notifier.v1, and its id a position to resume from.",
    "operation_id": "events",
    "response_class": Response,
    "responses": {
        200: {"description": "The stream.", "content": {"text/event-stream": _EVENTS}},
        204: {"description": "To an EventSource with a ticket, in place of 401 and 403: it stops."},
    }
    | problems(STREAM_CODES),
    "openapi_extra": {
        "security": [*SECURITY, {"ticket": []}],
        "parameters": [
            _parameter("position", "query", "Resume from it, or `earliest`."),
            _parameter("topics", "query", "Names, separated by commas."),
            _parameter("Last-Event-ID", "header", "As position, and wins over it."),
        ],
    },
}
TICKET_ROUTE: Final[dict[str, Any]] = {
    "summary": "Get a ticket that opens one session",
    "description": "Without a body for the bearer; with one, and the scope notify:ticket, for somebody.",
    "operation_id": "ticket",
    "response_model": Ticket,
    "responses": problems(TICKET_CODES),
    "openapi_extra": {
        "security": SECURITY,
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": {"$ref": "#/components/schemas/TicketRequest"},
                    "example": {"user": "alice", "topics": ["orders.#"], "session_seconds": 900},
                }
            },
        },
    },
}


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of the app."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    _, schemas = models_json_schema(
        [
            (NotificationRequest, "validation"),
            (BatchItem, "validation"),
            (CloudEvent, "validation"),
            (TicketRequest, "validation"),
            (Problem, "serialization"),
        ],
        ref_template="#/components/schemas/{model}",
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(schemas["$defs"])
    components["responses"] = {str(status): answer for status, answer in problems(ANYWHERE_CODES).items()}
    components["schemas"] = dict(sorted(components["schemas"].items()))
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "ticket": {"type": "apiKey", "in": "query", "name": "ticket"},
    }
    return document
