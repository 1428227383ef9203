"""`Idempotency-Key`: a retry is answered as the first try was, and delivered once."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import DEADLINE_SECONDS, session
from tests.tokens import bearer


def keyed(key: str | bytes, **claims: Any) -> dict[str, Any]:
    """Headers with a key; with claims, of another caller."""
    headers: dict[str, Any] = {"Idempotency-Key": key}
    return headers | bearer(**claims) if claims else headers


async def test_a_repeat_gets_the_first_id_and_is_delivered_once(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "repeat") as client:
        first = await backend.post("/notify", json=notification("repeat"), headers=keyed("repeat"))
        second = await backend.post("/notify", json=notification("repeat"), headers=keyed("repeat"))
        end = await backend.post("/notify", json=notification("repeat"))
        received = [(await client.notification())["id"] for _ in range(2)]

    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert received == [first.json()["id"], end.json()["id"]]


async def test_a_repeat_is_not_replayed_to_a_session_that_resumes(replica: Replica, backend: httpx.AsyncClient) -> None:
    for _ in range(3):
        await backend.post("/notify", json=notification("resumer"), headers=keyed("resumer"))

    async with session(replica.ws_url, "resumer", position="earliest") as client:
        assert client.welcome["resume"]["replayed"] == 1


async def test_the_order_of_members_does_not_make_other_content(backend: httpx.AsyncClient) -> None:
    request = notification(data={"a": 1, "b": 2}, to={"users": ["x", "y"]})
    turned = {name: request[name] for name in reversed(request)} | {"data": {"b": 2, "a": 1}}

    first = await backend.post("/notify", json=request, headers=keyed("turned"))
    second = await backend.post("/notify", json=turned, headers=keyed("turned"))

    assert second.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Other"},
        {"body": "more"},
        {"type": "test.other"},
        {"link": "/x"},
        {"data": {"a": 1}},
        {"ttl_seconds": 60},
        {"collapse_key": "c"},
        {"to": {"users": ["nobody", "another"]}},
        {"to": {"users": ["nobody"], "exclude": {"users": ["x"]}}},
        {"to": {"topics": ["nobody"]}},
    ],
    ids=str,
)
async def test_the_key_of_other_content_is_422(backend: httpx.AsyncClient, change: dict[str, Any]) -> None:
    key = keyed(f"content {change}")
    first = await backend.post("/notify", json=notification(), headers=key)

    other = await backend.post("/notify", json=notification(**change), headers=key)
    again = await backend.post("/notify", json=notification(), headers=key)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert again.json()["id"] == first.json()["id"]


async def test_the_content_of_a_reused_key_is_not_delivered(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "reused") as client:
        for title in ("first", "other"):
            await backend.post("/notify", json=notification("reused", title=title), headers=keyed("reused"))
        await backend.post("/notify", json=notification("reused", title="end"))
        received = [(await client.notification())["title"] for _ in range(2)]

    assert received == ["first", "end"]


async def test_one_pair_of_quotes_around_the_key_does_not_count(backend: httpx.AsyncClient) -> None:
    bare, quoted, twice = [
        (await backend.post("/notify", json=notification(), headers=keyed(key))).json()["id"]
        for key in ("quotes", '"quotes"', '""quotes""')
    ]

    assert quoted == bare
    assert twice != bare


async def test_each_caller_has_keys_of_its_own(backend: httpx.AsyncClient) -> None:
    ids = {
        (await backend.post("/notify", json=notification(), headers=keyed("own", **claims))).json()["id"]
        for claims in ({"user": "one"}, {"user": "two"}, {"user": "one", "tenant": "other"})
    }

    assert len(ids) == 3


async def test_each_tenant_that_is_sent_into_has_keys_of_its_own(backend: httpx.AsyncClient) -> None:
    caller = keyed("into", scopes=["notify:send", "notify:any-tenant"])
    ids = {
        (await backend.post("/notify", json=notification(to={"users": ["u"], "tenant": name}), headers=caller)).json()[
            "id"
        ]
        for name in ("into-a", "into-b")
    }

    assert len(ids) == 2


async def test_concurrent_requests_with_one_key_make_one_delivery(replica: Replica, backend: httpx.AsyncClient) -> None:
    async with session(replica.ws_url, "race") as client:
        posts = [backend.post("/notify", json=notification("race"), headers=keyed("race")) for _ in range(20)]
        answers = await asyncio.gather(*posts)
        end = (await backend.post("/notify", json=notification("race"))).json()["id"]
        received = [(await client.notification())["id"] for _ in range(2)]

    assert {answer.status_code for answer in answers} == {202}
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert {answer.json()["id"] for answer in answers} == {received[0]}
    assert received[1] == end


async def test_a_key_is_free_again_after_its_span(start_replica: Any) -> None:
    replica = start_replica(IDEMPOTENCY__SPAN_SECONDS="1")
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer() | keyed("span")) as backend:
        first = (await backend.post("/notify", json=notification())).json()["id"]

        async with asyncio.timeout(DEADLINE_SECONDS):
            while (answer := await backend.post("/notify", json=notification(title="Other"))).status_code != 202:
                pass
        assert answer.json()["id"] != first


@pytest.mark.parametrize("key", ["k", "k" * 255, '"', "a b/c~!", "é".encode("latin-1")], ids=repr)
async def test_a_printable_key_of_up_to_255_characters_is_taken(backend: httpx.AsyncClient, key: str | bytes) -> None:
    answer = await backend.post("/notify", json=notification(), headers=keyed(key))

    assert answer.status_code == 202


@pytest.mark.parametrize("key", ["", '""', "k" * 256, "a\tb", b"a\x85b", b"a\xa0b\xad"], ids=repr)
@pytest.mark.parametrize("path", ["/notify", "/notify/batch"])
async def test_another_key_is_400(backend: httpx.AsyncClient, path: str, key: str | bytes) -> None:
    body: Any = notification() if path == "/notify" else [notification()]

    answer = await backend.post(path, json=body, headers=keyed(key))

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")


# -- batches ---------------------------------------------------------------------------------------------------------


async def test_each_item_of_a_batch_may_have_a_key(replica: Replica, backend: httpx.AsyncClient) -> None:
    batch = [notification("items", idempotency_key=f"item-{number}") for number in range(3)]
    async with session(replica.ws_url, "items") as client:
        first = (await backend.post("/notify/batch", json=batch)).json()["results"]
        again = (await backend.post("/notify/batch", json=[*batch, notification("items")])).json()["results"]
        received = [(await client.notification())["id"] for _ in range(4)]

    assert [result["id"] for result in again[:3]] == [result["id"] for result in first]
    assert [result.get("replayed") for result in again] == [True, True, True, None]
    assert received == [result["id"] for result in [*first, again[3]]]


async def test_the_header_of_a_batch_gives_each_item_a_key_with_its_index(backend: httpx.AsyncClient) -> None:
    batch = [notification(title="0"), notification(title="1")]
    results = (await backend.post("/notify/batch", json=batch, headers=keyed('"by-index"'))).json()["results"]

    again = (await backend.post("/notify/batch", json=batch, headers=keyed("by-index"))).json()["results"]
    alone = await backend.post("/notify", json=batch[1], headers=keyed("by-index/1"))

    assert [result["id"] for result in again] == [result["id"] for result in results]
    assert alone.headers["idempotent-replayed"] == "true"
    assert alone.json()["id"] == results[1]["id"]


async def test_the_key_of_an_item_wins_over_the_header(backend: httpx.AsyncClient) -> None:
    batch = [notification(idempotency_key="item wins")]
    (result,) = (await backend.post("/notify/batch", json=batch, headers=keyed("loses"))).json()["results"]

    by_item = await backend.post("/notify", json=notification(), headers=keyed("item wins"))
    by_header = await backend.post("/notify", json=notification(), headers=keyed("loses/0"))

    assert by_item.json()["id"] == result["id"]
    assert by_header.json()["id"] != result["id"]


async def test_a_key_twice_in_a_batch_is_a_repeat_or_a_conflict(backend: httpx.AsyncClient) -> None:
    batch = [notification(title=title, idempotency_key="twice") for title in ("a", "a", "b")]

    answer = await backend.post("/notify/batch", json=batch)

    first, repeat, conflict = answer.json()["results"]
    assert answer.status_code == 207
    assert repeat == {"index": 1, "status": 202, "id": first["id"], "replayed": True}
    assert (conflict["status"], conflict["problem"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("key", "code"), [("", "too_short"), ("k" * 256, "too_long"), ("a\nb", "not_printable"), (1, "wrong_type")]
)
async def test_a_bad_key_of_an_item_is_the_items_problem(backend: httpx.AsyncClient, key: object, code: str) -> None:
    answer = await backend.post("/notify/batch", json=[notification(idempotency_key=key), notification()])

    bad, good = answer.json()["results"]
    assert (bad["status"], good["status"]) == (422, 202)
    assert bad["problem"]["errors"][0] | {"detail": ""} == {"pointer": "/idempotency_key", "code": code, "detail": ""}
