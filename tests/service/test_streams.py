"""Sessions over SSE: what a stream says, how it resumes, who is refused and how it ends; on both ways to keep one.

Contract section 4.
"""

import asyncio
import json
import signal
from collections.abc import Iterator

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, eventually, session, sessions_of
from tests.service.conftest import StartReplica, on_both_paths
from tests.service.events import ACCEPT, refused, stream, ticket_of
from tests.tokens import bearer, token

pytestmark = on_both_paths


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Replica]:
    """One whose heart beats fast."""
    settings = {
        "NOTIFIER_SESSIONS__HEARTBEAT_SECONDS": "1",
        "NOTIFIER_SESSIONS__MAX_PER_USER": "3",
        "NOTIFIER_HTTP__ALLOWED_ORIGINS": "https://app.example.com",
    }
    replica = Replica(tmp_path_factory.mktemp("replica") / "replica.log", settings, module=module)
    yield replica
    replica.stop()


def of(user: str, title: str, **fields: object) -> dict[str, object]:
    return {"to": {"users": [user]}, "type": "t", "title": title, **fields}


async def test_a_stream_is_the_messages_of_a_socket(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with stream(replica.url, "sue") as listening, session(replica.ws_url, "sue") as client:
        sent = await backend.post("/notify", json=of("sue", "Grüße\n\u2028", data={"order": 1}))
        heard, said = await listening.frame("notification"), await client.frame("notification")

    assert listening.headers["content-type"] == "text/event-stream"
    assert listening.headers["cache-control"] == "no-store"
    assert listening.headers["x-accel-buffering"] == "no"
    assert "content-length" not in listening.headers
    assert listening.welcome.keys() == client.welcome.keys()
    assert heard == said
    assert heard["notification"]["id"] == sent.json()["id"]
    assert listening.last_id == heard["position"]


async def test_a_stream_begins_with_its_pause_and_beats_with_ids_alone(replica: Replica) -> None:
    """A browser keeps the id of a block without data, and does not tell its page."""
    async with httpx.AsyncClient() as client:
        head = bearer("ben") | ACCEPT
        async with client.stream("GET", f"{replica.url}/events", headers=head) as response:
            text = ""
            async with asyncio.timeout(DEADLINE_SECONDS):
                async for part in response.aiter_text():
                    text += part
                    if text.count("\n\n") >= 3:
                        break

    pause, welcome, beat = text.split("\n\n")[:3]
    name, _, milliseconds = pause.partition(": ")
    assert (name, 1_000 <= int(milliseconds) <= 5_000) == ("retry", True)
    position = json.loads(welcome.partition("data: ")[2])["position"]
    assert welcome.startswith(f"id: {position}\n")
    assert beat == f"id: {position}"


async def test_a_returning_client_gets_what_it_missed(replica: Replica, backend: httpx.AsyncClient) -> None:
    """The header wins: a browser sends it when it comes back by itself, with the address of before."""
    async with stream(replica.url, "tom") as first:
        start = first.last_id
        await backend.post("/notify", json=of("tom", "one"))
        assert await first.titles(1) == ["one"]
        seen = first.last_id
    for title in ("two", "three"):
        await backend.post("/notify", json=of("tom", title))

    async with stream(replica.url, "tom", position=start, last_id=seen) as second:
        assert second.welcome["resume"] == {"status": "resumed", "replayed": 2}
        assert await second.titles(2) == ["two", "three"]
    async with stream(replica.url, "tom", position=start) as third:
        assert await third.titles(3) == ["one", "two", "three"]
    async with stream(replica.url, "tom", last_id="nonsense") as fourth:
        assert fourth.welcome["resume"]["reason"] == "position_invalid"


async def test_topics_are_those_of_the_query(replica: Replica, backend: httpx.AsyncClient) -> None:
    allowed = {"topics": ["orders.*"]}
    async with stream(replica.url, "tea", topics=["orders.eu", "prices"], extra=allowed) as listening:
        await backend.post("/notify", json={"to": {"topics": ["orders.eu"]}, "type": "t", "title": "x"})

        assert listening.welcome["topics"] == ["orders.eu"]
        assert listening.welcome["denied"] == [{"topic": "prices", "code": "topic_forbidden"}]
        assert await listening.titles(1) == ["x"]


async def test_streams_and_sockets_hear_a_burst_in_one_order(replica: Replica, backend: httpx.AsyncClient) -> None:
    batch = [of("uma", str(number)) for number in range(200)]
    async with (
        stream(replica.url, "uma") as one,
        stream(replica.url, "uma") as two,
        session(replica.ws_url, "uma") as s,
    ):
        await backend.post("/notify/batch", json=batch)
        heard = [await one.titles(200), await two.titles(200), [(await s.notification())["title"] for _ in batch]]

    assert heard == [[str(number) for number in range(200)]] * 3


async def test_a_client_that_goes_is_noticed(replica: Replica) -> None:
    async with stream(replica.url, "gus"):
        assert len(await sessions_of(replica.operations_url, "gus")) == 1

    async def is_gone() -> bool:
        return not await sessions_of(replica.operations_url, "gus")

    await eventually(is_gone)


async def test_refusals_are_problems_and_stop_an_event_source(replica: Replica) -> None:
    """204 stops an EventSource, which is known by its Accept and its ticket; what passes is no 204."""
    ticket = await ticket_of(replica.url, bearer("vic"))
    async with stream(replica.url, ticket=ticket):
        pass
    used = await refused(replica.url, params={"ticket": ticket}, headers=ACCEPT)
    curl = await refused(replica.url, params={"ticket": ticket}, headers={})
    nobody = await refused(replica.url, headers=ACCEPT)
    stranger = await refused(
        replica.url, params={"token": token()}, headers={**bearer(), "Origin": "https://evil.example"}
    )
    in_query = await refused(replica.url, params={"token": token()}, headers=ACCEPT)

    assert (used.status_code, used.content, used.headers["cache-control"]) == (204, b"", "no-store")
    assert (curl.status_code, curl.json()["code"]) == (401, "ticket_used")
    assert (nobody.status_code, nobody.json()["code"]) == (401, "token_missing")
    assert (stranger.status_code, stranger.json()["code"]) == (403, "origin_forbidden")
    assert (in_query.status_code, in_query.json()["code"]) == (401, "token_missing")


async def test_session_limits_count_streams(replica: Replica) -> None:
    """T-40: one gate for sockets and streams."""
    async with stream(replica.url, "max"), stream(replica.url, "max"), session(replica.ws_url, "max"):
        ticket = await ticket_of(replica.url, bearer("max"))
        answer = await refused(replica.url, params={"ticket": ticket}, headers=ACCEPT)

    assert (answer.status_code, answer.json()["code"]) == (429, "too_many_sessions")
    assert int(answer.headers["retry-after"]) >= 1


async def test_pages_of_allowed_origins_may_read(replica: Replica) -> None:
    async with stream(replica.url, "ori", headers={"Origin": "https://app.example.com"}) as listening:
        assert listening.headers["access-control-allow-origin"] == "https://app.example.com"


async def test_a_stream_ends_with_its_token_and_says_so(replica: Replica) -> None:
    """There are no close codes: the last message has the one that a socket would have closed with."""
    async with stream(replica.url, "exp", lifetime_seconds=2) as listening:
        frames = await listening.rest()

    assert (frames[-1]["type"], frames[-1]["code"], frames[-1]["close_code"]) == ("error", "token_expired", 4401)


async def test_a_drained_stream_is_sent_elsewhere(start_replica: StartReplica) -> None:
    """T-09 for streams: `reconnect` with its pause, then an orderly end."""
    replica = start_replica()
    async with stream(replica.url) as listening:
        replica.process.send_signal(signal.SIGTERM)
        block = await listening.block()
        rest = await listening.rest()

    assert block.frame["type"] == "reconnect"
    assert (block.retry, block.id) == (str(block.frame["after_ms"]), block.frame["position"])
    assert rest == []
    assert replica.stop() == 0


async def test_handshakes_and_logs_tell_the_transport(replica: Replica) -> None:
    async with stream(replica.url, "log") as listening:
        pass
    async with httpx.AsyncClient() as operator:
        page = (await operator.get(f"{replica.operations_url}/metrics")).text

    async def is_logged() -> bool:
        return any(
            line["event"] == "session closed" and line["session"] == listening.welcome["session"]
            for line in replica.log_lines()
            if line.get("transport") == "sse"
        )

    assert 'notifier_handshakes_total{result="admitted",transport="sse"}' in page
    await eventually(is_logged)
