"""`notifier dlq`: dead letters are seen, sent again and dropped, and those not meant stay as they were."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aio_pika.abc import AbstractIncomingMessage

from tests.broker.builders import short
from tests.ingress.builders import notification
from tests.service.client import eventually, session
from tests.service.command import Ended, run
from tests.service.conftest import StartReplica
from tests.service.publisher import IN_MICROSECONDS, UNDECODABLE_PROPERTIES, Publisher, publisher


class Letters:
    """The dead letters of one prefix."""

    def __init__(self, amqp_url: str, prefix: str, backend: Publisher) -> None:
        self.target = ("--amqp", amqp_url, "--prefix", prefix)
        self.backend = backend

    async def add(self, *ids: str, code: str = "not_json", body: bytes = b"{", **properties: Any) -> None:
        """Dead letters as the queue door writes them."""
        for message_id in ids:
            headers = {
                "x-notifier-error-code": code,
                "x-notifier-error": f"about {message_id}",
                "x-notifier-error-at": datetime.now(UTC) - timedelta(hours=3, minutes=5),
                **properties.get("headers", {}),
            }
            await self.backend.send(
                body,
                message_id=message_id,
                exchange=self.backend.names.dead_letters,
                **properties | {"headers": headers},
            )

    async def add_broken(self, message_id: str, body: bytes = b"broken") -> None:
        """One that breaks a reader that does not know better."""
        exchange = self.backend.names.dead_letters
        await self.backend.send_wild(body, IN_MICROSECONDS, message_id=message_id, exchange=exchange)

    async def dlq(self, verb: str, *arguments: str) -> Ended:
        return await run("dlq", verb, *self.target, *arguments)

    async def listed(self, *arguments: str) -> list[dict[str, Any]]:
        ended = await self.dlq("list", "--json", *arguments)
        assert ended.code == 0
        return [json.loads(line) for line in ended.lines]

    async def ids(self) -> list[str]:
        """What is in the queue, in its order."""
        return [letter["message_id"] for letter in await self.listed("--limit", "10000")]

    async def requests(self, count: int) -> list[AbstractIncomingMessage]:
        """What has come back to the queue of requests; it stays there."""
        return await self.backend.taken(self.backend.names.requests, count)


@pytest.fixture
async def letters(amqp_url: str, prefix: str) -> AsyncIterator[Letters]:
    async with publisher(amqp_url, prefix) as backend:
        yield Letters(amqp_url, prefix, backend)


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_list_has_a_line_for_each(letters: Letters) -> None:
    await letters.add("first", body=b"12345")
    await letters.backend.send(b"", message_id="second", key="acme.send", expiration="1")
    await eventually(lambda: letters.backend.holds(letters.backend.names.dead, 2))

    table = await letters.dlq("list")
    listed = await letters.listed()

    title, first, second = (line.split() for line in table.lines)
    assert title == ["N", "message", "id", "routing", "key", "code", "age", "bytes"]
    assert first == ["1", "first", "default.send", "not_json", "3h", "5"]
    assert [*second[:4], *second[5:]] == ["2", "second", "acme.send", "expired", "0"]
    assert {**listed[0], "age_seconds": 0} == {
        "number": 1,
        "message_id": "first",
        "routing_key": "default.send",
        "code": "not_json",
        "error": "about first",
        "undecodable": None,
        "age_seconds": 0,
        "bytes": 5,
    }
    assert (listed[1]["code"], listed[1]["error"]) == ("expired", None)


async def test_looking_changes_nothing(letters: Letters) -> None:
    ids = [str(number) for number in range(120)]
    await letters.add(*ids[:60])
    await letters.add_broken(ids[60])
    await letters.add(*ids[61:])

    few = await letters.dlq("list", "--limit", "7")
    await letters.dlq("show", "100")
    await letters.dlq("show", "--id", "3")

    assert len(few.lines) == 8
    assert few.err == "7 of 120; --limit shows more\n"
    assert len(await letters.listed()) == 100
    assert await letters.ids() == ids


async def test_show_prints_one_whole(letters: Letters) -> None:
    await letters.add("a", "b")
    await letters.add("c", body=b'{"to": "M\xc3\xbcller",\n"x": 1}\xff', headers={"traceparent": "00-1"}, app_id="shop")

    by_number, by_id = await letters.dlq("show", "--id", "c"), await letters.dlq("show", "3")
    body = await letters.dlq("show", "2", "--body")

    assert by_number.lines[:8] == by_id.lines[:8]
    for fact in ("message id:        c", "code:              not_json", "error:             about c", "app id:"):
        assert fact in by_number.out
    assert "header:            traceparent: 00-1" in by_number.lines
    assert by_number.out.endswith('\n\n{"to": "Müller",\n"x": 1}\\xff\n')
    assert body.out == "{"


async def test_a_long_body_is_cut_and_can_be_had(letters: Letters) -> None:
    await letters.add("long", body=b"x" * 5_000_000)

    shown, body = await letters.dlq("show", "1"), await letters.dlq("show", "1", "--body")

    assert len(shown.out) < 70_000
    assert shown.lines[-1] == "… 4934464 more bytes; --body writes all"
    assert body.out == "x" * 5_000_000


async def test_what_a_sender_wrote_cannot_command_the_terminal(letters: Letters) -> None:
    await letters.add("\x1b[2J", code="\x07", body=b"\x1b]0;title\x07", headers={"k\r": "\x1b[31m"})

    outputs = [(await letters.dlq("list")).out, (await letters.dlq("show", "1")).out]
    outputs.append((await letters.dlq("drop", "1", "--yes")).out)

    assert not any(control in output for output in outputs for control in "\x1b\x07\r")


# -- replaying ---------------------------------------------------------------------------------------------------------


async def test_replay_sends_the_message_as_it_was(letters: Letters) -> None:
    headers = {"traceparent": "00-1", "x-notifier-user-id": "shop", "x-notifier-headers-left-out": "k"}
    sent: dict[str, Any] = {
        "content_type": "application/json",
        "correlation_id": "c",
        "app_id": "shop",
        "message_type": "t",
    }
    await letters.add("m", key="acme.broadcast", headers=headers, **sent)
    await letters.backend.send(b"expired", message_id="e", key="acme.send", expiration="1", headers={"own": 1})
    await eventually(lambda: letters.backend.holds(letters.backend.names.dead, 2))

    ended = await letters.dlq("replay", "--all")
    first, second = await letters.requests(2)

    assert (ended.code, ended.lines) == (0, ["replayed: 1 m", "replayed: 2 e"])
    assert (first.message_id, first.routing_key, first.body, first.headers) == (
        "m",
        "acme.broadcast",
        b"{",
        {"traceparent": "00-1"},
    )
    assert (first.content_type, first.correlation_id, first.app_id, first.type) == (
        "application/json",
        "c",
        "shop",
        "t",
    )
    assert (second.message_id, second.routing_key, second.body, second.headers) == (
        "e",
        "acme.send",
        b"expired",
        {"own": 1},
    )
    assert (second.expiration, second.delivery_mode) == (None, 2)
    assert await letters.ids() == []


@pytest.mark.parametrize(
    ("selection", "replayed"),
    [
        (["2", "4"], ["b", "d"]),
        (["--id", "a", "--id", "d"], ["a", "d"]),
        (["--code", "x"], ["b", "c"]),
        (["--all", "--limit", "1"], ["a", "b", "c", "d", "e"]),
        (["--code", "x", "--limit", "1"], []),
    ],
)
async def test_only_those_meant_are_replayed(letters: Letters, selection: Sequence[str], replayed: list[str]) -> None:
    """The limit is on those that are left: what comes behind as many is not looked at."""
    await letters.add("a")
    await letters.add("b", "c", code="x")
    await letters.add("d", "e")

    ended = await letters.dlq("replay", *selection)
    requests = await letters.requests(len(replayed))

    assert ended.code == (0 if replayed else 1)
    assert [request.message_id for request in requests] == replayed
    assert await letters.ids() == [each for each in "abcde" if each not in replayed]


async def test_a_letter_that_has_no_queue_to_go_to_stays(letters: Letters) -> None:
    await letters.add("a", "b")
    await letters.backend.unbind(letters.backend.names.requests, letters.backend.names.ingest)

    ended = await letters.dlq("replay", "--all")

    assert (ended.code, ended.out) == (1, "")
    assert [line.partition(": nothing is bound")[0] for line in ended.err.splitlines()] == [
        "not replayed: 1 a",
        "not replayed: 2 b",
    ]
    assert await letters.ids() == ["a", "b"]


async def test_what_was_refused_is_delivered_once_it_is_mended(
    start_replica: StartReplica, amqp_url: str, prefix: str
) -> None:
    """A message without an id has one as a dead letter."""
    replica = start_replica(QUEUE__URL=amqp_url, BROKER__PREFIX=prefix)
    async with publisher(amqp_url, prefix) as backend, session(replica.ws_url, "mended") as client:
        await backend.send_wild(notification("mended"), ("message_id", short(b"")))
        await eventually(lambda: backend.holds(backend.names.dead, 1))
        letters = Letters(amqp_url, prefix, backend)
        (listed,) = await letters.listed()
        ended = await letters.dlq("replay", "--code", "message_id_missing")

        assert (await client.notification())["title"] == "Hello"
    assert (listed["code"], listed["age_seconds"] < 60) == ("message_id_missing", True)
    assert ended.lines == [f"replayed: 1 {listed['message_id']}"]


# -- dropping ----------------------------------------------------------------------------------------------------------


async def test_drop_takes_out_those_meant(letters: Letters) -> None:
    await letters.add("a", "b", "c", "d")

    ended = await letters.dlq("drop", "1", "3", "--yes")

    assert (ended.code, ended.lines) == (0, ["dropped: 1 a", "dropped: 3 c"])
    assert await letters.ids() == ["b", "d"]


async def test_drop_asks_and_nobody_answers(letters: Letters) -> None:
    await letters.add("a")

    ended = await letters.dlq("drop", "--all")

    assert (ended.code, ended.out) == (2, "")
    assert "--yes" in ended.err
    assert await letters.ids() == ["a"]


# -- what cannot be decoded --------------------------------------------------------------------------------------------


async def test_a_letter_that_cannot_be_decoded_is_seen_and_hides_nobody(letters: Letters) -> None:
    await letters.add_broken("poison", b"its body")
    await letters.add("a", "b")

    listed, shown, table = await letters.listed(), await letters.dlq("show", "1"), await letters.dlq("list")

    assert [(each["message_id"], each["number"]) for each in listed] == [("poison", 1), ("a", 2), ("b", 3)]
    assert listed[0]["undecodable"] == "timestamp: year 58851 is out of range"
    assert "cannot be decoded" in table.lines[1]
    assert shown.lines[1] == "cannot be decoded: timestamp: year 58851 is out of range"
    assert shown.lines[-1] == "its body"


async def test_a_letter_that_cannot_be_decoded_is_not_replayed_and_can_be_dropped(letters: Letters) -> None:
    for number, properties in enumerate(UNDECODABLE_PROPERTIES):
        exchange = letters.backend.names.dead_letters
        await letters.backend.send_wild(b"broken", properties, message_id=f"poison-{number}", exchange=exchange)
    await letters.add("a", "b")
    broken = [f"poison-{number}" for number in range(len(UNDECODABLE_PROPERTIES))]

    replayed = await letters.dlq("replay", "--all")
    left = await letters.ids()
    dropped = await letters.dlq("drop", "--code", "unknown", "--yes")

    assert (replayed.code, replayed.lines) == (1, ["replayed: 8 a", "replayed: 9 b"])
    assert [line.partition(" cannot be decoded: ")[0] for line in replayed.err.splitlines()] == [
        f"not replayed: {number} {message_id}:" for number, message_id in enumerate(broken, 1)
    ]
    assert [request.message_id for request in await letters.requests(2)] == ["a", "b"]
    assert left == broken
    assert (dropped.code, await letters.ids()) == (0, [])


# -- arguments ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "say which letters"),
        (["show", "1", "--id", "a"], "one of these"),
        (["replay"], "say which letters"),
        (["replay", "--all", "--code", "x"], "one of these"),
        (["drop", "--yes"], "say which letters"),
        (["show", "0"], "not a positive number"),
        (["list", "--limit", "0"], "not a positive number"),
        (["list", "--amqp", "http://127.0.0.1"], "--amqp takes amqp://"),
    ],
)
async def test_wrong_arguments_are_said_to_be(arguments: Sequence[str], words: str) -> None:
    """Before anything is connected to."""
    ended = await run("dlq", arguments[0], "--amqp", "amqp://127.0.0.1:1", *arguments[1:])

    assert ended.code == 2
    assert words in ended.err


@pytest.mark.parametrize(
    "verb", [["show", "9"], ["show", "--id", "x"], ["replay", "--code", "x"], ["drop", "9", "--yes"]]
)
async def test_nothing_of_the_kind_is_a_failure(letters: Letters, verb: Sequence[str]) -> None:
    await letters.add("a")

    ended = await letters.dlq(*verb)

    assert (ended.code, ended.out, ended.err) == (1, "", "notifier: there is no such dead letter\n")
    assert await letters.ids() == ["a"]


async def test_no_dead_letters_is_good_news(letters: Letters) -> None:
    assert (await letters.dlq("list")).out == "there are no dead letters\n"


async def test_a_broker_that_is_not_there_is_a_failure_without_its_password(amqp_url: str, prefix: str) -> None:
    away = await run("dlq", "list", "--amqp", "amqp://me:secret@127.0.0.1:1")
    empty = await run("dlq", "list", "--amqp", amqp_url, "--prefix", prefix)

    assert (away.code, empty.code) == (1, 1)
    assert "AMQPConnectionError" in away.err
    assert "secret" not in away.err
    assert f"{prefix}.dead.v1" in empty.err


async def test_the_settings_say_where_the_queue_is(letters: Letters, amqp_url: str, prefix: str) -> None:
    """As a process of its own, which has nothing but its environment."""
    await letters.add("a")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    given = {"NOTIFIER_INSECURE": "true", "NOTIFIER_QUEUE__URL": amqp_url, "NOTIFIER_BROKER__PREFIX": prefix}
    command = [sys.executable, "-m", "notifier", "dlq", "list", "--json"]

    def list_with(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        environment = inherited | settings
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    told = await asyncio.to_thread(list_with, given)
    lost = await asyncio.to_thread(list_with, {"NOTIFIER_INSECURE": "true"})

    assert (told.returncode, json.loads(told.stdout)["message_id"], told.stderr) == (0, "a", "")
    assert (lost.returncode, lost.stdout) == (2, "")
    assert "--amqp" in lost.stderr
