"""The way in over WebSocket: where the token may stand, who is refused and how, and what the limits let through."""

import asyncio
import base64
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, complaints, eventually, refusal, session, sessions_of
from tests.service.conftest import StartReplica, on_both_paths
from tests.tokens import token

pytestmark = on_both_paths


@pytest.fixture(autouse=True)
def calm(tmp_path: Path) -> Iterator[None]:
    """No replica of a test's own may have logged an error by its end."""
    yield
    assert [complaint for log in tmp_path.glob("*.log") for complaint in complaints(log)] == []


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """A replica that takes `?token=`, waits briefly for a first frame, and lets a user have two sessions."""
    yield from configured(
        tmp_path_factory,
        module,
        SESSIONS__QUERY_TOKEN="true",
        SESSIONS__AUTH_TIMEOUT_SECONDS="0.3",
        SESSIONS__MAX_PER_USER="2",
    )


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """A replica for three sessions."""
    yield from configured(tmp_path_factory, module, SESSIONS__MAX_TOTAL="3")


@pytest.fixture(scope="module")
def replica_for_pages(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """A replica with a list of allowed origins."""
    yield from configured(tmp_path_factory, module, HTTP__ALLOWED_ORIGINS="https://example.com,https://*.example.com")


def configured(tmp_path_factory: pytest.TempPathFactory, module: str, **settings: str) -> Iterator[Replica]:
    log_path = tmp_path_factory.mktemp("configured") / "replica.log"
    replica = Replica(log_path, {f"NOTIFIER_{name}": value for name, value in settings.items()}, module=module)
    yield replica
    replica.stop()
    assert complaints(log_path) == []


def own_origin(replica: Replica) -> tuple[str, str]:
    return ("Origin", replica.url)


# -- where the token stands ------------------------------------------------------------------------------------------


async def test_a_token_in_the_subprotocol_is_taken_and_never_echoed(replica: Replica) -> None:
    """Checklist 3.1.4."""
    offered = ["bearer." + token("sub"), PROTOCOL]

    async with bare(replica.ws_url, subprotocols=offered) as client:
        welcome = await client.frame("welcome")

        assert welcome["user"] == "sub"
        assert client.connection.subprotocol == PROTOCOL
        assert client.connection.response is not None
        assert client.connection.response.headers.get_all("Sec-WebSocket-Protocol") == [PROTOCOL]


async def test_a_token_in_the_authorization_header_is_taken(replica: Replica) -> None:
    async with bare(replica.ws_url, headers=[("Authorization", f"bearer {token('header')}")]) as client:
        assert (await client.frame("welcome"))["user"] == "header"


async def test_a_first_auth_frame_brings_token_position_and_topics(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "first-frame") as before:
        position = before.welcome["position"]
    await backend.post("/notify", json={"to": {"topics": ["news.first"]}, "type": "t", "title": "missed"})

    async with bare(replica.ws_url) as client:
        await client.say(
            type="auth", token=token("first-frame", topics=["news.*"]), position=position, topics=["news.first"]
        )
        welcome = await client.frame("welcome")
        missed = await client.notification()

        assert (welcome["user"], welcome["topics"]) == ("first-frame", ["news.first"])
        assert welcome["resume"] == {"status": "resumed", "replayed": 1}
        assert missed["title"] == "missed"


async def test_a_token_in_the_query_counts_only_where_it_is_switched_on(replica: Replica, strict: Replica) -> None:
    """Checklist 3.1.4."""
    query = {"token": token("in-query")}

    async with bare(strict.ws_url, query=query) as client:
        assert (await client.frame("welcome"))["user"] == "in-query"
    async with bare(replica.ws_url, query=query) as client:
        await client.say(type="ping")

        assert await client.closed() == (4402, "auth_expected")


@pytest.mark.parametrize("length", [7_169, 7_900, 9_000, 60_000])
async def test_an_overlong_token_is_refused(replica: Replica, length: int) -> None:
    """Lines over 8 KiB are not even read as a request; all the same they get an answer and a closed connection.

    Checklist 3.1.4, 3.2.18.
    """
    status, problem, _ = await refusal(replica.ws_url, subprotocols=[PROTOCOL, "bearer." + "a" * length])

    assert (status, problem["code"]) == ((401, "token_invalid") if length < 8_000 else (431, "headers_too_large"))


async def test_an_overlong_token_in_a_first_frame_is_refused(replica: Replica) -> None:
    async with bare(replica.ws_url) as client:
        await client.say(type="auth", token="a" * 7_169)

        assert await client.closed() == (4402, "token_invalid")


async def test_who_sends_no_token_in_time_is_closed(strict: Replica) -> None:
    """Checklist 3.1.4."""
    async with bare(strict.ws_url) as client:
        assert await client.closed() == (4003, "auth_timeout")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ('{"type":"ping"}', (4402, "auth_expected")),
        ('{"type":"auth"}', (4402, "auth_expected")),
        ('{"type":"auth","token":7}', (4402, "auth_expected")),
        ('{"type":"auth","token":"a.b.c"}', (4402, "token_invalid")),
        ('{"type":"auth","token":"\\ud800.b.c"}', (4402, "token_invalid")),
        ('{"type":"auth","token":"x","topics":"news"}', (4400, "auth_frame_invalid")),
        ('{"type":"auth","token":"x","position":1}', (4400, "auth_frame_invalid")),
        ("[]", (4400, "not_an_object")),
        ("{", (4400, "not_json")),
        (b'{"type":"auth"}', (4400, "binary_frame")),
    ],
)
async def test_any_other_first_frame_is_refused(
    replica: Replica, first: str | bytes, expected: tuple[int, str]
) -> None:
    async with bare(replica.ws_url) as client:
        await client.connection.send(first)

        assert await client.closed() == expected


