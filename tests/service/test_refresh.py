"""Tokens that end while a session is open: the notice, the end, and the refresh that prevents it."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.replica import Replica
from tests.service.client import PROTOCOL, bare, complaints, session
from tests.service.conftest import StartReplica, on_both_paths
from tests.tokens import token

pytestmark = on_both_paths

LIFE_SECONDS = 4


async def test_a_notice_comes_in_the_last_quarter_of_a_tokens_life_and_4401_at_its_end(
    start_replica: StartReplica,
) -> None:
    """T-50, 3.1.9. The service looks at its clock every quarter of a heartbeat; so a short life wants a quick heart."""
    quick = start_replica(SESSIONS__HEARTBEAT_SECONDS="0.4")

    async with session(quick.ws_url, "brief", lifetime_seconds=LIFE_SECONDS) as client:
        expires_at = datetime.fromisoformat(client.welcome["expires_at"])
        notice = await client.frame("token_expiring")
        left_seconds = (expires_at - datetime.now(UTC)).total_seconds()
        frames, code, reason = await client.rest()
        late_seconds = (datetime.now(UTC) - expires_at).total_seconds()

    assert left_seconds <= LIFE_SECONDS * 0.25
    assert notice == {"type": "token_expiring", "in_seconds": notice["in_seconds"]}
    assert 0 <= notice["in_seconds"] <= LIFE_SECONDS * 0.25
    assert (frames, code, reason) == ([], 4401, "token_expired")
    assert late_seconds > -0.1
    assert complaints(quick.log_path) == []


async def test_a_refreshed_session_outlives_its_first_token(replica: Replica) -> None:
    """T-50: the same socket."""
    async with (
        session(replica.ws_url, "fresh", lifetime_seconds=2) as client,
        session(replica.ws_url, "stale", lifetime_seconds=2) as control,
    ):
        await client.say(type="refresh", token=token("fresh"), ref="again")
        refreshed = await client.frame("refreshed")
        closed = await control.closed()

        assert refreshed["ref"] == "again"
        assert refreshed["expires_at"] > client.welcome["expires_at"]
        assert closed == (4401, "token_expired")
        assert await client.drained() == []


async def test_roles_and_topics_of_the_new_token_count_from_then_on(
    replica: Replica, backend: httpx.AsyncClient
) -> None:
    """T-50, T-52: whatever it adds is taken, and what it no longer has is gone."""

    async def sent(**audience: Any) -> str:
        answer = await backend.post("/notify", json={"to": audience, "type": "t", "title": "x"})
        identifier: str = answer.json()["id"]
        return identifier

    old: dict[str, Any] = {"roles": ["old-role"], "extra": {"topics": ["old.*", "both.*"]}}
    async with session(replica.ws_url, "mover", topics=["old.a", "both.a"], **old) as client:
        await client.say(type="refresh", token=token("mover", roles=["new-role"], topics=["new.*", "both.*"]))
        refreshed = await client.frame("refreshed")
        await sent(roles=["old-role"])
        await sent(topics=["old.a"])
        expected = [await sent(roles=["new-role"]), await sent(topics=["both.a"]), await sent(users=["mover"])]
        await client.say(type="subscribe", topics=["new.a", "old.a"])
        heard = [(await client.notification())["id"] for _ in expected]
        subscribed = await client.frame("subscribed")

    assert refreshed["topics"] == ["both.a"]
    assert heard == expected
    assert subscribed["topics"] == ["new.a"]
    assert subscribed["denied"] == [{"topic": "old.a", "code": "topic_forbidden"}]


async def test_nothing_is_lost_while_a_session_refreshes(replica: Replica, backend: httpx.AsyncClient) -> None:
    """T-50."""
    count = 200

    async def send_all() -> None:
        for number in range(count):
            await backend.post("/notify", json={"to": {"users": ["steady"]}, "type": "t", "data": {"n": number}})

    async with session(replica.ws_url, "steady") as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all())
        numbers: list[int] = []
        refreshes = 0
        while len(numbers) < count:
            frame = await client.frame()
            if frame["type"] == "refreshed":
                refreshes += 1
            else:
                numbers.append(frame["notification"]["data"]["n"])
                if len(numbers) % 10 == 0:
                    await client.say(type="refresh", token=token("steady", lifetime_seconds=3_600 + len(numbers)))

    assert numbers == list(range(count))
    assert refreshes >= count // 10 - 1


@pytest.mark.parametrize(
    ("fresh", "expected"),
    [
        (token("mallory"), (4403, "another_user")),
        (token("owner", tenant="elsewhere"), (4403, "another_user")),
        ("a.b.c", (4402, "token_invalid")),
        ("", (4402, "token_missing")),
        ("\ud800.b.c", (4402, "token_invalid")),
        ("a" * 7_169, (4402, "token_invalid")),
        (token("owner", extra={"iat": 1_700_000_000, "exp": 1_700_003_600}), (4401, "token_expired")),
    ],
)
async def test_a_refresh_that_is_no_good_ends_the_session(
    replica: Replica, fresh: str, expected: tuple[int, str]
) -> None:
    """T-50: closes for good, but for a token that has expired. Checklist 3.1.9."""
    async with session(replica.ws_url, "owner") as client:
        await client.say(type="refresh", token=fresh)

        assert await client.rest() == ([], *expected)


async def test_a_token_that_ends_between_handshake_and_first_frame_is_refused(replica: Replica) -> None:
    stale = token("late", extra={"iat": 1_700_000_000, "exp": 1_700_003_600})

    async with bare(replica.ws_url, subprotocols=[PROTOCOL]) as client:
        await client.say(type="auth", token=stale)

        assert await client.rest() == ([], 4401, "token_expired")


async def test_the_replica_of_this_module_has_nothing_to_complain_of(replica: Replica) -> None:
    """The last test here."""
    assert complaints(replica.log_path) == []
