"""RFC 6455 to the letter, on both paths: what Autobahn's suite asks (`make conform`), in the few cases that go wrong.

The echo of `notifier conform-target` stands where a conversation would.
"""

import asyncio
import os
import random
import struct
from collections.abc import Iterator

import pytest
from websockets.frames import Frame, Opcode

from tests.service.echo import Target, echo_target
from tests.service.raw import RawClient, control, frame, raw_client

IS_FULL = os.environ.get("NOTIFIER_TEST_FULL") == "1"
FUZZED_FRAMES = 1_000_000 if IS_FULL else 12_000
A_CONNECTION = 60  # Frames that one connection is sent at most; most end it sooner.
VALID_CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
INVALID_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
EURO = "€".encode()


@pytest.fixture(scope="module", params=["detached", "ordinary"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An echo server, for all tests of the module."""
    with echo_target(tmp_path_factory.mktemp("target") / "target.log", "--path", request.param) as target:
        yield target


def text(*parts: bytes) -> list[bytes]:
    """One text message, in so many fragments."""
    opcodes = [Opcode.TEXT, *[Opcode.CONT] * (len(parts) - 1)]
    return [
        frame(opcode, part, fin=number == len(parts))
        for number, (opcode, part) in enumerate(zip(opcodes, parts, strict=True), 1)
    ]


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(Opcode.CLOSE, struct.pack("!H", code) + reason)


async def heard(client: RawClient, count: int) -> list[tuple[Opcode, bytes]]:
    """The next frames."""
    frames = [await client.frame() for _ in range(count)]
    return [(each.opcode, bytes(each.data)) for each in frames]


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
async def test_messages_of_any_size_come_back(target: Target, size: int) -> None:
    """RFC 6455, 5.2: each of the three lengths."""
    async with raw_client(target) as client:
        client.send(frame(Opcode.TEXT, b"*" * size), frame(Opcode.BINARY, b"\xfe" * size))

        assert await heard(client, 2) == [(Opcode.TEXT, b"*" * size), (Opcode.BINARY, b"\xfe" * size)]


async def test_fragments_are_one_message_whatever_stands_between(target: Target) -> None:
    """RFC 6455, 5.4; the pong comes at once, not behind the message."""
    first, second, third, last = text(b"a", b"", b"b", b"c")
    async with raw_client(target) as client:
        client.send(first, frame(Opcode.PING, b"now"), second, frame(Opcode.PONG, b"unasked"), third, last)

        assert await heard(client, 2) == [(Opcode.PONG, b"now"), (Opcode.TEXT, b"abc")]


async def test_frames_that_come_byte_by_byte_are_read(target: Target) -> None:
    async with raw_client(target) as client:
        for byte in b"".join([frame(Opcode.PING, b"p"), *text(b"a", EURO)]):
            client.send(bytes([byte]))
            await asyncio.sleep(0)  # A turn for each, so that they leave one by one.

        assert await heard(client, 2) == [(Opcode.PONG, b"p"), (Opcode.TEXT, b"a" + EURO)]


async def test_text_that_is_cut_within_a_character_is_read(target: Target) -> None:
    """RFC 6455, 5.6: a fragment need not be UTF-8 by itself."""
    async with raw_client(target) as client:
        client.send(*text(EURO[:1], b"", EURO[1:2], EURO[2:] + b"!"))

        assert await heard(client, 1) == [(Opcode.TEXT, EURO + b"!")]


@pytest.mark.parametrize(
    "bad",
    [
        [frame(Opcode.TEXT, b"\xff")],
        [frame(Opcode.TEXT, EURO[:2])],
        [frame(Opcode.TEXT, b"\xed\xa0\x80")],
        [frame(Opcode.TEXT, b"\xf4\x90\x80\x80")],
        text(b"good", b"bad \xc0\xaf", b"never read")[:2],
        text(EURO[:1], b"\xff", b"never read")[:2],
        text(EURO[:1], b""),
        [frame(Opcode.CLOSE, b"\x03\xe8\xff")],
    ],
    ids=["no lead", "cut", "surrogate", "over U+10FFFF", "in a fragment", "across", "cut at the end", "reason"],
)
async def test_what_is_no_utf_8_fails_as_soon_as_it_shows(target: Target, bad: list[bytes]) -> None:
    """RFC 6455, 8.1: with the frame, not with a message that may never end."""
    async with raw_client(target) as client:
        client.send(*bad)

        assert await client.close_code() == 1007


# -- what breaks the protocol ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        frame(Opcode.TEXT, b"x", rsv1=True),
        frame(Opcode.TEXT, b"x", rsv2=True),
        frame(Opcode.PING, b"x", rsv3=True),
        *[bytes([0x80 | opcode, 0x80, 0, 0, 0, 0]) for opcode in (3, 7, 0xB, 0xF)],
        Frame(Opcode.TEXT, b"x").serialize(mask=False),
        frame(Opcode.PING, b"x" * 126),
        frame(Opcode.PING, b"x", fin=False),
        frame(Opcode.CLOSE, b"\x03"),
        frame(Opcode.CONT, b"x"),
        frame(Opcode.TEXT, b"x", fin=False) + frame(Opcode.TEXT, b"y"),
        *map(close, INVALID_CODES),
    ],
    ids=lambda wrong: f"{wrong[0]:08b} {wrong[1] & 0x7F}",
)
async def test_what_breaks_the_protocol_fails_the_connection(target: Target, wrong: bytes) -> None:
    """RFC 6455, 5.1, 5.2, 5.4, 5.5 and 7.4: bits, opcodes, masks, control frames, order, codes. Also T-36.

    Checklist 2.1.
    """
    async with raw_client(target) as client:
        client.send(wrong, frame(Opcode.TEXT, b"never answered"))

        assert await client.close_code() == 1002


@pytest.mark.parametrize("length", [33 * 1024 * 1024, 2**63 - 1])
async def test_a_length_over_the_limit_is_told_before_its_data_comes(target: Target, length: int) -> None:
    """T-36."""
    async with raw_client(target) as client:
        client.send(b"\x82\xff" + length.to_bytes(8, "big") + b"mask")

        assert await client.close_code() == 1009


async def test_a_length_that_begins_with_a_one_is_refused(target: Target) -> None:
    """RFC 6455, 5.2: the most significant bit must be 0."""
    async with raw_client(target) as client:
        client.send(b"\x82\xff" + (2**63).to_bytes(8, "big") + b"mask")

        assert await client.close_code() in (1002, 1009)


# -- closing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", VALID_CODES)
async def test_a_close_is_answered_with_its_own_code(target: Target, code: int) -> None:
    async with raw_client(target) as client:
        client.send(close(code, b"r" * 123), frame(Opcode.TEXT, b"never answered"))

        assert await client.close_code() == code


async def test_a_close_without_a_code_is_answered(target: Target) -> None:
    async with raw_client(target) as client:
        client.send(frame(Opcode.CLOSE))

        assert await heard(client, 1) == [(Opcode.CLOSE, b"")]
        await client.lost()


async def test_a_close_in_the_middle_of_a_message_is_a_close(target: Target) -> None:
    """RFC 6455, 5.4: any control frame may stand there; the library takes it for a violation."""
    async with raw_client(target) as client:
        client.send(text(b"a", b"b")[0], close(1000))

        assert await client.close_code() == 1000


async def test_what_was_said_before_a_close_comes_before_its_answer(target: Target) -> None:
    async with raw_client(target) as client:
        client.send(frame(Opcode.PING, b"p"))
        said = await heard(client, 1)
        client.send(frame(Opcode.TEXT, b"last"))
        said += await heard(client, 1)
        client.send(close(1000))

        assert [*said, *await heard(client, 1)] == [
            (Opcode.PONG, b"p"),
            (Opcode.TEXT, b"last"),
            (Opcode.CLOSE, b"\x03\xe8"),
        ]


# -- anything --------------------------------------------------------------------------------------------------------


def anything(chance: random.Random) -> bytes:
    """A frame that is near enough to a good one to get deep."""
    data = chance.randbytes(chance.choice((0, 1, 2, 5, 125, 126, 400)))
    if chance.random() < 0.01:
        return chance.randbytes(chance.randrange(1, 40))
    opcode = chance.choice((0, 0, 1, 1, 2, 9, 10)) if chance.random() < 0.97 else chance.randrange(16)
    first = (
        opcode | (0x80 if chance.random() < 0.8 else 0) | (chance.randrange(8) << 4 if chance.random() < 0.02 else 0)
    )
    if opcode == Opcode.TEXT and chance.random() < 0.9:
        data = data.hex().encode()
    size = len(data) if chance.random() < 0.99 else chance.randrange(200)
    head = bytes([first, 0x80 | size]) if size < 126 else struct.pack("!BBH", first, 0xFE, size)
    mask = chance.randbytes(4)
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


@pytest.mark.timeout(3_600 if IS_FULL else 120)
async def test_no_row_of_random_frames_does_any_harm(target: Target) -> None:
    """T-39: the target logs no error (its fixture looks), loses no descriptor, and echoes on."""
    chance = random.Random(20_261_126)
    before = target.open_files()

    async def send_some() -> None:
        async with raw_client(target) as client:
            client.send(*[anything(chance) for _ in range(A_CONNECTION)], control(Opcode.CLOSE, b"\x03\xe8"))
            client.end()  # A length that promised too much has swallowed the close.
            await client.lost()

    for _ in range(FUZZED_FRAMES // A_CONNECTION // 10):
        await asyncio.gather(*[send_some() for _ in range(10)])

    async with raw_client(target) as client:
        client.send(frame(Opcode.TEXT, b"well"))
        assert await heard(client, 1) == [(Opcode.TEXT, b"well")]
    async with asyncio.timeout(10):
        while target.open_files() > before:  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)
