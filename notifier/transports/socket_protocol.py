"""uvicorn's WebSocket protocol with its gaps closed: what it leaves open, or blames on us, when a client misbehaves.

It overrides private parts of uvicorn, so `pyproject.toml` pins the minor releases that were tried.
"""

import json
from http import HTTPStatus
from typing import Final

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import SecurityError
from websockets.http11 import Request

INVALID_UTF8: Final = 1007


def refusal(status: HTTPStatus, code: str, detail: str) -> bytes:
    """A whole HTTP answer with a problem (RFC 9457), for requests that never reach the app."""
    problem = {"type": f"urn:notifier:problem:{code}", "title": status.phrase, "status": status, "detail": detail}
    body = json.dumps(problem | {"code": code})
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


_UNREADABLE: Final = refusal(HTTPStatus.BAD_REQUEST, "request_invalid", "this is no request for a WebSocket")
_TOO_LARGE: Final = refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", "at most 128 headers, and 8 KiB for a line"
)
_TWO_ORIGINS: Final = refusal(HTTPStatus.FORBIDDEN, "origin_forbidden", "pages of this origin may not connect")


class SocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection, from its request to its end."""

    def data_received(self, data: bytes) -> None:
        """Answer a request that cannot be read: uvicorn would leave it unanswered and its connection open for ever."""
        super().data_received(data)
        failure = self.conn.handshake_exc
        if failure is None or self.handshake_initiated or self.transport.is_closing():
            return
        is_too_large = any(isinstance(error, SecurityError) for error in (failure, failure.__cause__))
        self._refuse(_TOO_LARGE if is_too_large else _UNREADABLE)

    def handle_connect(self, event: Request) -> None:
        """Refuse two Origins as a bad one, where the library finds the request malformed."""
        if len(event.headers.get_all("Origin")) > 1:
            self._refuse(_TWO_ORIGINS)
        else:
            super().handle_connect(event)

    def handle_ping(self) -> None:
        """Cut a client that pings and never reads the pongs: they would wait in memory without end."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        """Close with 1007 what is no UTF-8, without the traceback that uvicorn logs: it is the client's mistake."""
        if self.curr_msg_data_type == "text" and not self.close_sent and not _is_utf8(b"".join(self.frames)):
            self.frames = []
            self.conn.send_close(INVALID_UTF8)
            self.handle_parser_exception()
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


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
