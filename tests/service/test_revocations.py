"""Revocation on one replica: what is closed, what is refused from then on, and how the door answers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.replica import Replica
from tests.service.client import PROTOCOL, Client, bare, complaints, eventually, refusal, session, sessions_of
from tests.service.command import run
from tests.service.conftest import on_both_paths
from tests.tokens import token

pytestmark = on_both_paths

REVOKED = (4403, "token_revoked")
WITHIN_SECONDS = 2.0  # T-54.
AGO_SECONDS = 60  # When the tokens were issued that a test revokes by their time.


@pytest.fixture
async def revoker(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A backend that may revoke, and in another tenant as well."""
    may = token("security", scopes=["notify:revoke"], tenants=["elsewhere"])
    async with httpx.AsyncClient(base_url=replica.url, headers=_bearer(may), verify=False) as client:
        yield client


async def revoke(revoker: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await revoker.post("/revocations", json=body)
    assert answer.status_code == 202, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


async def closed(*clients: Client) -> list[tuple[int, str]]:
    async with asyncio.timeout(WITHIN_SECONDS):
        return await asyncio.gather(*(client.closed() for client in clients))


def issued(user: str, seconds_ago: int = AGO_SECONDS, **claims: Any) -> str:
    issued_at = int(datetime.now(UTC).timestamp()) - seconds_ago
    extra = {"iat": issued_at, "exp": issued_at + 3_600, **claims.pop("extra", {})}
    return token(user, extra=extra, **claims)


def ago(seconds: int) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def opened_with(replica: Replica, bearer_token: str, **query: str) -> Any:
    return bare(replica.ws_url, subprotocols=[PROTOCOL, f"bearer.{bearer_token}"], query=query)


async def refused(replica: Replica, bearer_token: str, **query: str) -> tuple[int, str]:
    """The status and code with which a handshake with this token is refused."""
    offered = [PROTOCOL, f"bearer.{bearer_token}"]
    status, problem, _ = await refusal(replica.ws_url, subprotocols=offered, query=query)
    return status, problem["code"]


def _bearer(bearer_token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {bearer_token}"}


async def test_a_revoked_user_is_closed_and_comes_back_with_a_later_token_alone(
    replica: Replica, revoker: httpx.AsyncClient
) -> None:
    """T-54. Nobody else is touched, also of the same name in another tenant. Checklist 3.1.10."""
    stale = issued("alice")
    async with (
        opened_with(replica, stale) as one,
        session(replica.ws_url, "alice", extra={"jti": "another"}) as two,
        session(replica.ws_url, "bob") as bob,
        session(replica.ws_url, "alice", tenant="elsewhere") as namesake,
    ):
        position = (await one.frame("welcome"))["position"]
        receipt = await revoke(revoker, user="alice")

        assert await closed(one, two) == [REVOKED, REVOKED]
        assert [await client.drained() for client in (bob, namesake)] == [[], []]
    assert await refused(replica, stale) == (401, "token_revoked")
    assert await refused(replica, stale, position=position) == (401, "token_revoked")
    async with session(replica.ws_url, "alice", extra={"iat": int(datetime.now(UTC).timestamp()) + 2}) as fresh:
        assert await fresh.drained() == []
    assert (receipt["tenant"], receipt["durable"]) == ("default", False)
    left = datetime.fromisoformat(receipt["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=1) < left < timedelta(days=1, minutes=2)


async def test_a_page_hears_4403_and_so_does_a_first_frame_and_a_refresh(
    replica: Replica, revoker: httpx.AsyncClient
) -> None:
    """Also for a client that was waiting with its first frame when it was revoked."""
    stale = issued("carol", extra={"jti": "carols"})
    async with (
        bare(replica.ws_url) as waiting,
        session(replica.ws_url, "carol", extra={"jti": "carols-other"}) as other,
    ):
        await revoke(revoker, token_id="carols")
        await waiting.say(type="auth", token=stale)
        await other.say(type="refresh", token=stale)

        assert await closed(waiting, other) == [REVOKED, REVOKED]
    origin = [("Origin", replica.url)]
    async with bare(replica.ws_url, subprotocols=[PROTOCOL, f"bearer.{stale}"], headers=origin) as page:
        assert await page.closed() == REVOKED


async def test_a_session_that_is_behind_is_closed_as_well(replica: Replica, revoker: httpx.AsyncClient) -> None:
    """A client that reads nothing keeps a place in the window, and loses that."""
    async with session(replica.ws_url, "frozen", receive_buffer_bytes=4_096):
        async with httpx.AsyncClient(base_url=replica.url, headers=_bearer(_sender()), verify=False) as backend:
            heavy = {"to": {"users": ["frozen"]}, "type": "t", "body": "x" * 60_000}
            for _ in range(60):
                assert (await backend.post("/notify", json=heavy)).status_code == 202
        (behind,) = await sessions_of(replica.operations_url, "frozen")
        await revoke(revoker, user="frozen")

        async def is_gone() -> bool:
            return not await sessions_of(replica.operations_url, "frozen")

        await eventually(is_gone, WITHIN_SECONDS)
    assert behind["state"] == "behind"


async def test_nobody_slips_in_at_the_moment_of_the_revocation(replica: Replica, revoker: httpx.AsyncClient) -> None:
    """Between the check of a token and its session lie waits, for the handshake and for a first frame."""
    stale = issued("racer")
    offered = [PROTOCOL, f"bearer.{stale}"]

    async def race(delay_seconds: float) -> tuple[int, str]:
        await asyncio.sleep(delay_seconds)  # So that some are before the revocation, some in it, some behind.
        try:
            async with bare(replica.ws_url, subprotocols=offered) as client:
                return await client.closed()
        except InvalidStatus as refused:
            return refused.response.status_code, ""

    async with asyncio.TaskGroup() as tasks:
        races = [tasks.create_task(race(number * 0.002)) for number in range(40)]
        await asyncio.sleep(0.05)  # In the midst of them.
        await revoke(revoker, user="racer")

    assert {each.result() for each in races} <= {REVOKED, (401, "")}
    assert await sessions_of(replica.operations_url, "racer") == []


async def test_a_session_goes_with_its_token_and_other_sessions_stay(
    replica: Replica, revoker: httpx.AsyncClient
) -> None:
    """Checklist 3.1.10."""
    stale = issued("dave")
    async with opened_with(replica, stale) as one, session(replica.ws_url, "dave", extra={"jti": "other"}) as other:
        session_id = (await one.frame("welcome"))["session"]
        await revoke(revoker, session=session_id)
        assert await closed(one) == [REVOKED]
        assert await other.drained() == []
    again = await revoke(revoker, session=session_id)
    unknown = await revoker.post("/revocations", json={"session": "0" * 32})

    assert await refused(replica, stale) == (401, "token_revoked")
    assert again["tenant"] == "default"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "session_not_found")


async def test_what_was_issued_before_a_moment_goes_and_what_came_later_stays(
    replica: Replica, revoker: httpx.AsyncClient
) -> None:
    before, after = issued("erin", 120, tenant="elsewhere"), issued("erin", 60, tenant="elsewhere")
    async with opened_with(replica, before) as old, opened_with(replica, after) as new:
        await old.frame("welcome"), await new.frame("welcome")
        await revoke(revoker, user="erin", issued_before=ago(90), tenant="elsewhere")
        assert await closed(old) == [REVOKED]
        assert await new.drained() == []
        await revoke(revoker, everyone=True, issued_before=ago(30), tenant="elsewhere")
        assert await closed(new) == [REVOKED]
    async with session(replica.ws_url, "erin", tenant="elsewhere") as fresh:
        assert await fresh.drained() == []
    assert await refused(replica, issued("frank", 31, tenant="elsewhere")) == (401, "token_revoked")


def _sender() -> str:
    return issued("backend", scopes=["notify:send"])


async def test_a_revoked_sender_is_refused_at_once_though_its_token_was_remembered(
    replica: Replica, revoker: httpx.AsyncClient
) -> None:
    body = {"to": {"users": ["nobody"]}, "type": "t", "title": "x"}
    sender = issued("leaky", scopes=["notify:send", "notify:ticket"])
    async with httpx.AsyncClient(base_url=replica.url, headers=_bearer(sender), verify=False) as client:
        before = [await client.post("/notify", json=body), await client.post("/notify/batch", json=[body])]
        ticket = (await client.post("/ticket", json={"user": "grace"})).json()["ticket"]
        own = (await client.post("/ticket")).json()["ticket"]
        await revoke(revoker, user="leaky")
        after = [await client.post(path, json=body) for path in ("/notify", "/notify/batch", "/ticket")]

    assert [answer.status_code for answer in before] == [202, 202]
    assert [(answer.status_code, answer.json()["code"]) for answer in after] == [(401, "token_revoked")] * 3
    assert 'error="invalid_token"' in after[0].headers["www-authenticate"]
    # Its own session stands with its token; somebody it has spoken for is somebody else.
    assert (await refusal(replica.ws_url, query={"ticket": own}))[0] == 401
    async with bare(replica.ws_url, query={"ticket": ticket}) as vouched:
        assert (await vouched.frame("welcome"))["user"] == "grace"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "one_subject"),
        ({"user": "a", "session": "0" * 32}, "one_subject"),
        ({"everyone": True}, "issued_before_missing"),
        ({"token_id": "a", "issued_before": "2026-11-26T09:30:00Z"}, "issued_before_useless"),
        ({"user": "a", "issued_before": "2026-11-26"}, "bad_time"),
        ({"user": "a", "issued_before": "2026-11-26T09:30:00"}, "bad_time"),
        ({"user": "a", "issued_before": "2099-11-26T09:30:00Z"}, "too_far_ahead"),
        ({"session": "x"}, "wrong_pattern"),
        ({"usr": "a"}, "unknown_field"),
        ([], "wrong_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_body_that_says_something_else_is_422(revoker: httpx.AsyncClient, body: Any, code: str) -> None:
    answer = await revoker.post("/revocations", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_revocation")
    assert code in {error["code"] for error in answer.json()["errors"]}


async def test_who_may_not_is_told_what_is_missing(replica: Replica, revoker: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(base_url=replica.url, verify=False) as client:
        nobody = await client.post("/revocations", json={"user": "a"})
        sender = await client.post("/revocations", json={"user": "a"}, headers=_bearer(_sender()))
    stranger = await revoker.post("/revocations", json={"user": "a", "tenant": "third"})

    assert [(answer.status_code, answer.json()["code"]) for answer in (nobody, sender, stranger)] == [
        (401, "token_missing"),
        (403, "insufficient_scope"),
        (403, "tenant_forbidden"),
    ]
    assert 'scope="notify:revoke"' in sender.headers["www-authenticate"]


async def test_the_command_revokes_and_prints_the_answer(replica: Replica) -> None:
    async with session(replica.ws_url, "heidi") as client:
        done = await run("revoke", "--url", replica.url, "--user", "heidi")
        assert await closed(client) == [REVOKED]
    missing = await run("revoke", "--url", replica.url, "--session", "0" * 32)

    assert (done.code, '"durable": false' in done.out) == (0, True)
    assert (missing.code, "session_not_found" in missing.out) == (1, True)


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here."""
    assert complaints(replica.log_path) == []
