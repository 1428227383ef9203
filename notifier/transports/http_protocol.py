"""uvicorn's HTTP protocol with bounds that its parser lacks: the size of a head, of a request, the time for a head.

And without what a proxy in front could read in another way (request smuggling).

It overrides private parts of uvicorn, so `pyproject.toml` pins the minor releases that were tried.
"""

import asyncio
import sys
from asyncio.transports import BaseTransport
from functools import partial
from http import HTTPStatus
from math import inf
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from notifier.transports.socket_protocol import refusal
from notifier.transports.stream import HandedStream

STREAM: Final = "notifier.stream"
"""The ASGI extension by which the app takes over a connection whose answer has no end.

`prepare` in it is called before the answer begins, and `hand_over`, behind its head, returns the connection.
"""

HEAD_LIMIT_BYTES: Final = 64 * 1024
REQUEST_LIMIT_BYTES: Final = 16 * 1024 * 1024  # Far over any body that is taken; trailers count into it.
PIPELINE_LIMIT: Final = 16  # Requests sent ahead of their answers; uvicorn queues them without end.
HEAD_SECONDS: Final = 10.0
LINGER_SECONDS: Final = 2.0
_TOO_LARGE: Final = refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", f"the head is over {HEAD_LIMIT_BYTES} bytes"
)
_FULL: Final = refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "overload", "this replica has as many connections as it may have"
)
_INVALID: Final = refusal(HTTPStatus.BAD_REQUEST, "request_invalid", "this is no request of HTTP/1.1")


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    def __init__(self, *arguments: Any, most_connections: float = inf, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **options)
        self._most_connections = most_connections
        self._is_in_head = True
        self._chunk_bytes = 0  # That are being read.
        self._received_bytes = 0  # Of the head, or of what follows it.
        self._is_deaf = False  # Set when nothing that still comes is read.
        self._deadline: asyncio.TimerHandle | None = None  # While something has to come, and nobody else waits for it.

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for the first head, unless there are too many connections: probes and the broker need some."""
        super().connection_made(transport)  # type: ignore[arg-type]
        if len(self.connections) > self._most_connections:
            self._is_deaf = True
            self.transport.write(_FULL)
            self.transport.close()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        if self.cycle is not None:
            self._forget_extensions(self.cycle)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Cut a request that is over a limit: the parser would collect it without end."""
        if self._is_deaf:
            return
        self._chunk_bytes = len(data)
        self._received_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head and self._received_bytes > HEAD_LIMIT_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._received_bytes > REQUEST_LIMIT_BYTES or len(self.pipeline) > PIPELINE_LIMIT:
            self.transport.abort()
        elif self._deadline is None and self._is_half_way():
            self._wait()

    def _is_half_way(self) -> bool:
        """Whether a head, or the rest of a request that was answered, has begun; uvicorn stops its own timer then."""
        if self._is_in_head:
            return self._received_bytes > 0
        cycle: RequestResponseCycle | None = self.cycle  # None for an upgrade, whose connection is not ours any more.
        return cycle is not None and cycle.response_complete

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def handle_websocket_upgrade(self) -> None:
        """Hand over to the WebSocket protocol; the parser leads back here, and the collector looks seldom."""
        upgrade = sys.exception()  # The parser's, with where in these bytes the request has ended.
        if upgrade is not None and upgrade.args[0] < self._chunk_bytes:
            self._refuse(_INVALID)  # uvicorn would lose what came too early, and read on in the middle of a frame.
            return
        before: RequestResponseCycle | None = self.cycle
        if before is not None and not before.response_complete:
            # It would take the connection away from answers that are due, or from a stream: they go out, and it ends.
            before.keep_alive = False
            self._is_deaf = True
            return
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # As uvicorn does at the end.

    def _unsupported_upgrade_warning(self) -> None:
        """Go on without the upgrade that nobody speaks, and without a warning; the parser has lost its place."""
        self.cycle.keep_alive = False
        self._is_deaf = True

    def on_headers_complete(self) -> None:
        """Go on to the body. Raises ValueError for a head that somebody else might read in another way."""
        self._stop_waiting()
        self._is_in_head = False
        self._received_bytes = 0
        self._check_head()
        super().on_headers_complete()
        if self.scope["method"] == "GET" and "path" in self.scope:  # Else it goes on as a WebSocket.
            cycle = self.cycle
            self.scope["extensions"] = {
                STREAM: {"prepare": partial(self._prepare, cycle), "hand_over": partial(self._hand_over, cycle)}
            }

    def _prepare(self, cycle: RequestResponseCycle) -> None:
        """Announce no chunks to who cannot read them, as uvicorn would."""
        if cycle.scope["http_version"] == "1.0":
            cycle.chunked_encoding = False

    def _hand_over(self, cycle: RequestResponseCycle) -> HandedStream:
        """Give the connection away behind the head of the answer. Raises OSError when it is gone."""
        self._forget_extensions(cycle)
        if cycle.disconnected or self.transport.is_closing():
            cycle.disconnected = True  # For uvicorn, which would ask for the rest of the answer.
            raise ConnectionResetError("the client is gone")
        cycle.response_complete = True
        self._unset_keepalive_if_required()
        self._stop_waiting()  # For the rest of a request that was sent ahead.
        self.connections.discard(self)
        self.pipeline.clear()
        self.parser = None  # type: ignore[assignment]  # It leads back here, and the collector looks seldom.
        return HandedStream(
            transport=self.transport,
            is_chunked=bool(cycle.chunked_encoding),
            is_writable=not self.flow.write_paused,
            connections=self.connections,
        )

    def _forget_extensions(self, cycle: RequestResponseCycle) -> None:
        """They lead back here, and the collector looks seldom."""
        cycle.scope.pop("extensions", None)

    def _check_head(self) -> None:
        """Be stricter than the parser: RFC 9112, 3.2 (Host), 6.1 (codings, HTTP/1.0)."""
        is_newest, names = self.parser.get_http_version() == "1.1", [name for name, _ in self.headers]
        if names.count(b"host") != 1 and (is_newest or b"host" in names):
            raise ValueError("one Host")
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and not (is_newest and [coding.lower() for coding in codings] == [b"chunked"]):
            raise ValueError("no coding but chunked")
        has_body = codings or any(name == b"content-length" and value != b"0" for name, value in self.headers)
        if self.parser.should_upgrade() and (has_body or not is_newest):
            raise ValueError("the parser takes the body of an upgrade for another request")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Answer what the parser refuses as every other error is answered."""
        self._refuse(_INVALID)

    def on_message_complete(self) -> None:
        """Go on to the next head."""
        self._is_in_head = True
        self._received_bytes = 0
        super().on_message_complete()

    def _refuse(self, answer: bytes) -> None:
        """Answer, and take in what is still coming for a while: closing at once would reset the answer away."""
        self._is_deaf = True
        self.transport.write(answer)
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
