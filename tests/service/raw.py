"""A WebSocket client that decides byte by byte what it sends, and sees what came together."""

import asyncio
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from websockets.frames import Frame, Opcode

from tests.service.client import DEADLINE_SECONDS, PROTOCOL


class Reachable(Protocol):
    """A replica, or another server on loopback."""

    @property
    def port(self) -> int: ...


class RawClient:
    """One connection past its 101."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self._reader = reader
        self._writer = writer
        self._unread = bytearray()
        self.head = head
        self.is_compressed = False

    def send(self, *frames: bytes) -> None:
        """Send them in one segment."""
        self._writer.write(b"".join(frames))

    async def frame(self) -> Frame:
        """The next frame, whatever it is; a compressed one as it came, and `is_compressed` says so."""
        parsing = Frame.parse(self._read_exact, mask=False, extensions=[self])  # type: ignore[list-item]
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                try:
                    next(parsing)
                except StopIteration as parsed:
                    frame: Frame = parsed.value
                    return frame
                received = await self._reader.read(65_536)
                if not received:
                    raise EOFError
                self._unread += received

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """As the library asks of an extension."""
        self.is_compressed = frame.rsv1
        return Frame(frame.opcode, frame.data, frame.fin)

    async def message(self) -> dict[str, Any]:
        """The next text frame; what comes before is dropped."""
        while (frame := await self.frame()).opcode is not Opcode.TEXT:
            pass
        said: dict[str, Any] = json.loads(bytes(frame.data))
        return said

    async def kinds(self, count: int) -> list[Any]:
        """What the next text frames are."""
        return [(await self.message())["type"] for _ in range(count)]

    async def chunk(self) -> bytes:
        """What the next read brings."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.read(65_536)

    async def close_code(self) -> int:
        """The code of the close frame that comes, and then the end of the connection."""
        while (frame := await self.frame()).opcode is not Opcode.CLOSE:
            pass
        (code,) = struct.unpack_from("!H", frame.data)
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert await self._reader.read() == b""
        return int(code)

    async def lost(self) -> None:
        """Read until the server ends the connection, however it does."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            with suppress(ConnectionError):
                while await self._reader.read(65_536):
                    pass

    def end(self) -> None:
        """Say nothing more."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Reset the connection."""
        raw: socket.socket = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def _read_exact(self, size: int) -> Generator[None, None, bytes]:
        while len(self._unread) < size:
            yield
        read = bytes(self._unread[:size])
        del self._unread[:size]
        return read


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True, **reserved: bool) -> bytes:
    """A masked frame, whether it is allowed or not."""
    made = Frame(opcode, data, fin, **reserved)
    made.check = lambda: None  # type: ignore[method-assign]  # A client that goes wrong does not ask it.
    return made.serialize(mask=True)


def text(**message: Any) -> bytes:
    """A masked text frame."""
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


def control(opcode: Opcode, data: bytes = b"") -> bytes:
    """A masked control frame, or an empty fragment."""
    return Frame(opcode, data, fin=opcode is not Opcode.CONT).serialize(mask=True)


def compressed(data: bytes) -> bytes:
    """A masked text frame of a message that was compressed without context."""
    compressor = zlib.compressobj(9, wbits=-15)
    deflated = (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")
    head, *rest = Frame(Opcode.TEXT, deflated).serialize(mask=True)
    return bytes([head | 0x40, *rest])


def fragments(*parts: bytes) -> list[bytes]:
    """Masked fragments of one text message."""
    opcodes = [Opcode.TEXT, *[Opcode.CONT] * (len(parts) - 1)]
    numbered = enumerate(zip(opcodes, parts, strict=True), 1)
    return [Frame(opcode, part, fin=number == len(parts)).serialize(mask=True) for number, (opcode, part) in numbered]


@asynccontextmanager
async def raw_client(replica: Reachable, *, headers: Sequence[str] = (), query: str = "") -> AsyncIterator[RawClient]:
    """Connect, and read the head of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    lines = [
        f"GET /ws{query} HTTP/1.1",
        f"Host: 127.0.0.1:{replica.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Protocol: {PROTOCOL}",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 "), head
        yield RawClient(reader, writer, head)
    finally:
        writer.transport.abort()
