"""`POST /ticket`: a ticket in exchange for a token, or one that a backend has made for somebody."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from notifier.core.errors import UnsupportedMediaType
from notifier.core.identity import Identity
from notifier.core.notification import rfc3339
from notifier.core.strict_json import parse
from notifier.ingress.body import headers_of, is_json, media_type, read_body
from notifier.ingress.middleware import Ask
from notifier.ingress.openapi import TICKET_ROUTE
from notifier.ingress.schemas import TicketRequest, read_model
from notifier.ingress.sizes import REQUEST_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class TicketGuard:
    """Who gets tickets. `app.py` fills it; each callable raises the error with which it refuses.

    Args:
        authenticate: from the Authorization header, or None, to the caller.
        spend: take one out of the caller's allowance, and return how to ask where the caller stands.
        vouch: who that is: from caller, tenant (None: the caller's), user, roles, patterns of topics, and seconds.
        mint: the ticket for a session of an identity.
    """

    authenticate: Callable[[str | None], Awaitable[Identity]]
    spend: Callable[[Identity], Awaitable[Ask]]
    vouch: Callable[[Identity, str | None, str, Sequence[str], Sequence[str], int], Identity]
    mint: Callable[[Identity], str]


class TicketDoor:
    """Gives tickets over HTTP."""

    def __init__(self, guard: TicketGuard, *, ticket_seconds: int, body_seconds: float) -> None:
        self._guard = guard
        self._ticket_seconds = ticket_seconds
        self._body_seconds = body_seconds

    def open(self, api: FastAPI) -> None:
        """Add the route of this door."""
        api.add_api_route("/ticket", self.ticket, methods=["POST"], **TICKET_ROUTE)

    async def ticket(self, request: Request) -> Response:
        """Give one ticket: without a body, for the bearer of the token."""
        headers = headers_of(request)
        caller = await self._guard.authenticate(headers.get("authorization"))
        request.scope["state"]["caller"] = caller.user
        request.scope["state"]["standing"] = await self._guard.spend(caller)
        body = await read_body(
            request.receive, headers, limit_bytes=REQUEST_LIMIT_BYTES, within_seconds=self._body_seconds
        )
        identity = self._named_in(body, headers, caller) if body else caller
        fields = {
            "ticket": self._guard.mint(identity),
            "expires_in": self._ticket_seconds,
            "session_expires_at": rfc3339(int(identity.expires_at * 1000)),
        }
        body = json.dumps(fields).encode()
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    def _named_in(self, body: bytes, headers: Mapping[str, str], caller: Identity) -> Identity:
        if not is_json(media_type(headers)):
            raise UnsupportedMediaType("unsupported_media_type", "send application/json")
        wanted = read_model(TicketRequest, parse(body), "invalid_ticket_request")
        return self._guard.vouch(
            caller, wanted.tenant, wanted.user, wanted.roles, wanted.topics, wanted.session_seconds
        )
