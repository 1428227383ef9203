"""Connections that outlive a message whose properties cannot be decoded: it arrives as one that says so.

aiormq ends a connection over a content header that pamqp does not take: a timestamp in microseconds, a name that is no
UTF-8, tables in tables in tables. Everything in flight comes again then, and the attempt counts for all of it. Here the
header is rewritten on its way to the library, which stays as it is: what can be decoded is kept, and `UNDECODABLE`
says what was left out.
"""

import asyncio
import struct
from collections.abc import Iterator
from typing import Final

from pamqp import constants, decode, frame
from pamqp.commands import Basic
from yarl import URL

from notifier.broker.connection import Broker, Connection

UNDECODABLE: Final = "x-notifier-undecodable"
"""The header that a rewritten message has: which properties were left out, and why."""
_FRAME_START: Final = struct.Struct(">BHI")  # Type, channel, size of the payload.
_CONTENT_START: Final = struct.Struct(">HHQH")  # Class, weight, size of the body, flags of the properties.
_MORE_FLAGS: Final = 1
_REASON_CHARACTERS: Final = 200


class _LenientConnection(Connection):
    def __init__(self, url: URL, *, name: str) -> None:
        super().__init__(url, name=name)
        open_transport = self._transports.create

        async def create(url: URL, **kwargs: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            reader, writer = await open_transport(url, **kwargs)
            return RewritingReader(reader), writer

        self._transports.create = create  # type: ignore[method-assign]  # One instance, and ours.


class LenientBroker(Broker):
    """The same broker over connections that read everything."""

    connection_class = _LenientConnection

    @classmethod
    def of(cls, broker: Broker) -> "LenientBroker":
        """As reached by another."""
        lenient = cls.__new__(cls)
        lenient.__dict__.update(broker.__dict__)
        return lenient


class RewritingReader(asyncio.StreamReader):
    """Hands on what another reader has, but for the content headers that cannot be decoded."""

    def __init__(self, inner: asyncio.StreamReader) -> None:
        super().__init__()
        self._inner = inner
        self._rest = b""  # Of a content header that is being handed on.

    def at_eof(self) -> bool:
        return not self._rest and self._inner.at_eof()

    async def readexactly(self, n: int) -> bytes:
        if not self._rest:
            first = await self._inner.readexactly(n)
            if n != 1 or first[0] != constants.FRAME_HEADER:  # aiormq reads the type of a frame alone.
                return first
            self._rest = await self._content_header(first)
        given, self._rest = self._rest[:n], self._rest[n:]
        return given

    async def _content_header(self, first: bytes) -> bytes:
        start = first + await self._inner.readexactly(_FRAME_START.size - 1)
        _, channel, size = _FRAME_START.unpack(start)
        whole = start + await self._inner.readexactly(size + 1)
        return whole if _flaw(whole) is None else _rewritten(channel, whole[_FRAME_START.size : -1])


def _rewritten(channel: int, payload: bytes) -> bytes:
    """The content header without the properties that cannot be decoded, and with `UNDECODABLE`."""
    kept, flaws = _sort_out(payload)
    whole = _content_header(channel, _payload(payload, kept, flaws))
    if _flaw(whole) is not None:  # Tables so deep that they can be decoded alone, and inside of the whole cannot.
        kept.pop("headers", None)
        whole = _content_header(channel, _payload(payload, kept, [*flaws, "headers: nested too deeply"]))
    return whole


def _sort_out(payload: bytes) -> tuple[dict[str, bytes], list[str]]:
    """The properties that can be decoded, as they came, and what is wrong with the others."""
    kept: dict[str, bytes] = {}
    flaws: list[str] = []
    try:
        for name, raw in _properties(payload):
            if (flaw := _property_flaw(name, raw)) is None:
                kept[name] = raw
            else:
                flaws.append(f"{name}: {flaw}")
    except (struct.error, IndexError, ValueError):
        flaws.append("the rest is cut off")
    return kept, flaws


def _payload(payload: bytes, kept: dict[str, bytes], flaws: list[str]) -> bytes:
    reason = "; ".join(flaws)[:_REASON_CHARACTERS].encode("ascii", "replace")
    mark = _short(UNDECODABLE.encode()) + b"S" + _long(reason)
    properties = kept | {"headers": _long(kept.get("headers", _long(b""))[4:] + mark)}
    flags = sum(Basic.Properties.flags[name] for name in properties)
    class_id, weight, body_size, _ = _CONTENT_START.unpack_from(payload)
    start = _CONTENT_START.pack(class_id, weight, body_size, flags)
    return start + b"".join(properties[name] for name in Basic.Properties.__slots__ if name in properties)


def _properties(payload: bytes) -> Iterator[tuple[str, bytes]]:
    """Each property that is there, as it came."""
    *_, flags = _CONTENT_START.unpack_from(payload)
    if flags & _MORE_FLAGS:
        raise ValueError("there are no more properties than a word has flags")
    at = _CONTENT_START.size
    for name in Basic.Properties.__slots__:
        if flags & Basic.Properties.flags[name]:
            size = _size(Basic.Properties.amqp_type(name), payload, at)
            if at + size > len(payload):
                raise ValueError("the property is longer than the header")
            yield name, payload[at : at + size]
            at += size


def _size(amqp_type: str, payload: bytes, at: int) -> int:
    match amqp_type:
        case "shortstr":
            return 1 + payload[at]
        case "table":
            return 4 + int(struct.unpack_from(">I", payload, at)[0])
        case "timestamp":
            return 8
        case _:
            return 1


def _flaw(whole: bytes) -> str | None:
    """Why a frame cannot be decoded. At least as deep in the stack as aiormq does it, which counts for nesting."""
    try:
        frame.unmarshal(whole)
    except Exception as error:  # noqa: BLE001 - whatever it raises would end the connection
        return str(error) or type(error).__name__
    return None


def _property_flaw(name: str, raw: bytes) -> str | None:
    try:
        decode.by_type(raw, Basic.Properties.amqp_type(name))
    except Exception as error:  # noqa: BLE001 - as above
        return str(error) or type(error).__name__
    return None


def _content_header(channel: int, payload: bytes) -> bytes:
    return _FRAME_START.pack(constants.FRAME_HEADER, channel, len(payload)) + payload + constants.FRAME_END_CHAR


def _short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def _long(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text
