"""What a session that has left ASGI does by itself: pings, floods, and compression."""

import asyncio
import json
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.frames import Frame, Opcode

from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, bare, complaints, eventually, session, sessions_of
from tests.service.conftest import StartReplica
from tests.service.raw import RawClient, compressed, control, fragments, raw_client, text
from tests.service.test_slow_clients import is_forgotten
from tests.tokens import bearer, token

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
BOMBS = 3_000


@pytest.fixture(scope="module")
def deflating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """A replica that offers compression, with a fast heartbeat."""
    log_path = tmp_path_factory.mktemp("deflating") / "replica.log"
    settings = {"NOTIFIER_SESSIONS__DEFLATE": "true", "NOTIFIER_SESSIONS__HEARTBEAT_SECONDS": "0.5"}
    replica = Replica(log_path, settings)
    yield replica
    replica.stop()
    assert complaints(log_path) == []


def credentials(user: str) -> str:
    return f"Authorization: Bearer {token(user)}"


async def broadcast(replica: Replica, title: str) -> None:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
        answer = await backend.post("/notify", json={"to": {"everyone": True}, "type": "t", "title": title})
        assert answer.status_code == 202


async def test_a_heartbeat_and_a_ping_come_in_one_write(deflating: Replica) -> None:
    async with raw_client(deflating, headers=[credentials("beat")]) as client:
        await client.message()
        chunk = await client.chunk()

    assert b'{"type":"heartbeat"' in chunk
    assert chunk.endswith(b"\x89\x00")


# -- slow, or frozen -------------------------------------------------------------------------------------------------


