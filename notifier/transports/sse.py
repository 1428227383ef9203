"""Sessions as streams of events (SSE; HTML, 9.2): admission through ASGI; then the connection leaves it, as a socket's.

A stream cannot be asked anything: topics change, and tokens are renewed, by opening another one at the last position.
"""

import asyncio
import random
from dataclasses import replace
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from notifier.core.errors import Forbidden, NotifierError, Unauthenticated
from notifier.core.ports import CloseReason
from notifier.core.session import Session
from notifier.transports.bare import Board
from notifier.transports.encodings import Retry
from notifier.transports.handshake import Handshake, read_handshake
from notifier.transports.http_protocol import STREAM
from notifier.transports.reception import Admitted, Reception
from notifier.transports.stream import AsgiStream, DetachedStream, detached, last_words

MEDIA_TYPE: Final = "text/event-stream"
# A browser's EventSource waits so long before it comes back by itself; spread, so that not all come at once.
RETRY_MS: Final = (1_000, 5_000)
# Nothing may keep what is for one person, nor hold it back until there is more: nginx knows the last one.
HEADERS: Final = (
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class EventStreams:
    """Serves streams of events; from request to end, read `respond` from top to bottom."""

    def __init__(
        self, reception: Reception, *, linger_seconds: float, write_limit_bytes: int, query_token: bool = False
    ) -> None:
        self._reception = reception
        self._hub = reception.hub
        self._board = Board(
            self._hub, reception.ended, linger_seconds=linger_seconds, write_limit_bytes=write_limit_bytes
        )
        self._query_token = query_token

    async def respond(self, request: Request) -> Response:
        """Admit the client, or refuse it: raises NotifierError, or answers 204, which has an EventSource stop."""
        handshake = read_handshake(request, query_token=self._query_token)
        # A browser that comes back by itself knows more than the address that its page once gave it.
        handshake = replace(handshake, position=request.headers.get("last-event-id") or handshake.position)
        try:
            self._reception.check(handshake)
            await self._reception.pace(handshake)
            admitted = await self._reception.enter(handshake)
        except NotifierError as error:
            self._reception.note_refusal(error.code, request.client.host if request.client else None)
            if isinstance(error, Unauthenticated | Forbidden) and _is_event_source(request, handshake):
                return Response(status_code=204, headers={"Cache-Control": "no-store"})
            raise
        return Opening(self, handshake, admitted)

    async def serve(self, opening: "Opening", scope: Scope, receive: Receive, send: Send) -> None:
        """Begin the answer, open the session, and keep it until one side ends it."""
        taking = scope.get("extensions", {}).get(STREAM)
        headers = [*HEADERS, (b"connection", b"close")] if taking else [*HEADERS]
        try:
            if taking:
                taking["prepare"]()
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            self._reception.confirm(opening.admitted)
            if taking:
                # In one turn of the event loop; nothing of the connection stays in ASGI.
                self._open(opening, detached(self._board, taking["hand_over"]()))
            else:
                await self._stay(opening, receive, send)
        except NotifierError as error:  # While the head was on its way: what is left to say goes into the body.
            self._reception.note_refusal(error.code, opening.handshake.address)
            words = last_words(CloseReason(error.code))
            await send({"type": "http.response.body", "body": words.event if words else b""})
        except OSError:
            self._reception.dismiss(opening.admitted)
            self._reception.count("client_gone")
        except BaseException:
            self._reception.dismiss(opening.admitted)
            raise

    async def _stay(self, opening: "Opening", receive: Receive, send: Send) -> None:
        """Open the session, then wait for its end, while the outlet's task writes."""
        loop = asyncio.get_running_loop()
        began, ended = loop.time(), (1006, "connection_lost")
        outlet = AsgiStream(send, limit_bytes=self._board.write_limit_bytes)
        session = self._open(opening, outlet)
        try:
            async with asyncio.timeout(None) as lifetime, asyncio.TaskGroup() as tasks:
                # A client that reads again within the time learns why it ends; any other is cut off.
                outlet.on_hang_up = lambda: lifetime.reschedule(loop.time() + self._board.linger_seconds)
                writing = tasks.create_task(outlet.run(lambda: self._hub.advance(session)))
                leaving = tasks.create_task(_gone(receive))
                await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    ended = (1005, "client")
                writing.cancel()
                leaving.cancel()
        except* (TimeoutError, OSError, RuntimeError):
            pass  # The client was cut off, or is gone.
        finally:
            self._hub.remove(session)
            self._reception.ended(session, outlet.closing or ended, loop.time() - began)

    def _open(self, opening: "Opening", stream: AsgiStream | DetachedStream) -> Session:
        self._reception.count("admitted")
        stream.answer(Retry(random.randint(*RETRY_MS)))  # noqa: S311 - spreads reconnects
        session = self._reception.open(opening.handshake, opening.admitted, stream)
        if isinstance(stream, DetachedStream):
            stream.session = session
        return session


class Opening(Response):
    """The answer that becomes a stream."""

    def __init__(self, streams: EventStreams, handshake: Handshake, admitted: Admitted) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._streams = streams
        self.handshake = handshake
        self.admitted = admitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._streams.serve(self, scope, receive, send)


def _is_event_source(request: Request, handshake: Handshake) -> bool:
    """A browser's own, which knows of an answer only that it was none."""
    return handshake.ticket is not None and MEDIA_TYPE in request.headers.get("accept", "")


async def _gone(receive: Receive) -> None:
    """Return when the client has."""
    while (await receive())["type"] != "http.disconnect":
        pass
