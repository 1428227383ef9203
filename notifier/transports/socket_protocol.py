"""uvicorn's WebSocket protocol, from the request until the connection is handed over (`detached.py`) or refused.

Its gaps are closed here: what it leaves open, or blames on us, when a client misbehaves.

It overrides private parts of uvicorn, so `pyproject.toml` pins the minor releases that were tried.
"""

import json
import zlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import NegotiationError, SecurityError
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import ExtensionParameter

from notifier.transports.detached import FAILED_LINGER_SECONDS, UNREAD_PONGS
from notifier.transports.incoming import PARSED_BYTES, HandedOver, Letter

HAND_OVER: Final = "notifier.hand_over"
"""The ASGI extension by which the app takes a connection over: `hand_over` in it returns it as it stands."""


def refusal(status: HTTPStatus, code: str, detail: str) -> bytes:
    """A whole HTTP answer with a problem (RFC 9457), for requests that never reach the app."""
    body = _problem(status, code, detail)
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        head += f"Retry-After: {RETRY_SECONDS}\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def _problem(status: HTTPStatus, code: str, detail: str) -> str:
    problem = {"type": f"urn:notifier:problem:{code}", "title": status.phrase, "status": status, "detail": detail}
    return json.dumps(problem | {"code": code})


_CODES: Final = {HTTPStatus.NOT_FOUND: "not_found", HTTPStatus.INTERNAL_SERVER_ERROR: "internal_error"}
RETRY_SECONDS: Final = 5
CLOSE_SECONDS: Final = 5.0  # A client that is not let in, or is sent away, has so long to answer the close.
EARLY_FRAMES: Final = 100
_UNREADABLE: Final = refusal(HTTPStatus.BAD_REQUEST, "request_invalid", "this is no request for a WebSocket")
_TOO_LARGE: Final = refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "at most 128 headers, and 8 KiB for a line"
)
_TWO_ORIGINS: Final = refusal(HTTPStatus.FORBIDDEN, "origin_forbidden", "pages of this origin may not connect")


class ServerLetter(Letter, ServerProtocol):
    """The parser of a connection that begins with its request."""

    def reject(self, status: int, text: str) -> Response:
        """Refuse as every answer of ours does, and say which version is spoken (4.4).

        uvicorn has 403 without a word for Starlette's way to say that there is no such address.
        """
        refused = HTTPStatus(status) if text else HTTPStatus.NOT_FOUND
        code = _CODES.get(refused, "request_invalid")
        response = super().reject(refused, _problem(refused, code, text.strip() or "there is nothing at this address"))
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = "application/problem+json"
        response.headers["Sec-WebSocket-Version"] = "13"
        return response


class SharedDeflate(ServerPerMessageDeflateFactory):
    """Negotiates permessage-deflate so that one compressed frame fits every connection (RFC 7692, 7.1.1)."""

    def __init__(self) -> None:
        super().__init__(server_no_context_takeover=True, client_no_context_takeover=True)

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Any]
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        """Decline a client that wants a smaller window than the one that all frames are made for."""
        answer, extension = super().process_request_params(params, accepted_extensions)
        if extension.local_max_window_bits < zlib.MAX_WBITS:
            raise NegotiationError("frames are compressed once, with the largest window")
        return answer, extension


