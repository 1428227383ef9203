"""What a client brings to the door: where it comes from, its credentials, where it wants to go on."""

from dataclasses import dataclass, replace
from typing import Final

from starlette.datastructures import Headers, QueryParams
from starlette.requests import HTTPConnection

from notifier.transports.closing import HangUp
from notifier.transports.conversation import is_list_of_strings, read_object
from notifier.transports.frames import PROTOCOL

BEARER_PREFIX: Final = "bearer."


@dataclass(frozen=True, slots=True)
class Handshake:
    """One request for a session.

    `token` and `ticket` are None when a token is to come in a first frame; one of both counts, a ticket before a token.
    `topics` are the wanted ones, unchecked. `address` is the client's, as far as trusted proxies tell it.
    """

    origin: str | None
    scheme: str
    host: str
    subprotocols: tuple[str, ...]
    token: str | None
    position: str | None
    topics: tuple[str, ...]
    ticket: str | None = None
    address: str | None = None
    forwarded_scheme: str | None = None  # By which a proxy says that it came.

    @property
    def has_credentials(self) -> bool:
        return bool(self.token or self.ticket)

    @property
    def speaks_our_protocol(self) -> bool:
        return PROTOCOL in self.subprotocols


def read_handshake(connection: HTTPConnection, *, query_token: bool) -> Handshake:
    """Collect it from headers and query. `query_token` lets `?token=` count, which proxies and histories may keep."""
    headers, query = connection.headers, connection.query_params
    subprotocols = tuple(connection.scope.get("subprotocols", ()))
    return Handshake(
        origin=",".join(headers.getlist("origin")) if "origin" in headers else None,
        scheme=connection.scope["scheme"],
        host=headers.get("host", ""),
        subprotocols=subprotocols,
        token=_token(subprotocols, headers, query if query_token else None),
        position=query.get("position"),
        topics=tuple(topic for value in query.getlist("topics") for topic in value.split(",") if topic),
        ticket=query.get("ticket") or None,
        address=connection.client.host if connection.client else None,
        forwarded_scheme=headers.get("x-forwarded-proto"),
    )


def _token(subprotocols: tuple[str, ...], headers: Headers, query: QueryParams | None) -> str | None:
    for offered in subprotocols:
        if offered.startswith(BEARER_PREFIX):
            return offered.removeprefix(BEARER_PREFIX)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return query.get("token") if query is not None else None


def with_first_frame(handshake: Handshake, text: str | bytes, *, limit_bytes: int) -> Handshake:
    """Complete a handshake with the `auth` frame that came first. Raises HangUp for any other frame."""
    frame = read_object(text, limit_bytes=limit_bytes)
    token, position, topics = frame.get("token"), frame.get("position"), frame.get("topics", [])
    if frame.get("type") != "auth" or not isinstance(token, str):
        raise HangUp(4402, "auth_expected")
    if not (position is None or isinstance(position, str)) or not is_list_of_strings(topics):
        raise HangUp(4400, "auth_frame_invalid")
    return replace(
        handshake,
        token=token,
        position=handshake.position if position is None else position,
        topics=(*handshake.topics, *topics),
    )
