"""Sessions that echo, in place of a conversation: what a conformance suite for WebSocket talks to."""

import secrets
from math import inf
from typing import Final

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from notifier.core.hub import Hub
from notifier.core.identity import Identity, Tenant
from notifier.core.session import Session
from notifier.transports.conversation import Allowance, Rules
from notifier.transports.detached import DeflatedSocket, Switchboard
from notifier.transports.encodings import Frame as Text
from notifier.transports.socket_protocol import HAND_OVER

FRAME_LIMIT_BYTES: Final = 32 * 1024 * 1024  # Suites send messages of 16 MiB.
# The first byte of a frame that is the only one of its message.
BINARY: Final = b"\x82"
DEFLATED_BINARY: Final = b"\xc2"
_ANYBODY: Final = Identity(Tenant("conformance"), "anybody", "", frozenset(), (), frozenset(), frozenset(), inf)


class Binary(Text):
    """A binary message, in its frame."""

    def __init__(self, message: bytes) -> None:
        super().__init__(message)
        self.wire = BINARY + self.wire[1:]

    @property
    def deflated(self) -> bytes:
        """The same compressed, which is of text where it is made."""
        frame = super().deflated
        return frame if frame is self.wire else DEFLATED_BINARY + frame[1:]


class Echo:
    """An ASGI app: anybody may enter, and hears what it says, on a detached connection where the server lets it."""

    def __init__(self, hub: Hub, *, write_limit_bytes: int) -> None:
        self._hub = hub
        self._rules = Rules(FRAME_LIMIT_BYTES, inf, 1_000_000)
        self._board = Switchboard(
            hub,
            lambda *_: None,
            linger_seconds=1,
            conversation=self,
            write_limit_bytes=write_limit_bytes,
            frame_limit_bytes=FRAME_LIMIT_BYTES,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            return
        websocket = WebSocket(scope, receive, send)
        await websocket.accept()
        if (extension := scope["extensions"].get(HAND_OVER)) is None:
            await _echo(websocket)
            return
        try:
            handed = extension["hand_over"]()
        except ConnectionResetError:
            return  # The client is gone already.
        socket = self._board.connect(handed)
        session = Session(secrets.token_hex(16), _ANYBODY, (), socket)
        self._hub.register(session, None)
        socket.begin(session, handed.messages)

    def allowance(self) -> Allowance:
        """As much as anybody wants to say."""
        return Allowance(self._rules)

    def receive(self, session: Session, message: str | bytes) -> None:
        """Say it back: compressed, where notifications are."""
        frame = Binary(message) if isinstance(message, bytes) else Text(message.encode())
        if isinstance(session.outlet, DeflatedSocket):
            frame.wire = frame.deflated
        session.outlet.answer(frame)


async def _echo(websocket: WebSocket) -> None:
    """The same through ASGI."""
    try:
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})
    except (WebSocketDisconnect, RuntimeError):
        return  # It has closed, or was told to.
