"""`POST /ticket`: who gets one, what it opens, and what it never does. Contract section 4."""

import json

import httpx
import pytest

from notifier.app import create_app
from notifier.settings import Settings
from notifier.settings.access import Access
from tests.replica import Replica
from tests.service.client import bare, refusal, session
from tests.service.events import ACCEPT, refused, stream, ticket_of
from tests.tokens import bearer, token

MINTER = {"scopes": ["notify:ticket"]}


async def ask(replica: Replica, headers: dict[str, str], body: object = None) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.post(f"{replica.url}/ticket", headers=headers, json=body)


async def test_a_ticket_is_for_the_bearer_of_the_token(replica: Replica) -> None:
    answer = await ask(replica, bearer("ann", roles=["r"], topics=["orders.*"], scopes=[]))
    fields = answer.json()

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert fields.keys() == {"ticket", "expires_in", "session_expires_at"}
    assert fields["expires_in"] == 30
    async with stream(replica.url, ticket=fields["ticket"], topics=["orders.eu", "prices"]) as listening:
        assert listening.welcome["user"] == "ann"
        assert listening.welcome["topics"] == ["orders.eu"]
        assert listening.welcome["expires_at"] == fields["session_expires_at"]


async def test_a_ticket_opens_one_session_of_either_kind(replica: Replica) -> None:
    ticket = await ticket_of(replica.url, bearer("bob"))
    async with bare(replica.ws_url, query={"ticket": ticket}) as client:
        assert (await client.frame("welcome"))["user"] == "bob"

    status, problem, _ = await refusal(replica.ws_url, query={"ticket": ticket})
    again = await refused(replica.url, params={"ticket": ticket}, headers={})
    async with bare(replica.ws_url, query={"ticket": ticket}, headers=[("Origin", replica.url)]) as browser:
        closed = await browser.closed()

    assert (status, problem["code"]) == (401, "ticket_used")
    assert (again.status_code, again.json()["code"]) == (401, "ticket_used")
    assert closed == (4401, "ticket_used")  # A fresh one mends it, as with an expired token.


async def test_a_ticket_is_good_for_nothing_else(replica: Replica) -> None:
    ticket = await ticket_of(replica.url, bearer("eve", scopes=["notify:send", "notify:ticket"]))
    headers = {"Authorization": f"Bearer {ticket}"}
    async with httpx.AsyncClient(base_url=replica.url, headers=headers) as client:
        sent = await client.post("/notify", json={"to": {"users": ["eve"]}, "type": "t", "title": "x"})
        another = await client.post("/ticket")
    as_token = await refused(replica.url, headers=headers)
    async with session(replica.ws_url, "eve") as open_session:
        await open_session.say(type="refresh", token=ticket)
        refreshed = await open_session.closed()
    async with bare(replica.ws_url) as silent:
        await silent.say(type="auth", token=ticket)
        first_frame = await silent.closed()

    assert [answer.status_code for answer in (sent, another, as_token)] == [401, 401, 401]
    assert refreshed == first_frame == (4402, "token_invalid")


async def test_a_token_is_no_ticket(replica: Replica) -> None:
    answer = await refused(replica.url, params={"ticket": token()}, headers={})

    assert (answer.status_code, answer.json()["code"]) == (401, "ticket_invalid")


async def test_a_backend_vouches_for_somebody(replica: Replica, backend: httpx.AsyncClient) -> None:
    wanted = {"user": "älice|1", "roles": ["vip"], "topics": ["user.{sub}.#", "news.*"], "session_seconds": 60}
    ticket = await ticket_of(replica.url, bearer("minter", **MINTER), **wanted)
    async with stream(replica.url, ticket=ticket, topics=["news.eu"]) as listening:
        await backend.post("/notify", json={"to": {"roles": ["vip"]}, "type": "t", "title": "x"})

        assert listening.welcome["user"] == "älice|1"
        assert listening.welcome["topics"] == ["news.eu"]
        assert await listening.titles(1) == ["x"]