# -- how a refusal looks ---------------------------------------------------------------------------------------------


async def test_without_an_origin_a_refusal_is_a_problem_over_http(replica: Replica) -> None:
    """Checklist 3.1.5."""
    status, problem, headers = await refusal(replica.ws_url, subprotocols=[PROTOCOL, "bearer.a.b.c"])

    assert status == 401
    assert headers["www-authenticate"] == 'Bearer realm="notifier", error="invalid_token"'
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()
    assert problem["code"] == "token_invalid"


async def test_an_expired_token_is_told_apart_by_code(replica: Replica) -> None:
    stale = token("late", extra={"iat": 1_700_000_000, "exp": 1_700_003_600})

    status, problem, _ = await refusal(replica.ws_url, headers=[("Authorization", f"Bearer {stale}")])
    async with bare(
        replica.ws_url, subprotocols=[PROTOCOL, f"bearer.{stale}"], headers=[own_origin(replica)]
    ) as browser:
        closed = await browser.closed()

    assert (status, problem["code"]) == (401, "token_expired")
    assert closed == (4401, "token_expired")


async def test_a_browser_is_accepted_to_hear_why_it_is_refused(replica: Replica) -> None:
    """Checklist 3.1.5."""
    offered = [PROTOCOL, "bearer.a.b.c"]

    async with bare(replica.ws_url, subprotocols=offered, headers=[own_origin(replica)]) as browser:
        assert browser.connection.subprotocol == PROTOCOL
        assert await browser.rest() == ([], 4402, "token_invalid")


@pytest.mark.parametrize(
    "origins",
    [
        ["https://foreign.test"],
        ["https://evil-example.com"],
        ["https://example.com.evil.test"],
        ["https://deep.app.example.com"],
        ["http://app.example.com"],
        ["https://app.example.com:444"],
        ["null"],
        [""],
        ["https://app.example.com", "https://evil.test"],
        ["https://app.example.com", "https://app.example.com"],
    ],
)
async def test_a_page_of_another_origin_is_refused_over_plain_http(
    replica_for_pages: Replica, origins: list[str]
) -> None:
    """Checklist 3.1.2."""
    offered = [PROTOCOL, f"bearer.{token('page')}"]

    status, problem, _ = await refusal(
        replica_for_pages.ws_url, subprotocols=offered, headers=[("Origin", origin) for origin in origins]
    )

    assert (status, problem["code"]) == (403, "origin_forbidden")


@pytest.mark.parametrize("origin", ["https://app.example.com", "https://APP.example.com:443", "https://example.com"])
async def test_a_page_of_an_allowed_origin_is_let_in(replica_for_pages: Replica, origin: str) -> None:
    async with session(replica_for_pages.ws_url, "page", origin=origin) as client:
        assert client.welcome["user"] == "page"


@pytest.mark.parametrize("offered", [[], ["chat"], ["notifier.v2", "bearer.a.b.c"]])
async def test_a_socket_without_our_subprotocol_is_told_to_upgrade(replica: Replica, offered: list[str]) -> None:
    status, problem, _ = await refusal(replica.ws_url, subprotocols=offered, headers=[own_origin(replica)])

    assert (status, problem["code"]) == (426, "subprotocol_required")


async def test_a_plain_get_is_told_to_upgrade(replica: Replica) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.get(f"{replica.url}/ws")

    assert answer.status_code == 426
    assert answer.headers["upgrade"] == "websocket"
    assert answer.json()["code"] == "upgrade_required"


# -- limits ----------------------------------------------------------------------------------------------------------


