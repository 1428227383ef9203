"""Sessions over WebSocket: admission through ASGI; then the connection leaves it, where the server lets it.

On any other ASGI server a reader and a writer keep the session until one side ends it, with the same behaviour.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from notifier.core.errors import LimitExceeded, NotifierError, UpgradeRequired
from notifier.core.pulse import Pulse
from notifier.core.session import Session
from notifier.transports.closing import AUTH_TIMEOUT, HangUp
from notifier.transports.conversation import Conversation, Rules
from notifier.transports.detached import Switchboard
from notifier.transports.frames import PROTOCOL
from notifier.transports.handshake import Handshake, read_handshake, with_first_frame
from notifier.transports.incoming import HandedOver
from notifier.transports.outlet import AsgiOutlet
from notifier.transports.reception import Admitted, Reception
from notifier.transports.socket_protocol import HAND_OVER
from notifier.transports.turns import Turns


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a connection waits for what."""

    auth_seconds: float = 5.0
    linger_seconds: float = 20.0


class WebSocketSessions:
    """Serves WebSockets; from connect to close, read `serve` from top to bottom."""

    def __init__(
        self,
        reception: Reception,
        *,
        pulse: Pulse,
        rules: Rules,
        timing: Timing,
        write_limit_bytes: int = 64 * 1024,
        query_token: bool = False,
    ) -> None:
        self._reception = reception
        self._door = door = reception.door
        self._hub = reception.hub
        self._rules = rules
        self._timing = timing
        self._conversation = Conversation(
            hub=self._hub,
            pulse=pulse,
            authenticate=door.authenticate,
            authenticate_patiently=door.authenticate_patiently,
            grant=door.grant,
            rules=rules,
        )
        self._board = Switchboard(
            self._hub,
            reception.ended,
            linger_seconds=timing.linger_seconds,
            write_limit_bytes=write_limit_bytes,
            conversation=self._conversation,
            frame_limit_bytes=rules.frame_limit_bytes,
        )
        self._write_limit_bytes = write_limit_bytes
        self._query_token = query_token
        self._turns = Turns()

    async def serve(self, websocket: WebSocket) -> None:
        """Admit the client or refuse it, and keep the session until one side ends it."""
        try:
            await self._serve(websocket)
        except (WebSocketDisconnect, OSError):
            self._reception.count("client_gone")

    async def _serve(self, websocket: WebSocket) -> None:
        handshake = read_handshake(websocket, query_token=self._query_token)
        try:
            await self._check(handshake)
        except NotifierError as error:
            # Hard overload is told over plain HTTP to everybody; that an address is over its limit, to a page as well.
            to_browser = isinstance(error, LimitExceeded) and handshake.origin is not None
            await self._refuse(websocket, error, to_browser=to_browser)
            return
        try:
            admitted = await self._reception.enter(handshake) if handshake.has_credentials else None
        except NotifierError as error:
            await self._refuse(websocket, error, to_browser=handshake.origin is not None)
            return
        try:
            await websocket.accept(subprotocol=PROTOCOL)
            if admitted is None:
                handshake = await self._await_auth(websocket, handshake)
                admitted = await self._reception.enter(handshake)
            self._reception.confirm(admitted)
            self._reception.count("admitted")
            await self._begin(websocket, handshake, admitted)
        except NotifierError as error:
            await self._hang_up(websocket, HangUp.because(error))
        except HangUp as hang_up:
            await self._hang_up(websocket, hang_up)
        except BaseException:
            if admitted is not None:  # Its client is gone before there was a session.
                self._reception.dismiss(admitted)
            raise

    async def _check(self, handshake: Handshake) -> None:
        """What is refused before a token is looked at: a stranger's page, no room, another protocol, a crowd."""
        await self._turns.take()
        self._reception.check(handshake)
        if not handshake.speaks_our_protocol:
            raise UpgradeRequired("subprotocol_required", f"offer the WebSocket subprotocol {PROTOCOL}")
        await self._reception.pace(handshake)

    async def _begin(self, websocket: WebSocket, handshake: Handshake, admitted: Admitted) -> None:
        """Open the session where its connection is to live; one that stays in ASGI is kept here until it ends."""
        if (extension := websocket.scope.get("extensions", {}).get(HAND_OVER)) is not None:
            self._detach(extension["hand_over"](), handshake, admitted)
        else:
            await self._converse(websocket, handshake, admitted)

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
        self._reception.note_refusal(code, websocket.client.host if websocket.client else None)

    async def _await_auth(self, websocket: WebSocket, handshake: Handshake) -> Handshake:
        """Give the client a few seconds for its first frame."""
        try:
            async with asyncio.timeout(self._timing.auth_seconds):
                text = await _receive(websocket)
        except TimeoutError:
            raise HangUp(AUTH_TIMEOUT, "auth_timeout") from None
        return with_first_frame(handshake, text, limit_bytes=self._rules.frame_limit_bytes)

    def _detach(self, handed: HandedOver, handshake: Handshake, admitted: Admitted) -> None:
        """Open the session on the bare connection, in one turn of the event loop; nothing of it stays in ASGI."""
        socket = self._board.connect(handed)
        try:
            session = self._reception.open(handshake, admitted, socket)
            socket.begin(session, handed.messages)
        except BaseException:
            socket.give_up()  # Nobody else knows the connection any more.
            raise

    async def _converse(self, websocket: WebSocket, handshake: Handshake, admitted: Admitted) -> None:
        """Open the session, then read until the end, while the outlet's task writes."""
        loop = asyncio.get_running_loop()
        began, ended = loop.time(), (1006, "connection_lost")
        outlet = AsgiOutlet(websocket.send, limit_bytes=self._write_limit_bytes)
        session = self._reception.open(handshake, admitted, outlet)
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
            self._reception.ended(session, outlet.closing or ended, loop.time() - began)

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


async def _receive(websocket: WebSocket) -> str | bytes:
    """The next message. Raises WebSocketDisconnect at the end."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005), message.get("reason"))
    text: str | None = message.get("text")  # Of the two, servers may give None for the other, or leave it out.
    said: str | bytes = message["bytes"] if text is None else text
    return said


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
