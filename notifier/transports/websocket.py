"""Sessions over WebSocket: admission through ASGI; then the connection leaves it, where the server lets it.

On any other ASGI server a reader and a writer keep the session until one side ends it, with the same behaviour.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from notifier.core.envelope import Position
from notifier.core.errors import NotifierError, UpgradeRequired
from notifier.core.hub import Hub
from notifier.core.identity import Identity
from notifier.core.pipeline import Pipeline
from notifier.core.ports import Frame, Outlet
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.transports.closing import AUTH_TIMEOUT, HangUp
from notifier.transports.conversation import Authenticate, Conversation, Grant, Rules
from notifier.transports.detached import Switchboard
from notifier.transports.frames import PROTOCOL, welcome
from notifier.transports.handshake import Handshake, read_handshake, with_first_frame
from notifier.transports.incoming import HandedOver
from notifier.transports.outlet import AsgiOutlet
from notifier.transports.socket_protocol import HAND_OVER

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Door:
    """What guards the way in. `app.py` fills it; each callable raises the error with which it refuses.

    Args:
        check_origin: (origin, scheme, host): whether pages from there may connect.
        check_room: asked before anything is accepted: draining, overload.
        authenticate: from a token to its identity.
        admit: the session limits of a verified identity.
        grant: from wanted topics to granted and denied ones.
        refusal: the HTTP answer for an error.
        count_handshake: told how each handshake ended: `admitted`, or the code of the refusal.
    """

    check_origin: Callable[[str | None, str, str], None]
    check_room: Callable[[], None]
    authenticate: Authenticate
    admit: Callable[[Identity], None]
    grant: Grant
    refusal: Callable[[NotifierError], Response]
    count_handshake: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a connection waits for what."""

    auth_seconds: float = 5.0
    heartbeat_seconds: float = 25.0
    linger_seconds: float = 20.0


