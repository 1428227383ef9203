"""What `POST /notify` takes, answers and delivers, rule by rule, through the real command."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, Client, session
from tests.tokens import bearer

LONG_TOPIC = ".".join(["a" * 25] * 9 + ["b" * 22])  # 10 segments, 256 characters


async def titles_up_to(client: Client, last: str) -> list[str]:
    """The titles that come before the notification with this one."""
    titles: list[str] = []
    while (title := (await client.notification()).get("title", "")) != last:
        titles.append(title)
    return titles


@pytest.fixture
async def archivist(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A backend of a tenant in which nobody broadcasts, so that a replay holds what its test sent and no more."""
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(tenant="archive")) as client:
        yield client


async def replayed_titles(replica: Replica, user: str) -> list[str]:
    async with session(replica.ws_url, user, tenant="archive", position="earliest") as client:
        return [frame["notification"]["title"] for frame in await client.drained()]


# -- the answer ------------------------------------------------------------------------------------------------------


async def test_an_accepted_notification_is_answered_with_its_id_tenant_and_time(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify", json=notification())

    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    assert body.keys() == {"id", "tenant", "accepted_at", "status"}
    assert (body["tenant"], body["status"]) == ("default", "queued")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["accepted_at"])


async def test_the_id_is_a_uuid_of_version_7_that_holds_the_time_of_acceptance(backend: httpx.AsyncClient) -> None:
    body = (await backend.post("/notify", json=notification())).json()

    made = uuid.UUID(body["id"])
    assert str(made) == body["id"]
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.int >> 80 == round(datetime.fromisoformat(body["accepted_at"]).timestamp() * 1000)


async def test_an_accepted_answer_has_a_request_id_and_where_the_caller_stands(backend: httpx.AsyncClient) -> None:
    headers = (await backend.post("/notify", json=notification())).headers

    assert headers["x-request-id"]
    assert headers["ratelimit-policy"] == '"send";q=500;w=1'
    assert re.fullmatch(r'"send";r=\d+;t=\d+', headers["ratelimit"])
    assert "idempotent-replayed" not in headers


