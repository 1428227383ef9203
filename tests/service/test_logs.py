"""What a replica logs: lines of JSON, one for each request and session, and never a token or a payload."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, complaints, refusal, session
from tests.service.conftest import StartReplica
from tests.tokens import token

TITLE, BODY, DATA = "canary-title-4711", "canary-body-4711", "canary-data-4711"


def secret(user: str, **claims: Any) -> str:
    """A token whose every segment is looked for afterwards."""
    return token(user, **claims)


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_no_token_and_no_payload_is_ever_logged(start_replica: StartReplica, level: str) -> None:
    """T-62: every way in for a token, good and bad, and every way out for a payload. Checklist 3.4.28, 2.1."""
    replica = start_replica(SESSIONS__QUERY_TOKEN="true", TELEMETRY__LOG_LEVEL=level)
    stale = secret("stale", extra={"iat": 1_700_000_000, "exp": 1_700_003_600})
    forged = secret("forged")[:-12] + "AAAAAAAAAAAA"
    bad = [stale, forged, "not.a.token-4711", "x" * 7_169]
    good = [secret(f"good-{number}") for number in range(6)]
    caller = secret("caller", scopes=["notify:send"])

    await enter_in_every_way(replica, good)
    for wrong in bad:
        await fail_in_every_way(replica, wrong)
    await send_in_every_way(replica, caller, good[5])
    replica.stop()

    log = replica.log_path.read_text()
    pieces = {piece for each in [*bad, *good, caller] for piece in each.split(".")[1:] if len(piece) > 3}
    assert len(pieces) > 15
    assert [piece for piece in pieces if piece in log] == []
    assert [canary for canary in (TITLE, BODY, DATA) if canary in log] == []
    assert '"WebSocket ' not in log
    assert "token=" not in log
    assert complaints(replica.log_path) == []


async def test_each_request_has_one_line_without_its_query(start_replica: StartReplica) -> None:
    """Checklist 3.4.28."""
    replica = start_replica()

    async with httpx.AsyncClient(base_url=replica.url, verify=False) as client:
        answers = [
            await client.get("/nowhere?secret=1", headers={"X-Request-Id": "mine"}),
            await client.post("/notify?secret=1", json={}),
            await client.get("/ws?token=secret"),
        ]
    replica.stop()

    lines = [line for line in replica.log_lines() if line["event"] == "request"]
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [
        ("GET", "/nowhere", 404),
        ("POST", "/notify", 401),
        ("GET", "/ws", 426),
    ]
    assert [line["request_id"] for line in lines] == [answer.headers["x-request-id"] for answer in answers]
    assert lines[0]["request_id"] == "mine"
    assert "secret" not in replica.log_path.read_text()


async def test_each_session_and_each_refusal_has_one_line(start_replica: StartReplica) -> None:
    replica = start_replica()

    async with session(replica.ws_url, "alice", tenant="acme") as client:
        await client.drained()
    async with session(replica.ws_url, "bob") as rude:
        await rude.connection.send(b"binary")
        await rude.closed()
    await refusal(replica.ws_url, subprotocols=[PROTOCOL, "bearer.a.b.c"])
    async with bare(replica.ws_url) as mute:
        await mute.say(type="ping")
        await mute.closed()
    replica.stop()

    lines = replica.log_lines()
    closed = [line for line in lines if line["event"] == "session closed"]
    assert [(line["tenant"], line["user"], line["code"], line["reason"]) for line in closed] == [
        ("acme", "alice", 1000, "client"),
        ("default", "bob", 4400, "binary_frame"),
    ]
    assert closed[0]["session"] == client.welcome["session"]
    refused = [line for line in lines if line["event"] == "session refused"]
    assert [line["code"] for line in refused] == ["token_invalid", "auth_expected"]
    assert {line["address"] for line in refused} == {"127.0.0.1"}


async def enter_in_every_way(replica: Replica, tokens: list[str]) -> None:
    async with bare(replica.ws_url, subprotocols=[PROTOCOL, f"bearer.{tokens[0]}"]) as client:
        await client.frame("welcome")
        await client.say(type="refresh", token=token("good-0", lifetime_seconds=99))
        await client.frame("refreshed")
    async with bare(replica.ws_url, headers=[("Authorization", f"Bearer {tokens[1]}")]) as client:
        await client.frame("welcome")
    async with bare(replica.ws_url, query={"token": tokens[2]}) as client:
        await client.frame("welcome")
    async with bare(replica.ws_url) as client:
        await client.say(type="auth", token=tokens[3])
        await client.frame("welcome")
    async with bare(replica.ws_url, query={"token": tokens[4]}, headers=[("Origin", replica.url)]) as client:
        await client.frame("welcome")


async def fail_in_every_way(replica: Replica, wrong: str) -> None:
    for handshake in (
        {"subprotocols": [PROTOCOL, f"bearer.{wrong}"]},
        {"headers": [("Authorization", f"Bearer {wrong}")]},
        {"query": {"token": wrong}},
        {"query": {"token": wrong}, "subprotocols": ["other"]},
        {"query": {"token": wrong}, "headers": [("Origin", "https://foreign.test")]},
    ):
        await refusal(replica.ws_url, **handshake)
    async with bare(replica.ws_url, query={"token": wrong}, headers=[("Origin", replica.url)]) as browser:
        await browser.closed()
    async with bare(replica.ws_url) as client:
        await client.say(type="auth", token=wrong)
        await client.closed()
    async with session(replica.ws_url, "refresher") as client:
        await client.say(type="refresh", token=wrong)
        await client.closed()


async def send_in_every_way(replica: Replica, caller: str, receiver: str) -> None:
    message = {"to": {"users": ["good-5"]}, "type": "t", "title": TITLE, "body": BODY, "data": {"x": DATA}}
    headers = {"Authorization": f"Bearer {caller}"}
    async with (
        httpx.AsyncClient(base_url=replica.url, headers=headers, verify=False) as sender,
        bare(replica.ws_url, headers=[("Authorization", f"Bearer {receiver}")]) as client,
    ):
        await client.frame("welcome")
        assert (await sender.post("/notify", json=message)).status_code == 202
        assert (await client.notification())["title"] == TITLE
        assert (await sender.post("/notify/batch", json=[message, {**message, "ttl_seconds": -1}])).status_code == 207
        assert (await sender.post("/notify", json={**message, TITLE: BODY})).status_code == 422
        assert (await sender.post("/notify", content=f'{{"title":"{TITLE}"')).status_code in (400, 415, 422)
        assert (
            await sender.post(f"/notify?token={caller}", json={**message, "to": {"everyone": True}})
        ).status_code == 403


def test_a_line_that_is_no_json_counts_as_a_complaint(tmp_path: Path) -> None:
    """The check that the tests here and elsewhere end with can fail."""
    log = tmp_path / "some.txt"
    log.write_text('{"level":"info"}\nhello\n{"level":"error"}\n{"level":"info","exception":"Traceback ..."}\n')

    assert len(complaints(log)) == 3