async def test_a_user_has_no_more_sessions_than_the_limit_and_a_closed_one_is_free_again(
    strict: Replica,
) -> None:
    """T-41. Checklist 3.1.7."""
    offered = [PROTOCOL, f"bearer.{token('alice')}"]

    async with session(strict.ws_url), session(strict.ws_url) as second:
        status, problem, headers = await refusal(strict.ws_url, subprotocols=offered)
        async with bare(strict.ws_url, subprotocols=offered, headers=[own_origin(strict)]) as browser:
            assert await browser.closed() == (4004, "too_many_sessions")
        async with session(strict.ws_url, "bob"):
            pass
        assert (status, problem["code"]) == (429, "too_many_sessions")
        assert int(headers["retry-after"]) > 0

        await second.connection.close()
        await eventually(lambda: has_sessions(strict, "alice", 1))
        async with session(strict.ws_url) as again:
            assert again.welcome["resume"]["status"] == "new"


async def test_a_full_replica_refuses_over_plain_http(full: Replica) -> None:
    """Checklist 3.1.7."""
    offered = [PROTOCOL, f"bearer.{token('carol')}"]

    async with session(full.ws_url, "a"), session(full.ws_url, "b"), session(full.ws_url, "c"):
        status, problem, headers = await refusal(full.ws_url, subprotocols=offered, headers=[own_origin(full)])

    assert (status, problem["code"]) == (503, "overload")
    assert int(headers["retry-after"]) > 0


async def test_those_who_authenticate_late_cannot_pass_the_limits_together(full: Replica) -> None:
    """The places are counted when a session opens, not when its connection was let through the door."""
    await eventually(lambda: is_empty(full))

    async with AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(bare(full.ws_url)) for _ in range(6)]
        for number, client in enumerate(waiting):
            await client.say(type="auth", token=token(f"late-{number}"))
        first_frames = await asyncio.gather(*map(outcome, waiting))

    assert sorted(first_frames) == ["4005 overload"] * 3 + ["welcome"] * 3


async def test_those_who_wait_for_a_position_cannot_pass_the_limit_together(strict: Replica) -> None:
    async with session(strict.ws_url, "ahead") as first:
        epoch = first.welcome["position"].split(".")[0]
    await eventually(lambda: has_sessions(strict, "ahead", 0))

    async with AsyncExitStack() as stack:
        query = {"position": f"{epoch}.999999999.0"}
        offered = [PROTOCOL, f"bearer.{token('ahead')}"]
        results = await asyncio.gather(
            *(stack.enter_async_context(bare(strict.ws_url, subprotocols=offered, query=query)) for _ in range(12)),
            return_exceptions=True,
        )

        assert sum(isinstance(result, InvalidStatus) for result in results) == 10
        assert await has_sessions(strict, "ahead", 2)


# -- rude clients ----------------------------------------------------------------------------------------------------


async def test_clients_that_leave_in_the_middle_of_a_handshake_leave_nothing_behind(
    start_replica: StartReplica,
) -> None:
    """Neither a session, nor an open file, nor an error in the log: `calm` looks at that. Checklist 2.3."""
    busy = start_replica()
    async with session(busy.ws_url) as first:
        epoch = first.welcome["position"].split(".")[0]
    good, bad = f"{PROTOCOL}, bearer.{token()}", f"{PROTOCOL}, bearer.a.b.c"
    requests = [
        upgrade(busy, good),
        upgrade(busy, bad),
        upgrade(busy, bad, f"Origin: {busy.url}"),
        upgrade(busy, PROTOCOL),
        upgrade(busy, "other"),
        upgrade(busy, good, target=f"/ws?position={epoch}.999999999.0"),
    ]
    before = open_files(busy)

    for number in range(150):
        await vanish(busy, requests[number % len(requests)], politely=number % 4 == 0)

    async def all_gone() -> bool:
        return await has_sessions(busy, "alice", 0) and open_files(busy) <= before

    await eventually(all_gone)


async def outcome(client: Any) -> str:
    try:
        kind: str = (await client.frame())["type"]
    except Exception:  # noqa: BLE001 - closed, and the code is what is asked for
        code, reason = await client.closed()
        return f"{code} {reason}"
    return kind


async def has_sessions(replica: Replica, user: str, count: int) -> bool:
    return len(await sessions_of(replica.operations_url, user)) == count


async def is_empty(replica: Replica) -> bool:
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
        found: list[object] = (await operator.get("/sessions")).json()["sessions"]
    return not found


def open_files(replica: Replica) -> int:
    """Open files of the replica, as the system counts them."""
    return len(list(Path(f"/proc/{replica.process.pid}/fd").iterdir()))


def upgrade(replica: Replica, offered: str, *lines: str, target: str = "/ws") -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    head = [
        f"GET {target} HTTP/1.1",
        f"Host: 127.0.0.1:{replica.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Protocol: {offered}",
        *lines,
    ]
    return "\r\n".join([*head, "", ""]).encode()


async def vanish(replica: Replica, request: bytes, *, politely: bool) -> None:
    """Send a request and be gone, without reading the answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", replica.port)
    writer.write(request)
    await writer.drain()
    if politely:
        writer.close()
    else:
        writer.transport.abort()


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here: a refusal is no error of ours."""
    assert complaints(replica.log_path) == []