# -- the rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"type": "a"}, id="short type"),
        pytest.param({"type": "a.b-c_9" + "z" * 121}, id="longest type"),
        pytest.param({"type": "notifierish"}, id="type beside the reserved prefix"),
        pytest.param({"title": None, "body": "b"}, id="body alone"),
        pytest.param({"title": None, "data": {}}, id="data alone"),
        pytest.param({"link": "https://example.com/a?b=c#d"}, id="https link"),
        pytest.param({"link": "/orders/1?x=//y"}, id="path as link"),
        pytest.param({"link": "/"}, id="root as link"),
        pytest.param({"ttl_seconds": 604_800}, id="longest ttl"),
        pytest.param({"ttl_seconds": 60.0}, id="whole number as a float"),
        pytest.param({"collapse_key": "k" * 128}, id="longest collapse key"),
        pytest.param({"to": {"users": ["auth0|5f", "a@example.org", "Zoë Müller", "u" * 256]}}, id="users"),
        pytest.param({"to": {"users": ["e\u0301" * 256]}}, id="256 characters once composed"),
        pytest.param({"to": {"users": [f"u{number}" for number in range(1_000)]}}, id="1,000 users"),
        pytest.param({"to": {"topics": [f"t.{number}" for number in range(100)]}}, id="100 topics"),
        pytest.param({"to": {"topics": [LONG_TOPIC]}}, id="longest topic"),
        pytest.param({"to": {"roles": [f"r{number}" for number in range(99)] + ["r" * 128]}}, id="100 roles"),
        pytest.param({"to": {"everyone": True, "exclude": {"users": ["a"], "roles": ["b"]}}}, id="exclusion"),
        pytest.param({"to": {"users": ["a"], "tenant": "default"}}, id="the caller's own tenant by name"),
    ],
)
async def test_what_the_rules_allow_is_accepted(backend: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    answer = await backend.post("/notify", json=notification(**changes))

    assert answer.status_code == 202, answer.text


@pytest.mark.parametrize(
    ("changes", "pointer", "code"),
    [
        ({"type": ""}, "/type", "wrong_pattern"),
        ({"type": "Upper"}, "/type", "wrong_pattern"),
        ({"type": "a b"}, "/type", "wrong_pattern"),
        ({"type": "a\n"}, "/type", "wrong_pattern"),
        ({"type": "a" * 129}, "/type", "wrong_pattern"),
        ({"type": "notifier.heartbeat"}, "/type", "reserved"),
        ({"type": None}, "/type", "missing"),
        ({"type": 1}, "/type", "wrong_type"),
        ({"title": None}, "", "nothing_to_say"),
        ({"title": 1}, "/title", "wrong_type"),
        ({"data": []}, "/data", "wrong_type"),
        ({"link": ""}, "/link", "too_short"),
        ({"link": "orders/1"}, "/link", "bad_link"),
        ({"link": "http://example.com"}, "/link", "bad_link"),
        ({"link": "https://"}, "/link", "bad_link"),
        ({"link": "https:///example.com"}, "/link", "bad_link"),
        ({"link": "//example.com"}, "/link", "bad_link"),
        ({"link": "/\\example.com"}, "/link", "bad_link"),
        ({"link": "/\t/example.com"}, "/link", "bad_link"),
        ({"link": "\\\\example.com"}, "/link", "bad_link"),
        ({"link": "javascript:alert(1)"}, "/link", "bad_link"),
        ({"link": "JavaScript:alert(1)"}, "/link", "bad_link"),
        ({"link": " https://example.com"}, "/link", "bad_link"),
        ({"link": "data:text/html,x"}, "/link", "bad_link"),
        ({"link": "/a\u202e"}, "/link", "bad_link"),
        ({"link": "/" + "a" * 2_048}, "/link", "too_long"),
        ({"ttl_seconds": -1}, "/ttl_seconds", "out_of_range"),
        ({"ttl_seconds": 604_801}, "/ttl_seconds", "out_of_range"),
        ({"ttl_seconds": 10**30}, "/ttl_seconds", "out_of_range"),
        ({"ttl_seconds": 1.5}, "/ttl_seconds", "wrong_type"),
        ({"ttl_seconds": "60"}, "/ttl_seconds", "wrong_type"),
        ({"ttl_seconds": True}, "/ttl_seconds", "wrong_type"),
        ({"collapse_key": ""}, "/collapse_key", "too_short"),
        ({"collapse_key": "k" * 129}, "/collapse_key", "too_long"),
        ({"priority": 1}, "/priority", "unknown_field"),
        ({"idempotency_key": "k"}, "/idempotency_key", "unknown_field"),
        ({"a/b~c": 1}, "/a~1b~0c", "unknown_field"),
        ({"to": None}, "/to", "missing"),
        ({"to": []}, "/to", "wrong_type"),
        ({"to": {}}, "/to", "empty_audience"),
        ({"to": {"users": [], "topics": [], "roles": [], "everyone": False}}, "/to", "empty_audience"),
        ({"to": {"exclude": {"users": ["a"]}}}, "/to", "empty_audience"),
        ({"to": {"users": [f"u{number}" for number in range(1_001)]}}, "/to/users", "too_long"),
        ({"to": {"topics": [f"t{number}" for number in range(101)]}}, "/to/topics", "too_long"),
        ({"to": {"roles": [f"r{number}" for number in range(101)]}}, "/to/roles", "too_long"),
        ({"to": {"everyone": "true"}}, "/to/everyone", "wrong_type"),
        ({"to": {"groups": ["a"]}}, "/to/groups", "unknown_field"),
        ({"to": {"everyone": True, "exclude": {"topics": ["a"]}}}, "/to/exclude/topics", "unknown_field"),
        ({"to": {"users": [""]}}, "/to/users/0", "too_short"),
        ({"to": {"users": ["a", "u" * 257]}}, "/to/users/1", "too_long"),
        ({"to": {"users": ["\u0958" * 256]}}, "/to/users/0", "too_long"),  # 512 characters in NFC
        ({"to": {"users": ["a\x00"]}}, "/to/users/0", "not_printable"),
        ({"to": {"users": ["a\u202eb"]}}, "/to/users/0", "not_printable"),
        ({"to": {"users": ["a\u200b"]}}, "/to/users/0", "not_printable"),
        ({"to": {"roles": ["r" * 129]}}, "/to/roles/0", "too_long"),
        ({"to": {"topics": ["a..b"]}}, "/to/topics/0", "wrong_pattern"),
        ({"to": {"topics": ["a.*"]}}, "/to/topics/0", "wrong_pattern"),
        ({"to": {"topics": ["$control"]}}, "/to/topics/0", "wrong_pattern"),
        ({"to": {"topics": ["a.b\n"]}}, "/to/topics/0", "wrong_pattern"),
        ({"to": {"topics": [".".join(["a"] * 11)]}}, "/to/topics/0", "wrong_pattern"),
        ({"to": {"topics": [LONG_TOPIC + "b"]}}, "/to/topics/0", "too_long"),
        ({"to": {"users": ["a"], "tenant": "a b"}}, "/to/tenant", "wrong_pattern"),
        ({"to": {"users": ["a"], "tenant": "t" * 65}}, "/to/tenant", "wrong_pattern"),
    ],
)
async def test_what_breaks_a_rule_is_refused_with_a_pointer_to_it(
    backend: httpx.AsyncClient, changes: dict[str, Any], pointer: str, code: str
) -> None:
    """Checklist 3.3.21."""
    answer = await backend.post("/notify", json=notification(**changes))

    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_notification")
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in problem["errors"]]