@contextmanager
def slow_client(replica: Replica, user: str) -> Iterator[socket.socket]:
    """A session whose client takes from the network what is read by `sock_recv`, and says nothing, not even pongs."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_448)  # As beyond loopback: a window has room for it.
        client.connect(("127.0.0.1", replica.port))
        client.setblocking(False)
        head = ["GET /ws HTTP/1.1", "Host: here", "Upgrade: websocket", "Connection: Upgrade", credentials(user)]
        head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {'A' * 22}==", f"Sec-WebSocket-Protocol: {PROTOCOL}"]
        client.send("\r\n".join([*head, "", ""]).encode())
        yield client


async def test_a_slow_client_is_not_taken_for_a_silent_one_until_it_freezes(start_replica: StartReplica) -> None:
    """T-30: our pings wait in the kernel, behind what the client has not taken yet. Checklist 3.1.12."""
    # The kernel counts from when it first found no room, also for a client that takes something now and then.
    user_timeout_seconds = 10
    replica = start_replica(
        SESSIONS__HEARTBEAT_SECONDS="1",
        SESSIONS__STALL_TIMEOUT_SECONDS="1",
        HTTP__TCP_USER_TIMEOUT_MILLISECONDS=str(user_timeout_seconds * 1_000),
    )
    waiting = {"to": {"users": ["slow"]}, "type": "t", "title": "x", "data": {"pad": "x" * 30_000}}
    loop = asyncio.get_running_loop()

    async def states() -> list[str]:
        return [each["state"] for each in await sessions_of(replica.operations_url, "slow")]

    async def is_open() -> bool:
        return await states() == ["live"]

    async def is_closed() -> bool:
        return await states() == []

    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
        with slow_client(replica, "slow") as client:
            await eventually(is_open)
            for _ in range(2):
                assert (await backend.post("/notify", json=waiting)).status_code == 202
            began = loop.time()
            while loop.time() < began + 3.5:  # Nearly twice what silence may last.
                await loop.sock_recv(client, 1_024)
                await asyncio.sleep(0.1)  # The pace of its line.
            while_slow = await states()
            frozen_at = loop.time()
            await eventually(is_closed)
            seconds = loop.time() - frozen_at
            await eventually(lambda: is_forgotten(replica, client.getsockname()[1]), user_timeout_seconds + 5)

    assert while_slow == ["live"]
    assert seconds <= 2 + 5
    (closed,) = [each for each in replica.log_lines() if each["event"] == "session closed"]
    assert (closed["code"], closed["reason"]) == (1011, "keepalive ping timeout")


# -- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flood",
    [
        [control(Opcode.PING)],
        [control(Opcode.PONG)],
        [text(type="nonsense")],
    ],
    ids=["pings", "pongs", "messages"],
)
async def test_a_flood_of_any_frames_is_cut(replica: Replica, flood: list[bytes]) -> None:
    async with raw_client(replica, headers=[credentials("flood")]) as client:
        await client.message()
        client.send(*flood * 2_000)

        assert await client.close_code() == 4002


async def test_endless_empty_fragments_are_cut(replica: Replica) -> None:
    """Checklist 2.1."""
    first, *_ = fragments(b"{", b"}")
    async with raw_client(replica, headers=[credentials("fragments")]) as client:
        await client.message()
        client.send(first, *[control(Opcode.CONT)] * 2_000)

        assert await client.close_code() == 4002


async def test_frames_in_one_segment_with_auth_count_as_well(replica: Replica) -> None:
    async with raw_client(replica) as client:
        client.send(text(type="auth", token=token("eager")), *[text(type="ping")] * 90)
        await client.message()
        client.send(*[text(type="ping")] * 60)

        assert await client.close_code() == 4002


@pytest.mark.parametrize(
    "flood",
    [
        [text(type="ping")] * 2_000,
        [control(Opcode.PING)] * 2_000,
        [control(Opcode.PONG)] * 2_000,
        [fragments(b"{", b"}")[0], *[control(Opcode.CONT)] * 2_000],
    ],
    ids=["messages", "pings", "pongs", "fragments"],
)
async def test_a_flood_of_somebody_without_a_token_is_cut(replica: Replica, flood: list[bytes]) -> None:
    """Checklist 3.1.6."""
    async with raw_client(replica) as client:
        client.send(*flood)

        await client.lost()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x02{}", 1002),
        (b"\xf1\x80\x00\x00\x00\x00", 1002),
        (b"\x81\xff" + (2**63 - 1).to_bytes(8, "big") + b"\x00" * 4, 1009),
        (control(Opcode.CONT), 1002),
        (Frame(Opcode.CLOSE, b"\x00").serialize(mask=True), 1002),
        (Frame(Opcode.TEXT, b"\xff").serialize(mask=True), 1007),
    ],
    ids=["not masked", "reserved bits", "vast", "continues nothing", "half a code", "no UTF-8"],
)
async def test_what_breaks_the_protocol_is_told_so(replica: Replica, frame: bytes, code: int) -> None:
    async with raw_client(replica, headers=[credentials("wrong")]) as client:
        await client.message()
        client.send(frame, text(type="ping"))

        assert await client.close_code() == code


# -- compression -----------------------------------------------------------------------------------------------------


async def test_without_the_setting_compression_is_declined(replica: Replica) -> None:
    """Checklist 2.2."""
    async with raw_client(replica, headers=[credentials("plain"), DEFLATE]) as client:
        assert "permessage-deflate" not in client.head.lower()


async def test_a_client_that_wants_a_smaller_window_is_served_without_compression(deflating: Replica) -> None:
    """The one compressed frame that all share would not fit it."""
    small = f"{DEFLATE}; server_max_window_bits=10"
    async with raw_client(deflating, headers=[credentials("small"), small]) as client:
        assert "permessage-deflate" not in client.head.lower()


async def test_everybody_gets_the_same_compressed_frame(deflating: Replica) -> None:
    async with (
        raw_client(deflating, headers=[credentials("first"), DEFLATE]) as first,
        raw_client(deflating, headers=[credentials("second"), DEFLATE]) as second,
        raw_client(deflating, headers=[credentials("third")]) as plain,
    ):
        for client in (first, second, plain):
            await client.message()
        await broadcast(deflating, "squeeze " * 500)
        mine, hers = [await compressed_message(client) for client in (first, second)]
        while (message := await plain.message())["type"] != "notification":
            pass

    assert "server_no_context_takeover; client_no_context_takeover" in first.head
    assert mine == hers
    inflated = zlib.decompressobj(wbits=-15).decompress(mine + b"\x00\x00\xff\xff")
    assert json.loads(inflated) == message
    assert len(mine) * 10 < len(inflated)


async def compressed_message(client: RawClient) -> bytes:
    while True:
        frame = await client.frame()
        if client.is_compressed:
            return bytes(frame.data)


async def test_a_client_that_compresses_is_understood(deflating: Replica) -> None:
    async with session(deflating.ws_url, "talker") as client:
        await client.say(type="ping", ref="y" * 100)
        pong = await client.frame("pong")
        await broadcast(deflating, "small")
        await broadcast(deflating, "large " * 1_000)
        titles = [(await client.notification())["title"] for _ in range(2)]

    assert pong["ref"] == "y" * 100
    assert titles == ["small", "large " * 1_000]


async def test_compression_holds_also_for_a_session_that_authenticates_by_its_first_frame(deflating: Replica) -> None:
    async with bare(deflating.ws_url) as late:
        await late.connection.send(json.dumps({"type": "auth", "token": token("late")}))
        await late.frame("welcome")
        await broadcast(deflating, "long " * 200)

        assert (await Client(late.connection).notification())["title"] == "long " * 200


async def test_a_bomb_is_refused_before_it_is_inflated(deflating: Replica) -> None:
    """One of 16 MiB, and thousands of 16 KiB in few bytes: neither takes memory that counts. Checklist 2.1."""
    before = resident_bytes(deflating)
    async with raw_client(deflating, headers=[credentials("bomb"), DEFLATE]) as client:
        await client.message()
        client.send(compressed(b"x" * 16 * 1024 * 1024))
        single = await client.close_code()
    async with raw_client(deflating, headers=[credentials("bombs"), DEFLATE]) as client:
        await client.message()
        client.send(compressed(b"x" * 16 * 1024) * BOMBS)
        many = await client.close_code()

    assert (single, many) == (1009, 4400)
    assert resident_bytes(deflating) - before < 8 * 1024 * 1024


def resident_bytes(replica: Replica) -> int:
    return int(Path(f"/proc/{replica.process.pid}/statm").read_text().split()[1]) * 4_096


async def test_bombs_of_somebody_without_a_token_take_no_memory_that_counts(deflating: Replica) -> None:
    before = resident_bytes(deflating)
    for _ in range(5):
        async with raw_client(deflating, headers=[DEFLATE]) as client:
            client.send(compressed(b"x" * 16_000) * BOMBS)
            await client.lost()

    assert resident_bytes(deflating) - before < 16 * 1024 * 1024


async def test_idle_compressed_sessions_answer_pings_and_stay(deflating: Replica) -> None:
    """Checklist 2.1."""
    async with session(deflating.ws_url, "idle") as client:
        for _ in range(4):
            await client.frame("heartbeat")

        assert await client.drained() == []