class WebSocketSessions:
    """Serves WebSockets; from connect to close, read `serve` from top to bottom.

    `news` says what a new session is told behind its welcome.
    """

    def __init__(
        self,
        *,
        door: Door,
        hub: Hub,
        pulse: Pulse,
        pipeline: Pipeline,
        news: Callable[[], Sequence[Frame]],
        rules: Rules,
        timing: Timing,
        write_limit_bytes: int = 64 * 1024,
        query_token: bool = False,
    ) -> None:
        self._door = door
        self._hub = hub
        self._pulse = pulse
        self._pipeline = pipeline
        self._news = news
        self._rules = rules
        self._timing = timing
        self._conversation = Conversation(
            hub=hub, pulse=pulse, authenticate=door.authenticate, grant=door.grant, rules=rules
        )
        self._board = Switchboard(
            hub,
            self._conversation,
            self._end,
            linger_seconds=timing.linger_seconds,
            write_limit_bytes=write_limit_bytes,
            frame_limit_bytes=rules.frame_limit_bytes,
        )
        self._write_limit_bytes = write_limit_bytes
        self._query_token = query_token

    async def serve(self, websocket: WebSocket) -> None:
        """Admit the client or refuse it, and keep the session until one side ends it."""
        try:
            await self._serve(websocket)
        except (WebSocketDisconnect, OSError):
            self._door.count_handshake("client_gone")

    async def _serve(self, websocket: WebSocket) -> None:
        handshake = read_handshake(websocket, query_token=self._query_token)
        try:
            self._check(handshake)
        except NotifierError as error:
            await self._refuse(websocket, error)
            return
        try:
            identity = await self._enter(handshake) if handshake.token else None
        except NotifierError as error:
            await self._refuse(websocket, error, to_browser=handshake.origin is not None)
            return
        await websocket.accept(subprotocol=PROTOCOL)
        try:
            if identity is None:
                handshake = await self._await_auth(websocket, handshake)
                identity = await self._enter(handshake)
        except NotifierError as error:
            await self._hang_up(websocket, HangUp.because(error))
        except HangUp as hang_up:
            await self._hang_up(websocket, hang_up)
        else:
            self._door.count_handshake("admitted")
            if (extension := websocket.scope.get("extensions", {}).get(HAND_OVER)) is not None:
                self._detach(extension["hand_over"](), handshake, identity)
            else:
                await self._converse(websocket, handshake, identity)

    def _check(self, handshake: Handshake) -> None:
        """What is refused over plain HTTP, to everybody: a stranger's page, no room, another protocol."""
        self._door.check_origin(handshake.origin, handshake.scheme, handshake.host)
        self._door.check_room()
        if not handshake.speaks_our_protocol:
            raise UpgradeRequired("subprotocol_required", f"offer the WebSocket subprotocol {PROTOCOL}")

    async def _enter(self, handshake: Handshake) -> Identity:
        """Verify; wait until this replica has read as far as the client says that it has; then admit."""
        identity = self._door.authenticate(handshake.token or "")
        position = Position.parse(handshake.position or "")
        if position is not None:
            await self._pipeline.has_read(position)
        # Behind every wait, so that those who wait together do not all find the last free place.
        self._door.check_room()
        self._door.admit(identity)
        return identity

    async def _refuse(self, websocket: WebSocket, error: NotifierError, *, to_browser: bool = False) -> None:
        """Answer over HTTP; a browser cannot read that, and is accepted to hear a close code."""
        if to_browser:
            await websocket.accept(subprotocol=PROTOCOL)
            await self._hang_up(websocket, HangUp.because(error))
            return
        self._note_refusal(websocket, error.code)
        await websocket.send_denial_response(self._door.refusal(error))

    async def _hang_up(self, websocket: WebSocket, hang_up: HangUp) -> None:
        """Close a connection that never became a session."""
        self._note_refusal(websocket, hang_up.reason)
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(hang_up.code, hang_up.reason)

    def _note_refusal(self, websocket: WebSocket, code: str) -> None:
        self._door.count_handshake(code)
        log.info("session refused", extra={"code": code, "address": websocket.client and websocket.client.host})

    async def _await_auth(self, websocket: WebSocket, handshake: Handshake) -> Handshake:
        """Give the client a few seconds for its first frame."""
        try:
            async with asyncio.timeout(self._timing.auth_seconds):
                text = await _receive(websocket)
        except TimeoutError:
            raise HangUp(AUTH_TIMEOUT, "auth_timeout") from None
        return with_first_frame(handshake, text, limit_bytes=self._rules.frame_limit_bytes)

    def _detach(self, handed: HandedOver, handshake: Handshake, identity: Identity) -> None:
        """Open the session on the bare connection, in one turn of the event loop; nothing of it stays in ASGI."""
        socket = self._board.connect(handed)
        session = self._open(handshake, identity, socket)
        socket.begin(session, handed.messages)

    async def _converse(self, websocket: WebSocket, handshake: Handshake, identity: Identity) -> None:
        """Open the session, then read until the end, while the outlet's task writes."""
        loop = asyncio.get_running_loop()
        began, ended = loop.time(), (1006, "connection_lost")
        outlet = AsgiOutlet(websocket.send, limit_bytes=self._write_limit_bytes)
        session = self._open(handshake, identity, outlet)
        try:
            async with asyncio.timeout(None) as lifetime, asyncio.TaskGroup() as tasks:
                # A client that reads again within the time learns why we hung up; any other is cut off.
                outlet.on_hang_up = lambda: lifetime.reschedule(loop.time() + self._timing.linger_seconds)
                writer = tasks.create_task(_write(outlet, lambda: self._hub.advance(session)))
                ended = await self._listen(websocket, session, outlet)
                writer.cancel()
        except TimeoutError:
            pass
        finally:
            self._hub.remove(session)
            self._end(session, outlet.closing or ended, loop.time() - began)

    def _open(self, handshake: Handshake, identity: Identity, outlet: Outlet) -> Session:
        """Register, welcome, and begin the replay in one turn of the event loop, so that there is no gap."""
        granted, denied = self._door.grant(identity, handshake.topics, frozenset())
        session = Session(secrets.token_hex(16), identity, granted, outlet)
        resume = self._hub.register(session, handshake.position)
        self._pulse.add(session)
        heartbeat_seconds = self._timing.heartbeat_seconds
        now_ms = int(time.time() * 1000)
        first = welcome(session, resume, denied=denied, heartbeat_seconds=heartbeat_seconds, now_ms=now_ms)
        for frame in (first, *self._news()):
            outlet.answer(frame)
        self._hub.advance(session)
        return session

    async def _listen(self, websocket: WebSocket, session: Session, outlet: AsgiOutlet) -> tuple[int, str]:
        """Answer frames until the connection ends. Returns the close code and who ended it."""
        allowance = self._conversation.allowance()
        try:
            while True:
                text = await _receive(websocket)
                await outlet.emptied()  # Who does not read our answers is not read either.
                if outlet.closing is None:
                    allowance.spend()
                    self._conversation.receive(session, text)
        except HangUp as hang_up:
            self._hub.remove(session)
            outlet.hang_up(hang_up.code, hang_up.reason)
            return await _await_disconnect(websocket)
        except WebSocketDisconnect as end:
            return end.code, "client"

    def _end(self, session: Session, ended: tuple[int, str], seconds: float) -> None:
        """Say how a session was closed: to the hub, which remembers it, and in the log."""
        code, reason = int(ended[0]), ended[1]
        self._hub.departed.end(session.id, code, reason)
        log.info(
            "session closed",
            extra={
                "session": session.id,
                "tenant": session.identity.tenant,
                "user": session.identity.user,
                "code": code,
                "reason": reason,
                "delivered": session.delivered,
                "seconds": round(seconds, 3),
            },
        )


async def _receive(websocket: WebSocket) -> str | None:
    """The next text frame; None for a binary one. Raises WebSocketDisconnect at the end."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    text: str | None = message.get("text")
    return text


async def _await_disconnect(websocket: WebSocket) -> tuple[int, str]:
    try:
        while True:
            await _receive(websocket)
    except WebSocketDisconnect as end:
        return end.code, "client"


async def _write(outlet: AsgiOutlet, drained: Callable[[], None]) -> None:
    # A lost connection ends the writing; the reader hears of it by itself.
    with suppress(WebSocketDisconnect, RuntimeError, OSError):
        await outlet.run(drained)