class _Elsewhere:
    """In the place of a transport that was handed over: what is left of ASGI must not touch it any more."""

    def close(self) -> None:
        """uvicorn closes behind the app."""


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection, from its request until it is handed over."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **options)
        self.conn.__class__ = ServerLetter  # uvicorn has made it; another one would cost each handshake once more.
        self.conn.available_extensions = [SharedDeflate()] if self.config.ws_per_message_deflate else []
        self.close_timeout = CLOSE_SECONDS
        self._unread_pongs = 0  # Written since the transport could not take more.
        self._early_frames = 0  # Before the connection is handed over.

    def hand_over(self) -> HandedOver:
        """Give the connection away as it stands, in one turn of the event loop. Raises OSError when it is gone."""
        if self.disconnected or self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        del self.scope["extensions"][HAND_OVER]  # It leads back here, and the collector looks seldom.
        self.stop_keepalive()
        self.connections.discard(self)
        messages = [self.queue.get_nowait() for _ in range(self.queue.qsize())]
        handed = HandedOver(
            transport=self.transport,
            protocol=self.conn,
            messages=[_said(message) for message in messages],
            fragments=self._unfinished(),
            is_writable=self.writable.is_set(),
            connections=self.connections,
        )
        self.transport = _Elsewhere()  # type: ignore[assignment]  # All that is still called of it.
        return handed

    def _unfinished(self) -> tuple[Frame, ...]:
        """What has come of a message whose last fragment has not."""
        if self.conn.current_size is None:
            return ()
        opcode = Opcode.TEXT if self.curr_msg_data_type == "text" else Opcode.BINARY
        return (Frame(opcode, b"".join(self.frames), fin=False),)

    def data_received(self, data: bytes) -> None:
        """Answer a request that cannot be read: uvicorn would leave it unanswered and its connection open for ever.

        Who does not wait for the answer (4.1) is cut: a pong before it would be read as an answer over HTTP.
        """
        if self.handshake_initiated and not self.handshake_complete:
            self.transport.abort()
            return
        for start in range(0, len(data), PARSED_BYTES):
            super().data_received(data[start : start + PARSED_BYTES])
            if self.transport.is_closing():
                return
        failure = self.conn.handshake_exc
        if failure is None or self.handshake_initiated:
            return
        is_too_large = any(isinstance(error, SecurityError) for error in (failure, failure.__cause__))
        self._refuse(_TOO_LARGE if is_too_large else _UNREADABLE)

    def handle_connect(self, event: Request) -> None:
        """Refuse two Origins as a bad one, where the library finds the request malformed."""
        if len(event.headers.get_all("Origin")) > 1:
            self._refuse(_TWO_ORIGINS)
            return
        super().handle_connect(event)
        if not self.handshake_complete:  # Else it was refused, and there is no scope.
            self.scope["extensions"][HAND_OVER] = {"hand_over": self.hand_over}

    def handle_ping(self) -> None:
        """Cut a client that pings and never reads the pongs: they would wait in memory without end."""
        self._unread_pongs = 0 if self.writable.is_set() else self._unread_pongs + 1
        if self._unread_pongs <= UNREAD_PONGS and self._is_within_bounds():
            super().handle_ping()
        else:
            self.transport.abort()

    def handle_close(self, event: Frame) -> None:
        """Cut a client that closes and does not read the rest: closing would wait for it without end."""
        super().handle_close(event)
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(FAILED_LINGER_SECONDS, self.transport.abort)

    def handle_cont(self, event: Frame) -> None:
        """As with pongs: fragments may be empty."""
        if self._is_within_bounds():
            super().handle_cont(event)
        else:
            self.transport.abort()

    def handle_pong(self, event: Frame) -> None:
        """Cut who floods us before there is a session."""
        if self._is_within_bounds():
            super().handle_pong(event)
        else:
            self.transport.abort()

    def _is_within_bounds(self) -> bool:
        """Count a frame that comes before the connection is handed over: nobody has shown a token yet."""
        self._early_frames += 1
        return self._early_frames <= EARLY_FRAMES or HAND_OVER not in self.scope["extensions"]

    def send_receive_event_to_app(self) -> None:
        """As with pongs."""
        if not self._is_within_bounds():
            self.transport.abort()
            return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Take a refusal over HTTP for a complete answer, where uvicorn logs an error behind each one."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def _refuse(self, answer: bytes) -> None:
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self.transport.write(answer)
        self.transport.close()


class OrdinarySocket(SocketProtocol):
    """One that cannot be taken over, as under any other ASGI server."""

    def handle_connect(self, event: Request) -> None:
        """Withhold the extension: the app runs in the next turn of the event loop."""
        super().handle_connect(event)
        if not self.handshake_complete:
            del self.scope["extensions"][HAND_OVER]


def _said(message: ASGIReceiveEvent) -> str | bytes:
    said: str | bytes | None = message.get("text", message.get("bytes"))  # type: ignore[assignment]  # The types of the events do not know each other.
    assert said is not None
    return said