async def test_a_backend_vouches_where_it_may_send(replica: Replica) -> None:
    everywhere, listed = ["notify:ticket", "notify:any-tenant"], {**MINTER, "tenants": ["red"]}
    answers = [
        await ask(replica, bearer("m", scopes=["notify:send"]), {"user": "u"}),
        await ask(replica, bearer("m", **MINTER), {"user": "u", "tenant": "red"}),
        await ask(replica, bearer("m", scopes=everywhere), {"user": "u", "tenant": "red"}),
        await ask(replica, bearer("m", **listed), {"user": "u", "tenant": "red"}),
    ]
    async with stream(replica.url, ticket=answers[-1].json()["ticket"]) as listening:
        assert listening.welcome["tenant"] == "red"

    assert [answer.status_code for answer in answers] == [403, 403, 200, 200]
    assert [answer.json()["code"] for answer in answers[:2]] == ["insufficient_scope", "tenant_forbidden"]
    assert 'scope="notify:ticket"' in answers[0].headers["www-authenticate"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/user"),
        ({"user": ""}, "/user"),
        ({"user": "a\x00"}, "/user"),
        ({"user": "u", "tenant": "a b"}, "/tenant"),
        ({"user": "u", "roles": ["r", ""]}, "/roles/1"),
        ({"user": "u", "topics": ["ok.*", "a..b"]}, "/topics/1"),
        ({"user": "u", "session_seconds": 0}, "/session_seconds"),
        ({"user": "u", "session_seconds": 90_000}, "/session_seconds"),
        ({"user": "u", "expires": 1}, "/expires"),
        ([], ""),
    ],
)
async def test_a_wish_that_breaks_a_rule_is_a_problem(replica: Replica, body: object, pointer: str) -> None:
    answer = await ask(replica, bearer("m", **MINTER), body)
    problem = answer.json()

    assert (answer.status_code, problem["code"]) == (422, "invalid_ticket_request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


async def test_the_demands_on_a_request_are_those_of_every_door(replica: Replica) -> None:
    async with httpx.AsyncClient(base_url=replica.url) as client:
        nobody = await client.post("/ticket")
        text = await client.post("/ticket", headers=bearer("m", **MINTER), content="user")
        broken = await client.post(
            "/ticket", headers={**bearer("m", **MINTER), "Content-Type": "application/json"}, content="{"
        )
        too_many = {"user": "u", "roles": [f"{'r' * 120}{number}" for number in range(100)]}
        large = await client.post("/ticket", headers=bearer("m", **MINTER), json=too_many)

    answers = (nobody, text, broken, large)
    codes = ["token_missing", "unsupported_media_type", "not_json", "ticket_too_large"]
    assert [answer.status_code for answer in answers] == [401, 415, 400, 413]
    assert [answer.json()["code"] for answer in answers] == codes


async def test_where_tickets_are_off_there_are_none() -> None:
    app = create_app(Settings(insecure=True, access=Access(tickets="off")))
    transport = httpx.ASGITransport(app)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://push.example") as client,
        app.router.lifespan_context(app),
    ):
        asked = await client.post("/ticket", headers=bearer())
        entered = await client.get("/events", params={"ticket": "v1.x.y"})
        stopped = await client.get("/events", params={"ticket": "v1.x.y"}, headers=ACCEPT)

    assert (asked.status_code, asked.json()["code"]) == (404, "tickets_off")
    assert (entered.status_code, entered.json()["code"]) == (401, "ticket_invalid")
    assert stopped.status_code == 204


async def test_logs_hold_no_ticket(replica: Replica) -> None:
    """Whether it opens something or is refused; `tests/leaks.py` looks at every log of every test."""
    ticket = await ticket_of(replica.url, bearer("log"))
    async with stream(replica.url, ticket=ticket):
        pass
    await refused(replica.url, params={"ticket": ticket}, headers={})
    await refused(replica.url, params={"ticket": ticket + "x"}, headers={})

    assert ticket.split(".")[1] not in json.dumps(replica.log_lines())