async def test_every_broken_rule_is_named_at_once(backend: httpx.AsyncClient) -> None:
    broken = notification(type="A", ttl_seconds=-1, colour="red", to={"users": ["", "\x01"]})

    answer = await backend.post("/notify", json=broken)

    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/type", "/ttl_seconds", "/colour", "/to/users/0", "/to/users/1"}


# -- what is delivered -----------------------------------------------------------------------------------------------


async def test_a_session_receives_the_fields_as_they_were_sent(replica: Replica, backend: httpx.AsyncClient) -> None:
    said = {
        "type": "order.shipped",
        "title": "Zoë \x00 \u202e 😀",
        "body": "",
        "link": "/orders/1234",
        "data": {"big": 2**70, "float": 1.5, "deep": {"b": [None, True, "é"]}},
        "collapse_key": "order-1234",
    }
    async with session(replica.ws_url, "fields") as client:
        sent = (await backend.post("/notify", json=notification("fields", **said, ttl_seconds=3_600))).json()
        received = await client.notification()

    created = received.pop("created_at")
    expires = received.pop("expires_at")
    assert received == {"id": sent["id"], **said}
    assert created == sent["accepted_at"]
    assert datetime.fromisoformat(expires) - datetime.fromisoformat(created) == timedelta(seconds=3_600)


async def test_without_a_ttl_a_notification_lives_for_a_day(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "day") as client:
        await backend.post("/notify", json=notification("day"))
        received = await client.notification()

    lives = datetime.fromisoformat(received["expires_at"]) - datetime.fromisoformat(received["created_at"])
    assert lives == timedelta(days=1)


async def test_topics_are_told_where_the_audience_is_topics_alone(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "told", topics=["news.a"], extra={"topics": ["news.#"]}) as client:
        await backend.post("/notify", json=notification(to={"topics": ["news.a", "news.b"]}))
        received = await client.notification()

    assert received["topics"] == ["news.a", "news.b"]


@pytest.mark.parametrize(
    "more", [{"users": ["somebody"]}, {"roles": ["boss"]}, {"everyone": True}], ids=["users", "roles", "everyone"]
)
async def test_nothing_of_a_mixed_audience_is_disclosed(
    replica: Replica, backend: httpx.AsyncClient, more: dict[str, Any]
) -> None:
    to = {"topics": ["mixed.a"], "exclude": {"users": ["enemy"]}, **more}
    async with session(replica.ws_url, "mixed", topics=["mixed.a"], extra={"topics": ["mixed.#"]}) as client:
        await backend.post("/notify", json=notification(to=to))
        received = await client.notification()

    assert received.keys() == {"id", "type", "title", "created_at", "expires_at"}


# -- time to live and replay -----------------------------------------------------------------------------------------


async def test_a_notification_with_ttl_0_reaches_present_sessions_and_is_never_replayed(
    replica: Replica, archivist: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "ttl0", tenant="archive") as client:
        await archivist.post("/notify", json=notification("ttl0", title="fleeting", ttl_seconds=0))
        await archivist.post("/notify", json=notification("ttl0", title="lasting"))
        received = await client.notification()
        position = client.welcome["position"]

    assert received["title"] == "fleeting"
    assert "expires_at" not in received
    assert await replayed_titles(replica, "ttl0") == ["lasting"]
    async with session(replica.ws_url, "ttl0", tenant="archive", position=position) as resumed:
        assert resumed.welcome["resume"] == {"status": "resumed", "replayed": 1}


