"""`notifier why`: did Alice get it? Two replicas on RabbitMQ are asked, and what they say is true."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import eventually, session
from tests.service.command import Ended, run
from tests.tokens import bearer


@pytest.fixture(scope="module")
def replicas(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    """Two replicas with one journal."""
    directory = tmp_path_factory.mktemp("why")
    settings = {"NOTIFIER_JOURNAL__URL": rabbitmq.url(), "NOTIFIER_BROKER__PREFIX": directory.name}
    running = [Replica(directory / f"replica-{number}.log", settings) for number in range(2)]
    yield running
    for replica in running:
        replica.stop()


async def why(notification_id: str, user: str, *replicas: Replica, options: tuple[str, ...] = ()) -> Ended:
    asked = [option for replica in replicas for option in ("--operations", replica.operations_url)]
    return await run("why", notification_id, "--user", user, *asked, *options)


async def send(replica: Replica, **notification: Any) -> str:
    async with httpx.AsyncClient(base_url=replica.url, headers=bearer(), verify=False) as backend:
        answer = await backend.post("/notify", json={"type": "t", "title": "hush", **notification})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_what_was_written_on_one_replica_is_found_by_asking_both(replicas: list[Replica]) -> None:
    first, second = replicas
    async with session(second.ws_url, "alice") as alice:
        sent = await send(first, to={"users": ["alice"]})
        await alice.notification()
        asked = await why(sent, "alice", first, second)
        said = json.loads((await why(sent, "alice", first, second, options=("--json",))).out)
        missed = await send(first, to={"users": ["alice"], "exclude": {"users": ["bob"]}})
        await alice.notification()
        excluded = await why(missed, "bob", first, second)
    await _closed(second, "alice")
    after = json.loads((await why(sent, "alice", first, second, options=("--json",))).out)

    assert asked.code == 0
    assert asked.lines[-1].startswith("It was written to 1 session of alice on 1 replica, first by 20")
    assert [line for line in asked.lines if line.endswith("alice is not connected here")]
    assert "hush" not in asked.out
    assert (said["verdict"], [len(reply["answer"]["sessions"]) for reply in said["replicas"]]) == ("written", [0, 1])
    assert said["replicas"][0]["answer"]["position"] == said["replicas"][1]["answer"]["position"]
    assert (excluded.code, excluded.lines[-1]) == (1, "Bob is excluded from it.")
    (gone,) = after["replicas"][1]["answer"]["sessions"]
    assert after["verdict"] == "written"
    assert (gone["session"], gone["state"], gone["code"]) == (alice.welcome["session"], "closed", 1000)
    assert gone["written_by"] <= gone["closed_at"]


async def test_who_was_not_there_is_said_to_have_left_and_gets_it_on_return(replicas: list[Replica]) -> None:
    first, second = replicas
    async with session(first.ws_url, "carol") as carol:
        stood = carol.welcome["position"]
    await _closed(first, "carol")
    sent = await send(second, to={"users": ["carol"]})
    left = await why(sent, "carol", first, second)
    async with session(second.ws_url, "carol"):
        before = await why(sent, "carol", first, second)
    async with session(second.ws_url, "carol", position=stood) as carol:
        await carol.notification()
        resumed = await why(sent, "carol", first, second)

    assert (left.code, "carol left before it came".capitalize() in left.lines[-1]) == (1, True)
    assert (before.code, "connected after it without asking" in before.lines[-1]) == (1, True)
    assert resumed.code == 0


async def test_what_nobody_knows_is_not_made_up(replicas: list[Replica]) -> None:
    first, second = replicas
    sent = await send(first, to={"users": ["dave"]})
    second_down = await run("why", sent, "--user", "dave", "--operations", first.operations_url, "--operations", ":1")
    never = await why(f"ffff{sent[4:]}", "dave", first, second)
    elsewhere = await why(sent, "dave", first, second, options=("--tenant", "red"))
    no_id = await why("x", "dave", first)

    assert (second_down.code, never.code, elsewhere.code, no_id.code) == (2, 3, 3, 2)
    assert "No replica has read it" in never.lines[-1]
    assert elsewhere.lines[-1] == "It is in the tenant default: ask with --tenant default."
    second.stop()
    down = await why(sent, "dave", first, second)
    assert down.code == 3
    assert down.lines[-1].startswith("1 of 2 replicas did not answer; of the others: dave is not connected")


async def _closed(replica: Replica, user: str) -> None:
    """Wait until a replica has seen that its client is gone."""

    async def is_gone() -> bool:
        async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
            return not (await operator.get("/sessions", params={"user": user})).json()["sessions"]

    await eventually(is_gone)
