"""What a detached connection knows of its client: whether it takes anything, and whether it is heard."""

import asyncio
import time
from typing import Any, cast

from websockets.frames import Opcode
from websockets.protocol import SERVER, Protocol

from notifier.core.hub import Hub
from notifier.core.ports import CloseReason
from notifier.core.window import Window
from notifier.transports.conversation import Conversation
from notifier.transports.detached import DetachedSocket, Switchboard
from notifier.transports.encodings import Frame
from notifier.transports.frames import Frames
from notifier.transports.incoming import HandedOver
from tests.core.builders import at
from tests.service.raw import control, fragments, text


class Wire(asyncio.Transport):
    """A transport whose client takes as much as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unsent_bytes = 0
        self.written: list[bytes] = []
        self.is_closed = self.is_aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.unsent_bytes += len(data)
        self.written.append(data)

    def close(self) -> None:
        self.is_closed = True

    def resume_reading(self) -> None: ...

    def abort(self) -> None:
        self.is_aborted = True


class Deaf:
    """A conversation in which nothing is answered."""

    def allowance(self) -> "Deaf":
        return self

    def spend(self) -> None: ...

    def receive(self, *_: object) -> None: ...


class Losing(Deaf):
    """A conversation in which the hub finds that a session cannot go on."""

    socket: DetachedSocket

    def receive(self, *_: object) -> None:
        self.socket.close(CloseReason.FELL_BEHIND)


def connected(conversation: Deaf | None = None) -> tuple[DetachedSocket, Wire]:
    wire = Wire()
    hub = Hub(Window(at(0), opened_at_ms=0), Frames())
    board = Switchboard(
        hub,
        lambda *_: None,
        linger_seconds=1,
        write_limit_bytes=65_536,
        conversation=cast("Conversation", conversation or Deaf()),
        frame_limit_bytes=16_384,
    )
    handed = HandedOver(wire, Protocol(SERVER), messages=(), fragments=(), is_writable=True, connections=set())
    socket = board.connect(handed)
    socket._forget_protocol()
    return socket, wire


def test_a_client_that_takes_what_waits_is_alive_though_it_says_nothing() -> None:
    socket, wire = connected()
    socket.write(Frame(b"x" * 1_000))
    silent = socket.heard_at
    began = time.monotonic()
    wire.unsent_bytes -= 400

    assert silent < began <= socket.heard_at


def test_more_that_waits_is_no_sign_of_life() -> None:
    socket, _ = connected()
    socket.write(Frame(b"x" * 1_000))
    before = socket.heard_at
    socket.write(Frame(b"x" * 1_000))

    assert socket.heard_at == before


def test_no_parser_is_kept_between_messages() -> None:
    """It would take 4 KiB for each session; should the library wait elsewhere one day, this test says so."""
    socket, _ = connected()
    socket.session = cast("Any", None)
    ping = text(type="ping")
    kept = []
    for part in (ping, ping[:3], ping[3:], *fragments(b"{", b"}"), ping + ping):
        socket.data_received(part)
        kept.append(socket._protocol is not None)

    assert kept == [False, True, False, True, False, False]


async def test_a_session_that_is_lost_in_the_turn_of_its_clients_close_ends_quietly() -> None:
    losing = Losing()
    losing.socket, wire = connected(losing)
    losing.socket.session = cast("Any", None)

    losing.socket.data_received(text(type="ping") + control(Opcode.CLOSE, (1000).to_bytes(2, "big")))

    assert wire.written == [b"\x88\x02\x03\xe8"]
    assert wire.is_closed


def test_a_connection_whose_session_cannot_be_opened_is_cut() -> None:
    """It has left ASGI: nobody else would close it."""
    socket, wire = connected()
    socket.give_up()

    assert wire.is_aborted
    assert socket not in socket._connections
