"""CloudEvents at both doors."""

import json
from typing import Any

import httpx
import pytest

from tests.ingress.builders import event, notification
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import session
from tests.service.conftest import StartReplica
from tests.service.publisher import publisher

EVENT = "application/cloudevents+json"
EVENTS = "application/cloudevents-batch+json"


async def post(
    backend: httpx.AsyncClient, path: str, value: object, media: str = EVENT, **headers: str
) -> httpx.Response:
    named = {"Content-Type": media, **{name.replace("_", "-"): text for name, text in headers.items()}}
    return await backend.post(path, content=json.dumps(value), headers=named)


async def test_an_event_is_sent_once_however_often_it_comes(replica: Replica, backend: httpx.AsyncClient) -> None:
    sent = event("event-once", id="once", source="/shop/orders")
    async with session(replica.ws_url, "event-once") as client:
        first = await post(backend, "/notify", sent)
        again = await post(backend, "/notify", sent, f"{EVENT}; charset=utf-8")
        other = await post(backend, "/notify", sent | {"source": "/shop/returns"})
        arrived = [frame["notification"]["id"] for frame in await client.drained()]

    assert (first.status_code, again.status_code, other.status_code) == (202, 202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert arrived == [first.json()["id"], other.json()["id"]]


async def test_an_event_that_says_something_else_under_its_key_is_refused(backend: httpx.AsyncClient) -> None:
    await post(backend, "/notify", event(id="reused"))
    answer = await post(backend, "/notify", event(id="reused", data=notification(title="another")))

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


async def test_a_batch_of_events_has_an_outcome_for_each(replica: Replica, backend: httpx.AsyncClient) -> None:
    events = [event("event-batch", id="b1"), event(id="b2", data={}), event("event-batch", id="b1")]
    async with session(replica.ws_url, "event-batch") as client:
        answer = await post(backend, "/notify/batch", events, EVENTS)
        arrived = [frame["notification"]["id"] for frame in await client.drained()]
    results = answer.json()["results"]

    assert (answer.status_code, [result["status"] for result in results]) == (207, [202, 422, 202])
    assert {violation["pointer"] for violation in results[1]["problem"]["errors"]} == {"/data/to", "/data/type"}
    assert arrived == [results[0]["id"]] == [results[2]["id"]]


@pytest.mark.parametrize(
    ("path", "media", "headers", "status", "code"),
    [
        ("/notify", EVENT, {"Idempotency_Key": "k"}, 400, "idempotency_key_invalid"),
        ("/notify/batch", EVENTS, {"Idempotency_Key": "k"}, 400, "idempotency_key_invalid"),
        ("/notify", EVENTS, {}, 415, "unsupported_media_type"),
        ("/notify/batch", EVENT, {}, 415, "unsupported_media_type"),
        ("/notify", "application/json", {}, 422, "invalid_notification"),
    ],
)
async def test_what_does_not_go_together_is_refused(
    backend: httpx.AsyncClient, path: str, media: str, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await post(backend, path, event() if path == "/notify" else [event()], media, **headers)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_events_come_through_the_queue(rabbitmq: RabbitMQ, prefix: str, start_replica: StartReplica) -> None:
    """The event's key counts, not the id of the message; an array is a batch of events; what is none is dead."""
    replica = start_replica(QUEUE__URL=rabbitmq.url(), BROKER__PREFIX=prefix)
    user = "event-queue"
    said: list[tuple[Any, str]] = [
        (event(user, id="q1"), EVENT),
        ([event(user, id="q1"), event(user, id="q2")], EVENTS),
        ([event(user, id="q3")], EVENT),
        (event(user, id="q4", specversion="0.3"), EVENT),
        (event(user, id="q5"), EVENT),
    ]
    async with publisher(rabbitmq.url(), prefix) as queue, session(replica.ws_url, user) as client:
        for body, media in said:
            await queue.send(body, content_type=media)
        letters = await queue.dead_letters(2)
        arrived = [await client.notification() for _ in range(3)]

    assert len({notification["id"] for notification in arrived}) == 3
    assert len(letters) == 2