async def test_an_expired_notification_is_not_replayed(replica: Replica, archivist: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "expiry", tenant="archive") as client:
        await archivist.post("/notify", json=notification("expiry", title="short", ttl_seconds=1))
        await archivist.post("/notify", json=notification("expiry", title="long"))
        received = [(await client.notification())["title"] for _ in range(2)]

    assert received == ["short", "long"]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await replayed_titles(replica, "expiry") != ["long"]:
            pass


async def test_on_replay_only_the_newest_of_a_collapse_key_comes_in_its_own_place(
    replica: Replica, archivist: httpx.AsyncClient
) -> None:
    async with session(replica.ws_url, "collapse", tenant="archive") as client:
        for title, key in [("a1", "a"), ("b1", "b"), ("plain", None), ("a2", "a"), ("end", None)]:
            await archivist.post("/notify", json=notification("collapse", title=title, collapse_key=key))
        live = await titles_up_to(client, "end")

    assert live == ["a1", "b1", "plain", "a2"]
    assert await replayed_titles(replica, "collapse") == ["b1", "plain", "a2", "end"]


async def test_a_collapse_key_of_another_user_supersedes_nothing(
    replica: Replica, archivist: httpx.AsyncClient
) -> None:
    await archivist.post("/notify", json=notification("mine", title="mine", collapse_key="shared"))
    await archivist.post("/notify", json=notification("theirs", title="theirs", collapse_key="shared"))

    assert await replayed_titles(replica, "mine") == ["mine"]


# -- scopes and tenants ----------------------------------------------------------------------------------------------


async def test_sending_needs_its_scope(backend: httpx.AsyncClient) -> None:
    """Checklist 3.2.17, 3.3.23."""
    answer = await backend.post("/notify", json=notification(), headers=bearer(scopes=["notify:broadcast"]))

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="notify:send"' in answer.headers["www-authenticate"]


async def test_everyone_needs_the_scope_to_broadcast(backend: httpx.AsyncClient) -> None:
    sender = bearer(scopes=["notify:send"])

    answer = await backend.post("/notify", json=notification(to={"everyone": True}), headers=sender)

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="notify:broadcast"' in answer.headers["www-authenticate"]


async def test_everyone_is_everyone_of_the_tenant_alone(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with (
        session(replica.ws_url, "one", tenant="wide") as one,
        session(replica.ws_url, "two", tenant="wide") as two,
        session(replica.ws_url, "one", tenant="apart") as apart,
    ):
        await backend.post("/notify", json=notification(to={"everyone": True}), headers=bearer(tenant="wide"))
        await backend.post("/notify", json=notification("one", title="end"), headers=bearer(tenant="apart"))

        assert (await one.notification())["title"] == "Hello"
        assert (await two.notification())["title"] == "Hello"
        assert await titles_up_to(apart, "end") == []


@pytest.mark.parametrize(
    "claims",
    [{"scopes": ["notify:send", "notify:any-tenant"]}, {"scopes": ["notify:send"], "tenants": ["x", "elsewhere"]}],
    ids=["scope", "claim"],
)
async def test_a_scope_or_a_claim_opens_another_tenant(
    replica: Replica, backend: httpx.AsyncClient, claims: dict[str, Any]
) -> None:
    async with (
        session(replica.ws_url, "guest", tenant="elsewhere") as there,
        session(replica.ws_url, "guest") as here,
    ):
        request = notification(to={"users": ["guest"], "tenant": "elsewhere"})
        answer = await backend.post("/notify", json=request, headers=bearer(**claims))
        await backend.post("/notify", json=notification("guest", title="end"))

        assert (answer.status_code, answer.json()["tenant"]) == (202, "elsewhere")
        assert (await there.notification())["id"] == answer.json()["id"]
        assert await titles_up_to(here, "end") == []


async def test_another_tenant_is_closed_without_scope_and_claim(backend: httpx.AsyncClient) -> None:
    """Checklist 3.3.23."""
    request = notification(to={"users": ["guest"], "tenant": "elsewhere"})

    answer = await backend.post("/notify", json=request, headers=bearer(tenants=["x"]))

    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_forbidden")
    assert 'scope="notify:any-tenant"' in answer.headers["www-authenticate"]


async def test_everyone_of_another_tenant_needs_both_scopes(backend: httpx.AsyncClient) -> None:
    request = notification(to={"everyone": True, "tenant": "elsewhere"})

    answer = await backend.post("/notify", json=request, headers=bearer(scopes=["notify:send", "notify:any-tenant"]))

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")
