"""T-72: requests that two servers might read in two ways, directly and behind a real nginx.

Each holds another request, `GET /smuggled`. Nobody may take that for a request of its own: the answer is an error, or
the one answer to the whole; and those who come next on the same connections get their own answers.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from websockets.frames import Opcode

from tests.nginx import nginx
from tests.replica import Replica
from tests.service.client import PROTOCOL, complaints, session
from tests.service.conftest import StartReplica
from tests.service.raw import control
from tests.tokens import bearer, token

WITHIN_SECONDS = 0.3  # For an answer that may never come: silence is no request taken either.
BODY = b'{"to":{"users":["a"]},"type":"t","title":"x"}'
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
LENGTH = b"Content-Length: %d" % len(BODY)
CODING = b"Transfer-Encoding: chunked"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A request to send, with these headers besides."""
    authorization = f"Authorization: {bearer()['Authorization']}".encode()
    first = [b"POST /notify HTTP/" + version, b"Host: x", authorization, b"Content-Type: application/json"]
    return b"\r\n".join([*first, *lines, b"", b""]) + body


def length_of(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


# What is refused by us, and by what rule of RFC 9112.
CORPUS: dict[str, Sequence[bytes]] = {
    # 6.3: two framings.
    "CL.TE": [post(length_of(CHUNKED + SMUGGLED), CODING, body=CHUNKED + SMUGGLED)],
    "TE.CL": [post(b"Content-Length: 4", CODING, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED))],
    "CL.CL": [post(b"Content-Length: 0", length_of(SMUGGLED), body=SMUGGLED)],
    "the same length twice": [post(LENGTH, LENGTH, body=BODY + SMUGGLED)],
    "a list of lengths": [post(LENGTH + b", " + LENGTH.split()[1], body=BODY + SMUGGLED)],
    "a signed length": [post(b"Content-Length: +0", body=SMUGGLED)],
    "a negative length": [post(b"Content-Length: -1", body=SMUGGLED)],
    "a length in hex": [post(b"Content-Length: 0x24", body=SMUGGLED)],
    "a space in a length": [post(b"Content-Length: 3 6", body=SMUGGLED)],
    # 6.1: codings.
    "TE.TE": [post(CODING, b"Transfer-Encoding: identity", body=CHUNKED + SMUGGLED)],
    "an unknown coding": [post(b"Transfer-Encoding: xchunked", length_of(SMUGGLED), body=SMUGGLED)],
    "chunked is not the last": [post(b"Transfer-Encoding: chunked, identity", body=CHUNKED + SMUGGLED)],
    "chunked is not the first": [post(b"Transfer-Encoding: gzip, chunked", body=CHUNKED + SMUGGLED)],
    "a vertical tab before it": [post(b"Transfer-Encoding: \x0bchunked", length_of(SMUGGLED), body=SMUGGLED)],
    "chunked in HTTP/1.0": [post(CODING, body=CHUNKED + SMUGGLED, version=b"1.0")],
    # 7.1: chunks.
    "no size": [post(CODING, body=b"zz\r\n" + SMUGGLED)],
    "a negative size": [post(CODING, body=b"-1\r\n" + SMUGGLED)],
    "a prefixed size": [post(CODING, body=b"0x0\r\n\r\n" + SMUGGLED)],
    "a size over 64 bits": [post(CODING, body=b"10000000000000000\r\n\r\n" + SMUGGLED)],
    "no line end behind a chunk": [post(CODING, body=b"2\r\n{}XX0\r\n\r\n" + SMUGGLED)],
    "bare line feeds between chunks": [post(CODING, body=CHUNKED.replace(b"\r\n", b"\n") + SMUGGLED)],
    "a bare line feed in an extension": [post(CODING, body=b"2;a\n{}\r\n0\r\n\r\n" + SMUGGLED)],
    # 5: fields.
    "obs-fold": [post(b"Transfer-Encoding:\r\n chunked", length_of(SMUGGLED), body=SMUGGLED)],
    "obs-fold of any field": [post(b"X-A: b\r\n c", length_of(SMUGGLED), body=SMUGGLED)],
    "a space before the colon": [post(b"Content-Length : 0", length_of(SMUGGLED), body=SMUGGLED)],
    "a bare carriage return": [post(b"X-A: b\rTransfer-Encoding: chunked", length_of(SMUGGLED), body=SMUGGLED)],
    "a zero byte": [post(b"X-A: b\x00c", length_of(SMUGGLED), body=SMUGGLED)],
    "no colon": [post(b"X-A", length_of(SMUGGLED), body=SMUGGLED)],
    "no name": [post(b": chunked", length_of(SMUGGLED), body=SMUGGLED)],
    "a space in a name": [post(b"Transfer Encoding: chunked", length_of(SMUGGLED), body=SMUGGLED)],
    # 3.2, and RFC 9110, 7.8.
    "two hosts": [post(b"Host: y", length_of(SMUGGLED), body=SMUGGLED)],
    "no host": [post(length_of(SMUGGLED), body=SMUGGLED).replace(b"Host: x\r\n", b"", 1)],
    "an upgrade with a body": [post(b"Connection: Upgrade", b"Upgrade: foo", length_of(SMUGGLED)), SMUGGLED],
    "a body in one segment": [post(b"Connection: Upgrade", b"Upgrade: foo", length_of(SMUGGLED), body=SMUGGLED)],
    "an upgrade in chunks": [
        post(b"Connection: Upgrade", b"Upgrade: foo", CODING),
        b"24\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    ],
    "h2c": [post(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", length_of(SMUGGLED)), SMUGGLED],
    "a WebSocket with a body": [post(b"Connection: Upgrade", b"Upgrade: websocket", length_of(SMUGGLED)), SMUGGLED],
}


@pytest.fixture(scope="module")
def proxied(replica: Replica, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx in front of the replica that passes upgrades on, and keeps its connections."""
    with nginx(replica.port, tmp_path_factory.mktemp("nginx")) as port:
        yield port


async def answers(port: int, segments: Sequence[bytes]) -> list[int]:
    """The statuses of what comes back on one connection, until it ends or for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    try:
        async with asyncio.timeout(WITHIN_SECONDS):
            for segment in segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0.02)  # Another segment, and read before the next.
            while chunk := await reader.read(65_536):
                received += chunk
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def was_smuggled(replica: Replica) -> bool:
    return "/smuggled" in replica.log_path.read_text()


@pytest.mark.parametrize("case", CORPUS)
async def test_what_might_be_read_in_two_ways_is_refused(replica: Replica, case: str) -> None:
    """Checklist 3.3.26: the connection ends with the one answer."""
    statuses = await answers(replica.port, CORPUS[case])

    assert statuses in ([400], [405])
    assert not was_smuggled(replica)


async def test_behind_nginx_nothing_is_read_in_another_way(replica: Replica, proxied: int) -> None:
    """Checklist 3.3.26: all of the corpus at once, and then everybody gets their own answer."""
    outcomes = await asyncio.gather(*[answers(proxied, segments) for segments in CORPUS.values()])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{proxied}") as client:
        mine = [await client.get("/nothing", headers={"X-Request-Id": f"mine-{number}"}) for number in range(20)]

    # nginx answers what it does not understand as the bad request that follows a good one, or not at all.
    assert {status for statuses in outcomes for status in statuses} <= {202, 400, 404, 405, 411, 422, 501, 502}
    assert [answer.headers["x-request-id"] for answer in mine] == [f"mine-{number}" for number in range(20)]
    assert [answer.status_code for answer in mine] == [404] * 20


async def test_two_requests_in_one_segment_are_two(replica: Replica) -> None:
    """The control: the corpus would show a request that was taken."""
    once = b"GET /twice HTTP/1.1\r\nHost: x\r\n\r\n"

    assert await answers(replica.port, [once + once]) == [404, 404]


async def test_an_upgrade_that_nobody_speaks_is_ignored_and_ends_the_connection(replica: Replica) -> None:
    """Checklist 3.3.26: no h2c; the parser has lost its place behind such a head."""
    begun = b"GET /h2c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"

    assert await answers(replica.port, [begun, SMUGGLED]) == [404]


def upgrade(user: str) -> bytes:
    """A handshake that is let in."""
    lines = [
        "GET /ws HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {PROTOCOL}, bearer.{token(user)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_an_upgrade_behind_a_request_that_waits_for_its_answer_ends_the_connection(replica: Replica) -> None:
    """Two would own one connection: an answer would stand between frames, or a session outlive its connection."""
    stream = f"GET /events HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer('eager')['Authorization']}\r\n\r\n".encode()

    assert await answers(replica.port, [post(LENGTH, body=BODY) + upgrade("eager")]) == [202]
    assert await answers(replica.port, [stream + upgrade("eager")]) == [200]
    assert await answers(replica.port, [post(LENGTH, body=BODY) + stream + upgrade("eager")]) == [202, 200]
    async with session(replica.ws_url, "bystander") as bystander, httpx.AsyncClient(base_url=replica.url) as backend:
        everyone = {"to": {"users": ["eager", "bystander"]}, "type": "t", "title": "x"}
        assert (await backend.post("/notify", json=everyone, headers=bearer())).status_code == 202
        await bystander.notification()


async def test_frames_before_the_answer_end_the_connection(start_replica: StartReplica) -> None:
    """RFC 6455, 4.1: a pong before the 101 would be read as an answer, with what the client put into it."""
    replica = start_replica(LIMITS__HANDSHAKES="1/second")
    ping = control(Opcode.PING, b"HTTP/1.1 200 OK\r\n\r\n")
    request = upgrade("early")

    assert await answers(replica.port, [request + ping]) == [400]
    async with session(replica.ws_url, "early"):
        assert await answers(replica.port, [request, ping]) == []  # It waits for its turn.


def test_the_log_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here: what clients do wrong is no error of ours."""
    assert complaints(Path(replica.log_path)) == []
