"""`POST /notify/batch`: its forms, its outcomes item by item, its limits."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.ingress.builders import notification
from tests.replica import Replica
from tests.service.client import session
from tests.tokens import bearer

LIMIT_BYTES = 4 * 1024 * 1024


def array(*requests: dict[str, Any]) -> str:
    return json.dumps(requests)


def lines(*requests: dict[str, Any]) -> str:
    return "".join(json.dumps(request) + "\n" for request in requests)


def padded(size_bytes: int) -> bytes:
    """A batch of one good item, as long as wanted: JSON may be padded with blanks."""
    body = json.dumps([notification()]).encode()
    return body + b" " * (size_bytes - len(body))


@pytest.mark.parametrize(
    ("media", "write"),
    [
        ("application/json", array),
        ("application/vnd.example+json; charset=utf-8", array),
        ("application/x-ndjson", lines),
        ("application/jsonl", lines),
    ],
)
async def test_a_batch_is_delivered_in_its_order(
    replica: Replica, backend: httpx.AsyncClient, media: str, write: Callable[..., str]
) -> None:
    user = f"order {media}"
    requests = [notification(user, title=str(number)) for number in range(5)]
    body = write(*requests)
    async with session(replica.ws_url, user) as client:
        answer = await backend.post("/notify/batch", content=body, headers={"Content-Type": media})
        received = [await client.notification() for _ in requests]

    results = answer.json()["results"]
    assert answer.status_code == 202
    assert results == [{"index": at, "status": 202, "id": one["id"]} for at, one in enumerate(received)]
    assert [one["title"] for one in received] == ["0", "1", "2", "3", "4"]


async def test_lines_may_be_blank_end_in_crlf_and_lack_the_last_newline(backend: httpx.AsyncClient) -> None:
    item = json.dumps(notification())
    body = f"\n{item}\r\n\r\n  \n{item}"

    answer = await backend.post("/notify/batch", content=body, headers={"Content-Type": "application/x-ndjson"})

    assert (answer.status_code, len(answer.json()["results"])) == (202, 2)


async def test_a_mixed_batch_is_207_with_an_outcome_for_each_item(replica: Replica, backend: httpx.AsyncClient) -> None:
    requests: list[Any] = [
        notification("mixed-batch", title="first"),
        notification("mixed-batch", type="BAD"),
        notification(to={"users": ["x"], "tenant": "elsewhere"}),
        "no object",
        notification(data={"text": "x" * 70_000}),
        notification(data={"a": {"b": {"c": {"d": {"e": {"f": {"g": {}}}}}}}}),
        notification("mixed-batch", title="last"),
    ]
    async with session(replica.ws_url, "mixed-batch") as client:
        answer = await backend.post("/notify/batch", json=requests)
        received = [await client.notification() for _ in range(2)]

    results = answer.json()["results"]
    assert answer.status_code == 207
    assert [result["index"] for result in results] == list(range(7))
    assert [result["status"] for result in results] == [202, 422, 403, 422, 413, 422, 202]
    assert [result.get("problem", {}).get("code") for result in results] == [
        None,
        "invalid_notification",
        "tenant_forbidden",
        "invalid_notification",
        "sealed_too_large",
        "invalid_notification",
        None,
    ]
    assert [one["id"] for one in received] == [results[0]["id"], results[6]["id"]]


async def test_the_problem_of_an_item_points_into_the_item(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify/batch", json=[notification(), notification(to={"users": ["a", ""]})])

    problem = answer.json()["results"][1]["problem"]
    assert [error["pointer"] for error in problem["errors"]] == ["/to/users/1"]
    assert {"type", "title", "status", "detail", "code"} <= problem.keys()


@pytest.mark.parametrize(
    "item", ['{"a":1,"a":2}', '{"to":{"users":["\\ud800"]},"type":"t","title":"t"}', "NaN", "1e400"]
)
async def test_an_item_of_impossible_json_spoils_no_other(backend: httpx.AsyncClient, item: str) -> None:
    body = f"[{json.dumps(notification())},{item}]"

    answer = await backend.post("/notify/batch", content=body, headers={"Content-Type": "application/json"})

    assert [result["status"] for result in answer.json()["results"]] == [202, 422]


async def test_a_batch_in_which_every_item_is_bad_is_207(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify/batch", json=[{}, {}])

    assert answer.status_code == 207
    assert [result["status"] for result in answer.json()["results"]] == [422, 422]


async def test_a_thousand_items_are_taken(replica: Replica, backend: httpx.AsyncClient) -> None:
    requests = [notification("thousand", title=str(number)) for number in range(1_000)]
    async with session(replica.ws_url, "thousand") as client:
        answer = await backend.post("/notify/batch", json=requests)
        titles = [(await client.notification())["title"] for _ in requests]

    assert answer.status_code == 202
    assert len({result["id"] for result in answer.json()["results"]}) == 1_000
    assert titles == [str(number) for number in range(1_000)]


@pytest.mark.parametrize(("media", "write"), [("application/json", array), ("application/x-ndjson", lines)])
async def test_one_item_more_is_413_and_sends_nothing(
    replica: Replica, backend: httpx.AsyncClient, media: str, write: Callable[..., str]
) -> None:
    user = f"more {media}"
    body = write(*[notification(user)] * 1_001)
    async with session(replica.ws_url, user) as client:
        answer = await backend.post("/notify/batch", content=body, headers={"Content-Type": media})
        end = (await backend.post("/notify", json=notification(user, title="end"))).json()

        assert (answer.status_code, answer.json()["code"]) == (413, "batch_too_large")
        assert (await client.notification())["id"] == end["id"]


async def test_four_mebibytes_are_taken_and_a_byte_more_is_413(backend: httpx.AsyncClient) -> None:
    json_type = {"Content-Type": "application/json"}

    full = await backend.post("/notify/batch", content=padded(LIMIT_BYTES), headers=json_type)
    over = await backend.post("/notify/batch", content=padded(LIMIT_BYTES + 1), headers=json_type)

    assert full.status_code == 202
    assert (over.status_code, over.json()["code"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("media", "body", "status", "code"),
    [
        ("application/json", "[]", 422, "invalid_notification"),
        ("application/json", "{}", 422, "invalid_notification"),
        ("application/json", "", 400, "not_json"),
        ("application/json", "[{},", 400, "not_json"),
        ("application/x-ndjson", "", 422, "invalid_notification"),
        ("application/x-ndjson", "\n\n", 422, "invalid_notification"),
        ("application/x-ndjson", '{"a":\n1}', 400, "not_json"),
        ("text/plain", "[]", 415, "unsupported_media_type"),
    ],
)
async def test_a_batch_that_cannot_be_read_is_refused_as_a_whole(
    backend: httpx.AsyncClient, media: str, body: str, status: int, code: str
) -> None:
    answer = await backend.post("/notify/batch", content=body, headers={"Content-Type": media})

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_line_that_is_not_json_is_named(backend: httpx.AsyncClient) -> None:
    body = lines(notification()) + "{oops}\n"

    answer = await backend.post("/notify/batch", content=body, headers={"Content-Type": "application/jsonl"})

    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("line 2: ")


async def test_a_batch_needs_the_scope_to_send(backend: httpx.AsyncClient) -> None:
    answer = await backend.post("/notify/batch", json=[notification()], headers=bearer(scopes=[]))

    assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope")


async def test_everyone_in_an_item_needs_the_scope_to_broadcast(backend: httpx.AsyncClient) -> None:
    requests = [notification(), notification(to={"everyone": True})]

    answer = await backend.post("/notify/batch", json=requests, headers=bearer(scopes=["notify:send"]))

    assert [result["status"] for result in answer.json()["results"]] == [202, 403]


async def test_an_item_that_breaks_very_many_rules_gets_a_short_answer(backend: httpx.AsyncClient) -> None:
    item = notification(**{f"unknown-{number}": 0 for number in range(20_000)})

    answer = await backend.post("/notify/batch", json=[item])

    assert len(answer.json()["results"][0]["problem"]["errors"]) == 100
