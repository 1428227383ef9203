"""The server that is held against the protocol, and how it is spoken to over plain HTTP."""

import json
import secrets
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import httpx

from notifier.clients.conform.check import Broken, Inapplicable, expect, same

ANSWER_SECONDS: Final = 10.0  # The service has 4 for a POST, and 5 before a welcome.
TYPE: Final = "conform.check"
TTL_SECONDS: Final = 120
SHOWN_BYTES: Final = 200

Objections: TypeAlias = Callable[[Mapping[str, Any]], Sequence[str]]
"""What is wrong with a frame by its schema. Nothing, for a type that the schemas do not know: those may be added."""


class Mint(Protocol):
    """Makes a token that the server takes."""

    def __call__(self, *, user: str, lifetime_seconds: int = ...) -> str: ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, and what there is to try it with.

    Args:
        url: such as `https://push.example.com`.
        token: of a user who hears nothing else meanwhile.
        sender_token: may send to that user; None leaves out what needs it.
        origin: one whose pages the server lets in; None leaves out what needs it.
        topic: to be subscribed to and sent to, where the token allows it.
        frame_limit_bytes: what a client's frame may have.
        tls: whom to trust; None for the usual authorities.
        mint: for tokens that are expired or another user's; None leaves out what needs them.
    """

    url: str
    token: str
    objections: Objections
    sender_token: str | None = None
    origin: str | None = None
    topic: str = "conform"
    frame_limit_bytes: int = 16_384
    tls: ssl.SSLContext | None = None
    mint: Mint | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One of HTTP, also to a handshake."""

    status: int
    headers: httpx.Headers
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {self.body[:SHOWN_BYTES].decode(errors='replace')}".strip()

    def json(self) -> dict[str, Any]:
        """The object in the body. Raises Broken where there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            raise Broken("a JSON object", self) from None
        expect(isinstance(value, dict), "a JSON object", self)
        return dict(value)

    def media_type(self) -> str:
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()


async def ask(
    target: Target,
    method: str,
    path: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    content: object = None,
    params: Mapping[str, str] | None = None,
) -> Answer:
    """Ask over HTTP. `content` is sent as JSON, a text as it is. Raises Broken where no answer comes."""
    told = {"Content-Type": "application/json", **(headers or {})}
    if token is not None:
        told["Authorization"] = f"Bearer {token}"
    raw = content if isinstance(content, str) or content is None else json.dumps(content)
    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, verify=target.tls or True) as client:
            response = await client.request(
                method, f"{target.url}{path}", headers=told, content=raw, params=dict(params or {})
            )
    except httpx.TransportError as error:
        raise Broken(f"an answer to {method} {path}", str(error) or type(error).__name__) from error
    return Answer(response.status_code, response.headers, response.content)


async def send(target: Target, user: str, title: str, **members: object) -> str:
    """Send a notification to the user. Returns its id."""
    answer = await ask(target, "POST", "/notify", token=sender(target), content=notification(user, title, **members))
    expect(answer.status == 202, "status 202", answer)
    return str(answer.json().get("id"))


def notification(user: str, title: str, **members: object) -> dict[str, Any]:
    """A request to send one."""
    return {"to": {"users": [user]}, "type": TYPE, "title": title, "ttl_seconds": TTL_SECONDS, **members}


def sender(target: Target) -> str:
    """The token to send with. Raises Inapplicable where there is none."""
    if target.sender_token is None:
        raise Inapplicable("it takes a token that may send: --sender-token-file")
    return target.sender_token


def page(target: Target) -> str:
    """The origin of a page that is let in. Raises Inapplicable where none was named."""
    if target.origin is None:
        raise Inapplicable("it takes an origin whose pages are let in: --origin")
    return target.origin


def minted(target: Target, *, user: str, lifetime_seconds: int = 600) -> str:
    """Another token. Raises Inapplicable where none can be made."""
    if target.mint is None:
        raise Inapplicable("it takes the development keys: --insecure-development")
    return target.mint(user=user, lifetime_seconds=lifetime_seconds)


def expect_problem(answer: Answer, status: int, code: str | None = None) -> dict[str, Any]:
    """Raise Broken unless it is a problem of RFC 9457 with this status and `code`. Returns its members."""
    expect(answer.status == status, f"status {status}", answer)
    expect(answer.media_type() == "application/problem+json", "application/problem+json", answer.media_type())
    members = answer.json()
    expect({"type", "title", "status", "detail", "code"} <= set(members), "type, title, status, detail, code", answer)
    same("the member status to be", members["status"], status)
    if code is not None:
        same("code", members["code"], code)
    return members


def mark() -> str:
    """A text that nobody else uses."""
    return secrets.token_hex(8)
