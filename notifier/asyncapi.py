"""The sessions and the queue as a document of AsyncAPI 3 (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from notifier.broker.topology import Names
from notifier.ingress.cloud_events import EVENT_EXAMPLE, EVENT_MEDIA_TYPE, CloudEvent
from notifier.ingress.openapi import EXAMPLE, Accepted, BatchResults, Problem
from notifier.ingress.problems import MEDIA_TYPE
from notifier.ingress.schemas import NotificationRequest
from notifier.transports.messages import FROM_CLIENT, FROM_SERVICE, OVER_SSE

NAMES: Final = Names("notifier")
_HEADERS: Final = {
    "x-notifier-error-code": {"type": "string", "description": "Why it cannot be sent: the code of the problem."},
    "x-notifier-error": {"type": "string", "description": "The same for people."},
    "x-notifier-error-at": {"type": "string", "format": "date-time"},
}
_POSITION: Final = {"type": "string", "description": "Where to resume from, or `earliest`."}
_TOPICS: Final = {"type": "string", "description": "To be subscribed to, with commas between."}


def describe() -> dict[str, Any]:
    """The document, for the prefix `notifier`."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "notifier",
            "version": version("notifier-push"),
            "description": (
                "Sessions over WebSocket and SSE, and the request queue. Within notifier.v1 changes are additive: "
                "ignore types and fields that you do not know."
            ),
            "license": {"name": "MIT"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "sessions": {
                "host": "push.example.com",
                "protocol": "wss",
                "security": [_ref("securitySchemes", "bearer")],
            },
            "streams": {
                "host": "push.example.com",
                "protocol": "https",
                "security": [_ref("securitySchemes", "bearer")],
            },
            "broker": {"host": "rabbitmq.example.com", "protocol": "amqps", "protocolVersion": "0.9.1"},
        },
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": _messages(),
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _channels() -> dict[str, Any]:
    query = {"type": "object", "properties": {"position": _POSITION, "topics": _TOPICS, "ticket": {"type": "string"}}}
    protocol = {
        "type": "object",
        "properties": {
            "Sec-WebSocket-Protocol": {
                "type": "string",
                "description": "`notifier.v1`; browsers add the token as another, `bearer.<token>`.",
            }
        },
    }
    return {
        "socket": {
            "address": "/ws",
            "description": "JSON in text frames, at most 16 KiB from a client; docs/protocol.md says in which order.",
            "servers": [{"$ref": "#/servers/sessions"}],
            "messages": _of(*FROM_SERVICE, *FROM_CLIENT),
            "bindings": {"ws": {"method": "GET", "query": query, "headers": protocol}},
        },
        "stream": {
            "address": "/events",
            "description": (
                "Server-sent events: `data` is the JSON of the frame, `id` its position. A block with an `id` alone "
                "is a heartbeat. `Last-Event-ID` counts before `position`."
            ),
            "servers": [{"$ref": "#/servers/streams"}],
            "messages": _of(*OVER_SSE),
        },
        "requests": {
            "address": NAMES.ingest,
            "description": (
                "The exchange of the request queue. The routing key is <tenant>.send, or <tenant>.broadcast, which "
                "`everyone` needs. message_id is the idempotency key, and required, but for events."
            ),
            "servers": [{"$ref": "#/servers/broker"}],
            "messages": {name: _ref("messages", name) for name in ("request", "event")},
            "bindings": {
                "amqp": {
                    "is": "routingKey",
                    "exchange": {"name": NAMES.ingest, "type": "topic", "durable": True, "autoDelete": False},
                }
            },
        },
        "answers": {
            "address": None,
            "description": "Direct reply-to: what became of a request that asked for an answer.",
            "servers": [{"$ref": "#/servers/broker"}],
            "messages": {name: _ref("messages", name) for name in ("accepted", "results", "problem")},
        },
        "deadLetters": {
            "address": NAMES.dead,
            "description": "What cannot be sent, as it came, with the reason in its headers.",
            "servers": [{"$ref": "#/servers/broker"}],
            "messages": {"deadLetter": _ref("messages", "deadLetter")},
            "bindings": {
                "amqp": {
                    "is": "queue",
                    "queue": {"name": NAMES.dead, "durable": True, "exclusive": False, "autoDelete": False},
                }
            },
        },
    }


def _operations() -> dict[str, Any]:
    return {
        "writeToSocket": _operation("send", "socket", _names(*FROM_SERVICE), "The service writes to a session."),
        "readFromSocket": _operation("receive", "socket", _names(*FROM_CLIENT), "A client says something."),
        "writeToStream": _operation("send", "stream", _names(*OVER_SSE), "The service writes to a session."),
        "takeRequest": _operation("receive", "requests", ["request", "event"], "A backend sends a notification.")
        | {
            "reply": {
                "address": {"location": "$message.header#/reply_to"},
                "channel": {"$ref": "#/channels/answers"},
                "messages": [
                    {"$ref": f"#/channels/answers/messages/{name}"} for name in ("accepted", "results", "problem")
                ],
            }
        },
        "giveUp": _operation("send", "deadLetters", ["deadLetter"], "The service cannot send it."),
    }


def _operation(action: str, channel: str, messages: Sequence[str], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _messages() -> dict[str, Any]:
    frames = {
        _name(model): {"name": _name(model), "summary": model.__doc__, "payload": _ref("schemas", model.__name__)}
        for model in (*FROM_SERVICE, *FROM_CLIENT)
    }
    request = _ref("schemas", "NotificationRequest")
    return frames | {
        "request": {
            "summary": "One notification, or an array of up to 1,000.",
            "contentType": "application/json",
            "payload": {"oneOf": [request, {"type": "array", "minItems": 1, "maxItems": 1_000, "items": request}]},
            "examples": [{"name": "one", "payload": EXAMPLE}],
        },
        "event": {
            "summary": "A CloudEvent, structured; many as an array, application/cloudevents-batch+json.",
            "contentType": EVENT_MEDIA_TYPE,
            "payload": _ref("schemas", "CloudEvent"),
            "examples": [{"name": "one", "payload": EVENT_EXAMPLE}],
        },
        "accepted": {"summary": "The journal has it.", "payload": _ref("schemas", "Accepted")},
        "results": {"summary": "The outcomes of an array.", "payload": _ref("schemas", "BatchResults")},
        "problem": {
            "summary": "It became a dead letter.",
            "contentType": MEDIA_TYPE,
            "payload": _ref("schemas", "Problem"),
        },
        "deadLetter": {
            "summary": "A message as it came, and why it cannot be sent.",
            "headers": {"type": "object", "properties": _HEADERS},
            "payload": {},
        },
    }


def _schemas() -> dict[str, Any]:
    requests: list[type[BaseModel]] = [NotificationRequest, CloudEvent, *FROM_CLIENT]
    answers: list[type[BaseModel]] = [Accepted, BatchResults, Problem, *FROM_SERVICE]
    _, schemas = models_json_schema(
        [(model, "validation") for model in (*requests, *answers)],
        ref_template="#/components/schemas/{model}",
    )
    return dict(sorted(schemas["$defs"].items()))


def _name(model: type[BaseModel]) -> str:
    """That of the frame: its type."""
    kind: str = model.model_json_schema()["properties"]["type"]["const"]
    return kind


def _names(*models: type[BaseModel]) -> list[str]:
    return [_name(model) for model in models]


def _of(*models: type[BaseModel]) -> dict[str, Any]:
    return {name: _ref("messages", name) for name in _names(*models)}


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}
