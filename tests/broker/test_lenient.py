"""Content headers that the library cannot decode, rewritten so that it can."""

import asyncio
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import constants, frame
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from notifier.broker.lenient import UNDECODABLE, RewritingReader
from tests.broker.builders import nested, short, table, time

CHANNEL = 7


def framed(payload: bytes, kind: int = constants.FRAME_HEADER) -> bytes:
    return struct.pack(">BHI", kind, CHANNEL, len(payload)) + payload + constants.FRAME_END_CHAR


def content_header(*properties: tuple[str, bytes], more_flags: int = 0) -> bytes:
    """The frame of a content header with these properties, in the order of the protocol."""
    flags = sum(Basic.Properties.flags[name] for name, _ in properties) | more_flags
    return framed(struct.pack(">HHQH", 60, 0, 12_345, flags) + b"".join(raw for _, raw in properties))


async def read(raw: bytes) -> bytes:
    """What comes out, asked for in the portions that aiormq asks for."""
    inner = asyncio.StreamReader()
    inner.feed_data(raw)
    inner.feed_eof()
    reader, out = RewritingReader(inner), b""
    while not reader.at_eof():
        start = await reader.readexactly(1)
        start += await reader.readexactly(6)
        out += start + await reader.readexactly(frame.frame_parts(start)[2] + 1)  # type: ignore[operator]
    return out


async def decoded(raw: bytes) -> ContentHeader:
    """The content header that the library makes of it."""
    _, channel, header = frame.unmarshal(await read(raw))
    assert (channel, type(header)) == (CHANNEL, ContentHeader)
    assert isinstance(header, ContentHeader)
    return header


ID = ("message_id", short(b"m-1"))
BAD_TIME = ("timestamp", time(2**64 - 1))


async def test_what_can_be_decoded_passes_as_it_is() -> None:
    header = content_header(("content_type", short(b"application/json")), ("headers", table(short(b"k") + b"V")), ID)
    body = frame.marshal(ContentBody(b"\x02" * 20), CHANNEL)
    method = frame.marshal(Basic.Ack(1), CHANNEL)

    assert await read(method + header + body + framed(b"", 8) + header) == (
        method + header + body + framed(b"", 8) + header
    )


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ([ID, ("timestamp", time(1_795_000_000_000_000))], "timestamp: year 58851 is out of range"),
        ([ID, BAD_TIME], "timestamp: "),
        ([("content_type", short(b"\xff\xfe")), ID], "content_type: 'utf-8' codec"),
        ([("headers", table(short(b"\xff") + b"V")), ID], "headers: 'utf-8' codec"),
        ([("headers", table(short(b"k") + b"T" + time(2**64 - 1))), ID], "headers: year"),
        ([("headers", table(short(b"k") + b"Z")), ID], "headers: Unknown type"),
        ([("headers", nested(1_000)), ID], "headers: maximum recursion depth"),
    ],
)
async def test_the_rest_of_a_message_is_kept(properties: list[tuple[str, bytes]], reason: str) -> None:
    header = await decoded(content_header(*properties))

    assert (header.body_size, header.properties.message_id) == (12_345, "m-1")
    assert header.properties.headers is not None
    assert str(header.properties.headers[UNDECODABLE]).startswith(reason)
    assert (header.properties.timestamp, header.properties.content_type) == (None, None)


async def test_headers_that_can_be_decoded_stay_beside_the_reason() -> None:
    header = await decoded(content_header(("headers", table(short(b"x-death") + b"t\x01")), ID, BAD_TIME))

    assert header.properties.headers is not None
    assert header.properties.headers["x-death"] is True
    assert header.properties.headers.keys() == {"x-death", UNDECODABLE}


@pytest.mark.parametrize("levels", range(470, 500))
async def test_nesting_near_the_limit_is_decided_once(levels: int) -> None:
    """What passes here must pass there, though a part needs less of the stack than the whole."""
    header = await decoded(content_header(("headers", nested(levels)), ID, BAD_TIME))

    assert header.properties.message_id == "m-1"


@given(
    flags=st.integers(0, 0xFFFF),
    raw=st.binary(max_size=200),
    headers=st.binary(max_size=60),
)
async def test_whatever_comes_can_be_decoded_afterwards(flags: int, raw: bytes, headers: bytes) -> None:
    start = struct.pack(">HHQH", 60, 0, 5, flags)

    for payload in (start + raw, start + table(headers) + raw):
        assert (await decoded(framed(payload))).body_size == 5
