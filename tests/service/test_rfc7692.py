"""RFC 7692 on both paths: what Autobahn's groups 12 and 13 ask (`make conform ARGS="12.* 13.*"`), in small.

The echo answers compressed on a detached connection as notifications go out: in a frame that anybody could be sent.
"""

import json
import random
from collections.abc import Iterator
from typing import Any, Final

import pytest
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Opcode

from tests.service.echo import Target, echo_target
from tests.service.raw import compressed, frame, raw_client

OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate"
SIZES: Final = (0, 1, 125, 126, 1_000, 65_535, 65_536, 131_072)
# What a client may ask for (7.1), but for a window of the server's below the largest: that is declined.
OFFERS: Final[list[dict[str, Any]]] = [
    {},
    {"client_max_window_bits": True},
    {"server_no_context_takeover": True},
    {"client_no_context_takeover": True, "client_max_window_bits": 9},
    {"server_max_window_bits": 15},
]
_CHANCE: Final = random.Random(7_692)
NOISE: Final = _CHANCE.randbytes(max(SIZES))
WORDS: Final = json.dumps([{"n": n, "title": "Grüße €"} for n in range(5_000)], ensure_ascii=False)


@pytest.fixture(scope="module", params=["detached", "ordinary"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An echo server that offers compression, for all tests of the module."""
    log_path = tmp_path_factory.mktemp("target") / "target.log"
    with echo_target(log_path, "--path", request.param, "--deflate") as target:
        yield target


@pytest.mark.parametrize("offer", OFFERS, ids=json.dumps)
async def test_compressed_messages_come_back_whatever_was_agreed_on(offer: dict[str, Any], target: Target) -> None:
    """7.2: text and what does not shrink, whole and in fragments; all in one session, where context would build up."""
    extensions = [ClientPerMessageDeflateFactory(**offer)]
    url = f"ws://127.0.0.1:{target.port}"
    async with connect(url, compression=None, extensions=extensions, max_size=None) as client:
        agreed = client.response.headers["Sec-WebSocket-Extensions"] if client.response else ""
        for size in SIZES:
            for message in (WORDS[:size], NOISE[:size]):
                await client.send(message)
                assert await client.recv() == message
                await client.send([message[:100], message[100:1_000], message[1_000:]])
                assert await client.recv() == message

    assert agreed.startswith("permessage-deflate; server_no_context_takeover; client_no_context_takeover")


async def test_what_shrinks_is_answered_compressed(target: Target) -> None:
    async with raw_client(target, headers=[OFFER]) as client:
        client.send(compressed(b"*" * 10_000))
        answer = await client.frame()

        assert client.is_compressed
        assert len(answer.data) < 100


@pytest.mark.parametrize(
    "wrong",
    [
        [frame(Opcode.PING, rsv1=True)],
        [frame(Opcode.TEXT, b"a", fin=False), frame(Opcode.CONT, rsv1=True)],
        [frame(Opcode.TEXT, b"a", rsv2=True)],
        [frame(Opcode.TEXT, b"no block of deflate", rsv1=True)],
    ],
    ids=["ping", "continuation", "another bit", "no deflate"],
)
async def test_a_bit_in_the_wrong_place_and_what_cannot_be_inflated_fail_the_connection(
    wrong: list[bytes], target: Target
) -> None:
    """6.1, 7.2.2: the bit is for the first frame of a message of data."""
    async with raw_client(target, headers=[OFFER]) as client:
        client.send(*wrong)

        assert await client.close_code() == 1002
