"""Sending by queue: what is accepted and in which order, what is refused and how, and what a fault may not do."""

import asyncio
import json
import re
import signal
import struct
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aio_pika.abc import AbstractIncomingMessage
from aiormq.exceptions import PublishError

from notifier.broker.topology import prepare, request_topology
from tests.broker.builders import nested, short, table
from tests.broker.builders import time as at
from tests.ingress.builders import notification
from tests.rabbitmq import RabbitMQ
from tests.replica import Replica
from tests.service.client import Client, complaints, eventually, session
from tests.service.command import run
from tests.service.conftest import StartReplica
from tests.service.publisher import (
    DEADLINE_SECONDS,
    IN_MICROSECONDS,
    UNDECODABLE_PROPERTIES,
    Publisher,
    address_of_nobody,
    publisher,
)
from tests.tcp_proxy import TcpProxy

README = Path(__file__).parents[2] / "README.md"
MODULE_PREFIX = f"q{uuid.uuid4().hex[:8]}"
TAKEOVER_SECONDS = 30.0


@pytest.fixture(scope="module")
def replica(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One replica with its journal and its queue on the broker."""
    settings = {"NOTIFIER_JOURNAL__URL": amqp_url, "NOTIFIER_BROKER__PREFIX": MODULE_PREFIX}
    replica = Replica(tmp_path_factory.mktemp("queue") / "replica.log", settings)
    yield replica
    replica.stop()


@pytest.fixture
async def backend(replica: Replica, amqp_url: str) -> AsyncIterator[Publisher]:
    """A backend that sends to the module's replica."""
    async with publisher(amqp_url, MODULE_PREFIX) as backend:
        yield backend


@pytest.fixture
def user() -> str:
    """A user of the test's own."""
    return f"user-{uuid.uuid4().hex[:8]}"


async def metric(replica: Replica, name: str) -> float:
    """One number of the operations port."""
    async with httpx.AsyncClient(base_url=replica.operations_url, verify=False) as operator:
        lines = (await operator.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.split()[0] in (name, f"{name}_total")))


async def titles(client: Client, count: int) -> list[str]:
    """The titles of the next notifications."""
    return [(await client.notification())["title"] for _ in range(count)]


def numbered(user: str, count: int) -> list[dict[str, Any]]:
    return [notification(user, title=str(number)) for number in range(count)]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def reasons(letters: Sequence[AbstractIncomingMessage]) -> dict[str | None, Any]:
    """Why each message became a dead letter, by its id."""
    return {letter.message_id: letter.headers.get("x-notifier-error-code") for letter in letters}


# -- accepted ----------------------------------------------------------------------------------------------------------


async def test_a_message_is_delivered_as_a_post_would_be(replica: Replica, backend: Publisher, user: str) -> None:
    sent = notification(user, type="order.shipped", body="On its way", link="/orders/1", data={"order": 1})
    async with session(replica.ws_url, user) as client:
        await backend.send(sent, content_type="application/json; charset=utf-8", content_encoding="utf-8")
        received = await client.notification()

    assert {name: received[name] for name in sent.keys() - {"to"}} == {k: v for k, v in sent.items() if k != "to"}


async def test_the_example_of_the_readme_works(replica: Replica, amqp_url: str) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (example,) = [each for each in examples if "aio_pika" in each]
    example = example.replace("amqp://guest:guest@127.0.0.1/", amqp_url).replace(
        "notifier.ingest", f"{MODULE_PREFIX}.ingest"
    )
    async with session(replica.ws_url, "alice") as client:
        backend = await asyncio.create_subprocess_exec(sys.executable, "-c", example)

        assert await backend.wait() == 0
        assert (await client.notification())["type"] == "order.shipped"


async def test_send_by_queue_says_what_the_broker_said(replica: Replica, amqp_url: str, user: str) -> None:
    target = ("--amqp", amqp_url, "--prefix", MODULE_PREFIX)
    async with session(replica.ws_url, user, tenant="acme") as client:
        sent = await run(
            "send", *target, "--tenant", "acme", "--user", user, "--title", "one", "--idempotency-key", user
        )
        heard = await run("send", *target, "--tenant", "acme", "--everyone", "--title", "two", "--wait")

        assert await titles(client, 2) == ["one", "two"]
    assert (sent.code, sent.err, heard.code, heard.err) == (0, "", 0, "")
    assert json.loads(sent.out) == {"message_id": user, "routing_key": "acme.send", "status": "confirmed"}
    assert json.loads(heard.out).keys() == {"id", "tenant", "accepted_at", "status"}


async def test_send_by_queue_waits_for_the_problem(backend: Publisher, amqp_url: str) -> None:
    ended = await run("send", "--amqp", amqp_url, "--prefix", MODULE_PREFIX, "--user", "a", "--type", "BAD", "--wait")

    assert (ended.code, json.loads(ended.out)["code"], ended.err) == (1, "invalid_notification", "")
    await backend.dead_letters(1)


async def test_an_array_is_delivered_in_its_order(replica: Replica, backend: Publisher, user: str) -> None:
    async with session(replica.ws_url, user) as client:
        await backend.send(numbered(user, 1_000))

        assert await titles(client, 1_000) == numbers(1_000)


async def test_the_order_of_a_publisher_is_kept(replica: Replica, backend: Publisher, user: str) -> None:
    async with session(replica.ws_url, user) as client:
        await backend.send_many(numbered(user, 1_000))

        assert await titles(client, 1_000) == numbers(1_000)


async def test_a_message_that_comes_twice_is_delivered_once(replica: Replica, backend: Publisher, user: str) -> None:
    one, items = notification(user, title="one"), [notification(user, title="two"), notification(user, title="three")]
    async with session(replica.ws_url, user) as client:
        for _ in range(2):
            await backend.send(one, message_id=f"{user} one")
            await backend.send(items, message_id=f"{user} items")
        await backend.send(items[1], message_id=f"{user} items/1")
        await backend.send(notification(user, title="end"))

        assert await titles(client, 4) == ["one", "two", "three", "end"]


async def test_the_user_that_the_broker_knows_is_the_caller(replica: Replica, backend: Publisher, user: str) -> None:
    """Two callers may use the same message id. Checklist 3.3.24."""
    async with session(replica.ws_url, user) as client:
        await backend.send(notification(user, title="guest"), message_id=user, user_id="guest")
        await backend.send(notification(user, title="nobody"), message_id=user)

        assert await titles(client, 2) == ["guest", "nobody"]


async def test_the_routing_key_says_the_tenant(replica: Replica, backend: Publisher, user: str) -> None:
    async with session(replica.ws_url, user, tenant="acme") as inside, session(replica.ws_url, user) as outside:
        await backend.send(notification(user, to={"users": [user], "tenant": "acme"}, title="named"), key="acme.send")
        await backend.send(notification(user, title="theirs"), key="acme.send")
        await backend.send(notification(user, title="ours"))

        assert await titles(inside, 2) == ["named", "theirs"]
        assert await titles(outside, 1) == ["ours"]


async def test_everyone_needs_the_routing_key_for_it(replica: Replica, backend: Publisher, user: str) -> None:
    async with session(replica.ws_url, user, tenant="loud") as client:
        refused = await backend.send(notification(to={"everyone": True}, title="refused"), key="loud.send")
        await backend.send(notification(to={"everyone": True}, title="heard"), key="loud.broadcast")
        (letter,) = await backend.dead_letters(1)

        assert await titles(client, 1) == ["heard"]
    assert reasons([letter]) == {refused: "broadcast_forbidden"}


async def test_one_replica_with_the_embedded_journal_takes_requests(
    start_replica: StartReplica, amqp_url: str, prefix: str, user: str
) -> None:
    """And where the setting says so, it takes messages without an id."""
    replica = start_replica(QUEUE__URL=amqp_url, BROKER__PREFIX=prefix, QUEUE__REQUIRE_MESSAGE_ID="false")
    async with publisher(amqp_url, prefix) as backend, session(replica.ws_url, user) as client:
        await backend.send(notification(user, title="with"))
        await backend.send_wild(notification(user, title="without"), ("message_id", short(b"")))
        await backend.send_wild([notification(user, title="array")], ("message_id", short(b"")))

        assert await titles(client, 3) == ["with", "without", "array"]
        assert await backend.count(backend.names.dead) == 0


async def test_a_replica_whose_queue_is_off_takes_nothing(
    start_replica: StartReplica, amqp_url: str, prefix: str
) -> None:
    async with publisher(amqp_url, prefix) as backend:
        await backend.send(notification())
        start_replica(JOURNAL__URL=amqp_url, BROKER__PREFIX=prefix, QUEUE__URL="off")

        assert await backend.consumers(backend.names.requests) == 0
        assert await backend.count(backend.names.requests) == 1


# -- answered ----------------------------------------------------------------------------------------------------------


class Answers:
    """What comes back over direct reply-to (https://www.rabbitmq.com/docs/direct-reply-to)."""

    def __init__(self, backend: Publisher) -> None:
        self._backend = backend
        self._arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

    async def ask(self, body: object, **properties: Any) -> str:
        """Send something to be answered, on the channel that hears the answer."""
        return await self._backend.send(body, reply_to="amq.rabbitmq.reply-to", **properties)

    async def next(self) -> tuple[str | None, str | None, dict[str, Any]]:
        """Correlation id, media type and content of the next answer."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            answer = await self._arrived.get()
        return answer.correlation_id, answer.content_type, json.loads(answer.body)


@pytest.fixture
async def answers(backend: Publisher) -> Answers:
    answers = Answers(backend)
    await backend.hear_answers(answers._arrived.put_nowait)
    return answers


async def test_who_asks_is_told_what_became_of_it(
    replica: Replica, backend: Publisher, answers: Answers, user: str
) -> None:
    async with session(replica.ws_url, user) as client:
        for _ in range(2):
            await answers.ask(notification(user), message_id=user, correlation_id="a")
        first, repeat = await answers.next(), await answers.next()
        received = await client.notification()

    assert first == repeat
    assert first[:2] == ("a", "application/json")
    assert first[2].keys() == {"id", "tenant", "accepted_at", "status"}
    assert (first[2]["id"], first[2]["tenant"], first[2]["status"]) == (received["id"], "default", "queued")


async def test_who_asks_about_an_array_is_told_of_each_item(backend: Publisher, answers: Answers) -> None:
    await answers.ask([notification(), notification()])

    _, _, told = await answers.next()
    assert [(each["index"], each["status"]) for each in told["results"]] == [(0, 202), (1, 202)]


async def test_who_asks_is_told_what_is_wrong(backend: Publisher, answers: Answers) -> None:
    await answers.ask(notification(type="BAD"), correlation_id="bad")
    await answers.ask([notification(), notification(to={"users": ["a"], "tenant": "x"})], correlation_id="array")
    same = await backend.send(notification(title="one"))
    await answers.ask(notification(title="other"), message_id=same, correlation_id="reused")

    told = [await answers.next() for _ in range(3)]
    assert [each[:2] for each in told] == [
        ("bad", "application/problem+json"),
        ("array", "application/problem+json"),
        ("reused", "application/problem+json"),
    ]
    assert [each[2]["code"] for each in told] == ["invalid_notification", "tenant_forbidden", "idempotency_key_reused"]
    assert [[error["pointer"] for error in each[2].get("errors", [])] for each in told] == [["/type"], ["/1"], []]
    await backend.dead_letters(2)


async def test_no_message_makes_us_write_where_it_wants(
    replica: Replica, backend: Publisher, amqp_url: str, user: str
) -> None:
    """And an answer that nobody can take harms nobody."""
    queue = await backend.private_queue()
    gone = await address_of_nobody(amqp_url, MODULE_PREFIX)
    targets = [queue, gone, "amq.rabbitmq.reply-to.garbage", "amq.rabbitmq.reply-to.", "nowhere", ""]
    async with session(replica.ws_url, user) as client:
        for number, target in enumerate(targets):
            await backend.send_wild(notification(user, title=str(number)), ("reply_to", short(target.encode())))
        await backend.send(notification(user, title="end"))

        assert await titles(client, len(targets) + 1) == [*numbers(len(targets)), "end"]
    assert await backend.count(queue) == 0
    assert complaints(replica.log_path) == []


# -- refused -----------------------------------------------------------------------------------------------------------


async def test_what_is_refused_becomes_a_dead_letter_at_once(replica: Replica, backend: Publisher, user: str) -> None:
    """T-21: after one attempt, whole, with the reason; and the next message is none the worse for it."""
    before = await metric(replica, "notifier_queue_dead_lettered")
    async with session(replica.ws_url, user) as client:
        refused = await backend.send(
            notification(user, type="BAD"),
            message_id=user,
            content_type="application/json",
            correlation_id="c",
            message_type="t",
            app_id="shop",
            user_id="guest",
            reply_to="elsewhere",
            expiration="60000",
            headers={"traceparent": "00-x", "nested": {"list": [1, None, "two"]}, "x-notifier-error": "forged"},
        )
        await backend.send(notification(user, title="next"))
        (letter,) = await backend.dead_letters(1)

        assert await titles(client, 1) == ["next"]
    lines = [line for line in replica.log_lines() if line.get("message_id") == refused]
    assert [(line["event"], line["code"]) for line in lines] == [("message dead-lettered", "invalid_notification")]
    assert await metric(replica, "notifier_queue_dead_lettered") == before + 1
    assert json.loads(letter.body) == notification(user, type="BAD")
    refused_at = letter.headers.pop("x-notifier-error-at")
    assert isinstance(refused_at, datetime)
    assert datetime.now(UTC) - refused_at < timedelta(seconds=DEADLINE_SECONDS)
    assert {name: value for name, value in letter.headers.items() if name != "x-delivery-count"} == {
        "traceparent": "00-x",
        "nested": {"list": [1, None, "two"]},
        "x-notifier-error-code": "invalid_notification",
        "x-notifier-error": "/type: String should match pattern '^[a-z0-9_.-]{1,128}$'",
        "x-notifier-user-id": "guest",
    }
    assert (letter.message_id, letter.routing_key, letter.correlation_id) == (user, "default.send", "c")
    assert (letter.content_type, letter.type, letter.app_id) == ("application/json", "t", "shop")
    assert (letter.user_id, letter.reply_to, letter.expiration, letter.delivery_mode) == (None, None, None, 2)


def bodies() -> dict[str, tuple[object, str]]:
    """Bodies that are refused, by a name, with the code."""
    good = notification()
    return {
        "empty": (b"", "not_json"),
        "no JSON": (b"{'to': 1}", "not_json"),
        "no UTF-8": (b"\xff\xfe", "not_json"),
        "a byte order mark": (b"\xef\xbb\xbf{}", "not_json"),
        "20 MB": (b" " * 20_000_000, "request_too_large"),
        "64 KiB and no array": (json.dumps(good).encode() + b" " * 65_536, "request_too_large"),
        "too much when sealed": (notification(data={"text": "x" * 65_400}), "sealed_too_large"),
        "wrong types": (notification(title=5, ttl_seconds="60"), "invalid_notification"),
        "a number": (5, "invalid_notification"),
        "null": (None, "invalid_notification"),
        "NaN": (b'{"to": {"users": ["a"]}, "type": "t", "data": {"n": NaN}}', "invalid_notification"),
        "1e400": (b'{"to": {"users": ["a"]}, "type": "t", "data": {"n": 1e400}}', "invalid_notification"),
        "5,000 digits": (
            b'{"to": {"users": ["a"]}, "type": "t", "data": {"n": %s}}' % (b"9" * 5_000),
            "invalid_notification",
        ),
        "duplicate names": (
            b'{"to": {"users": ["a"]}, "type": "t", "type": "t", "title": "t"}',
            "invalid_notification",
        ),
        "half a surrogate pair": (b'{"to": {"users": ["\\ud800"]}, "type": "t", "title": "t"}', "invalid_notification"),
        "nested 9 deep": (
            notification(data={"a": {"b": {"c": {"d": {"e": {"f": {"g": {}}}}}}}}),
            "invalid_notification",
        ),
        "nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, "invalid_notification"),
        "unknown field": (notification(urgent=True), "invalid_notification"),
        "its own key": (notification(idempotency_key="k"), "invalid_notification"),
        "nobody": (notification(to={}), "invalid_notification"),
        "another tenant": (notification(to={"users": ["a"], "tenant": "other"}), "tenant_forbidden"),
        "an empty array": ([], "invalid_notification"),
        "an array of 1,001": ([good] * 1_001, "batch_too_large"),
        "an array in an array": ([[good]], "invalid_notification"),
    }


def envelopes() -> dict[str, tuple[dict[str, Any], str]]:
    """Properties that are refused, by a name, with the code."""
    return {
        "gzip": ({"content_encoding": "gzip"}, "unsupported_content_encoding"),
        "XML": ({"content_type": "application/xml"}, "unsupported_media_type"),
        "no tenant": ({"key": "send"}, "routing_key_invalid"),
        "no verb": ({"key": "default"}, "routing_key_invalid"),
        "empty key": ({"key": ""}, "routing_key_invalid"),
        "another verb": ({"key": "default.delete"}, "routing_key_invalid"),
        "too many words": ({"key": "default.send.now"}, "routing_key_invalid"),
        "a newline": ({"key": "default.send\n"}, "routing_key_invalid"),
        "no such tenant": ({"key": "défaut.send"}, "routing_key_invalid"),
        "a message id of control characters": ({"message_id": f"\n{uuid.uuid4()}"}, "message_id_invalid"),
    }


async def test_whatever_cannot_be_sent_becomes_a_dead_letter(replica: Replica, backend: Publisher, user: str) -> None:
    """T-23: with a reason, without a second attempt, and nothing of it in the log but that. Checklist 3.3.24."""
    expected: dict[str | None, str] = {}
    async with session(replica.ws_url, user) as client:
        for body, code in bodies().values():
            expected[await backend.send(body)] = code
        for properties, code in envelopes().values():
            expected[await backend.send(notification(user, title="bad"), **properties)] = code
        await backend.send(notification(user, title="end"))
        letters = await backend.dead_letters(len(expected))

        assert await titles(client, 1) == ["end"]
    assert reasons(letters) == expected
    assert all(letter.headers["x-notifier-error"] for letter in letters)
    assert await metric(replica, "notifier_queue_connections_lost") == 0
    assert complaints(replica.log_path) == []


async def test_a_message_without_an_id_is_refused(backend: Publisher) -> None:
    await backend.send_wild(notification(), ("message_id", short(b"")))

    (letter,) = await backend.dead_letters(1)
    assert letter.headers["x-notifier-error-code"] == "message_id_missing"


async def test_an_array_is_taken_whole_or_not_at_all(replica: Replica, backend: Publisher, user: str) -> None:
    good = notification(user, title="good")
    spoilt: list[list[object]] = [
        [good, notification(user, type="BAD")],
        [good, 5],
        [good, notification(to={"users": [user], "tenant": "other"})],
        [good, notification(user, data={"text": "x" * 66_000})],
    ]
    async with session(replica.ws_url, user) as client:
        for array in spoilt:
            await backend.send(array)
        await backend.send(notification(user, title="end"))
        letters = await backend.dead_letters(len(spoilt))

        assert await titles(client, 1) == ["end"]
    pointers = [str(letter.headers["x-notifier-error"]).partition(":")[0] for letter in letters]
    assert pointers == ["/1/type", "/1", "/1", "/1"]


HEADERS = {
    "tables": short(b"k") + b"F" + nested(100),
    "an array": short(b"k") + b"A" + table(b"I\x00\x00\x00\x01", b"V", b"t\x01"),
    "bytes": short(b"k") + b"x" + table(b"\x00\xff"),
    "text that is no UTF-8": short(b"k") + b"S" + table(b"\xff\xfe"),
    "a decimal": short(b"k") + b"D" + b"\x02" + struct.pack(">I", 4_000_000_000),
    "a time": short(b"k") + b"T" + at(1_795_000_000),
    "a float": short(b"k") + b"f" + struct.pack(">f", 1.5),
    "a double": short(b"k") + b"d" + struct.pack(">d", 1e300),
    "a long name": short(b"k" * 255) + b"V",
    "120 KB": short(b"k") + b"S" + table(b"x" * 120_000),
    "131 KB": short(b"k") + b"S" + table(b"x" * 130_950),
    "a forged mark": short(b"x-death") + b"S" + table(b"never"),
    "a forged count": short(b"x-delivery-count") + b"S" + table(b"many"),
    "carbon copies": short(b"CC") + b"A" + table(b"S" + table(b"other.send")),
}


async def test_odd_headers_are_passed_over(replica: Replica, backend: Publisher, user: str) -> None:
    """T-23: they stop neither a delivery nor a dead letter, even those that can be read and not written.

    Checklist 3.3.24.
    """
    async with session(replica.ws_url, user) as client:
        for name, header in HEADERS.items():
            await backend.send_wild(notification(user, title=name), ("headers", table(header)))
            await backend.send_wild(notification(user, type="BAD"), ("headers", table(header)), message_id=name)
        received = await titles(client, len(HEADERS))
    letters = {letter.message_id: letter for letter in await backend.dead_letters(len(HEADERS))}

    assert received == list(HEADERS)
    assert letters.keys() == HEADERS.keys()
    left_out = {name for name, letter in letters.items() if "x-notifier-headers-left-out" in letter.headers}
    assert left_out == {"tables", "text that is no UTF-8", "a double", "131 KB"}
    assert letters["a time"].headers["k"] == datetime.fromtimestamp(1_795_000_000, UTC)
    assert await metric(replica, "notifier_queue_connections_lost") == 0
    assert complaints(replica.log_path) == []


async def test_properties_of_the_broker_change_nothing(replica: Replica, backend: Publisher, user: str) -> None:
    async with session(replica.ws_url, user) as client:
        await backend.send(notification(user, title="expiring"), expiration="600000")
        await backend.send(notification(user, title="urgent"), priority=255)

        assert await titles(client, 2) == ["expiring", "urgent"]


# -- faults ------------------------------------------------------------------------------------------------------------


async def test_messages_that_break_a_reader_delay_nobody(replica: Replica, backend: Publisher, user: str) -> None:
    """T-22: of every kind, close together and fifty in a row; others are delivered once, in order."""
    innocent = numbered(user, 300)
    poison: dict[str | None, str] = {}
    async with session(replica.ws_url, user) as client:
        started_at = time.monotonic()
        for number, properties in enumerate(UNDECODABLE_PROPERTIES):
            await backend.send_many(innocent[number * 10 : number * 10 + 10])
            poison[await backend.send_wild(notification(user, title="poison"), properties)] = "properties_undecodable"
        await backend.send_many(innocent[len(UNDECODABLE_PROPERTIES) * 10 : 200])
        for _ in range(50):
            poison[await backend.send_wild(b"{}", IN_MICROSECONDS)] = "properties_undecodable"
        await backend.send_many(innocent[200:])
        received = await titles(client, len(innocent))
        letters = await backend.dead_letters(len(poison))
        took_seconds = time.monotonic() - started_at

    assert received == numbers(300)
    assert reasons(letters) == poison
    assert "timestamp" in str(letters[0].headers["x-notifier-error"])
    assert "x-notifier-undecodable" not in letters[0].headers
    assert took_seconds < 10
    assert await metric(replica, "notifier_queue_connections_lost") == 0
    assert complaints(replica.log_path) == []


async def test_a_message_id_that_cannot_be_decoded_is_no_message_id(backend: Publisher) -> None:
    await backend.send_wild(b"{}", ("message_id", short(b"\xff")))

    (letter,) = await backend.dead_letters(1)
    assert letter.headers["x-notifier-error-code"] == "properties_undecodable"
    assert "message_id" in str(letter.headers["x-notifier-error"])


async def test_a_publisher_is_told_when_the_binding_is_gone(amqp_url: str, prefix: str) -> None:
    """T-25."""
    async with publisher(amqp_url, prefix) as backend:
        await backend.unbind(backend.names.requests, backend.names.ingest)

        with pytest.raises(PublishError, match="NO_ROUTE"):
            await backend.send(notification())
        ended = await run("send", "--amqp", amqp_url, "--prefix", prefix, "--user", "a", "--title", "t")
        missing = await run("send", "--amqp", amqp_url, "--prefix", f"no-{prefix}", "--user", "a", "--title", "t")

    assert (ended.code, ended.out, "NO_ROUTE" in ended.err) == (1, "", True)
    assert (missing.code, missing.out, f"no-{prefix}.ingest" in missing.err) == (1, "", True)


async def test_what_has_no_place_as_a_dead_letter_stays_in_the_queue(
    start_replica: StartReplica, amqp_url: str, prefix: str
) -> None:
    """T-25: it is not acknowledged, and is there when the queue of dead letters is back."""
    settings = {"QUEUE__URL": amqp_url, "BROKER__PREFIX": prefix, "BROKER__DECLARE": "false"}
    async with publisher(amqp_url, prefix) as backend:
        replica = start_replica(**settings)
        await eventually(lambda: _consumes(backend))
        await backend.delete(backend.names.dead)
        refused = await backend.send(b"refused")
        await eventually(lambda: _says(replica.log_path, "messages wait for their dead letter"))
        replica.stop(signal.SIGKILL)
        await eventually(lambda: backend.holds(backend.names.requests, 1))
        await prepare(backend.connection, request_topology(backend.names, is_ordered=True), declares=True)
        start_replica(**settings)

        assert reasons(await backend.dead_letters(1)) == {refused: "not_json"}
        assert await backend.count(backend.names.requests) == 0


async def test_the_queue_of_dead_letters_is_declared_again(replica: Replica, backend: Publisher, user: str) -> None:
    lost = await metric(replica, "notifier_queue_connections_lost")
    async with session(replica.ws_url, user) as client:
        await backend.delete(backend.names.dead)
        refused = await backend.send(b"refused")
        await backend.send(notification(user, title="next"))

        assert await titles(client, 1) == ["next"]
    assert reasons(await backend.dead_letters(1)) == {refused: "not_json"}
    assert await metric(replica, "notifier_queue_connections_lost") == lost


async def test_messages_wait_for_the_journal(
    start_replica: StartReplica, amqp_url: str, prefix: str, user: str
) -> None:
    """None of them is given up for it, however long it is away."""
    target = httpx.URL(amqp_url)
    async with TcpProxy(target.host, target.port or 5672) as journal, publisher(amqp_url, prefix) as backend:
        replica = await asyncio.to_thread(
            start_replica, QUEUE__URL=amqp_url, JOURNAL__URL=journal.url(amqp_url), BROKER__PREFIX=prefix
        )
        async with session(replica.ws_url, user) as client:
            await eventually(lambda: _consumes(backend))
            journal.cut()
            assert (await client.frame("degraded"))["type"] == "degraded"
            await backend.send_many(numbered(user, 100))
            await eventually(lambda: _says(replica.log_path, "requests wait for the journal"))
            journal.restore()
            frames = [await client.frame() for _ in range(101)]

        assert [frame["notification"]["title"] for frame in frames if frame["type"] != "restored"] == numbers(100)
        assert await backend.count(backend.names.dead) == 0
        assert await backend.count(backend.names.requests) == 0


async def test_dead_letters_wait_for_the_end_of_an_alarm(
    own_rabbitmq: RabbitMQ, start_replica: StartReplica, prefix: str, user: str
) -> None:
    """One letter of each message, and no letter of any other: attempts that fail are not held against those behind."""
    url = own_rabbitmq.url()
    replica = await asyncio.to_thread(start_replica, QUEUE__URL=url, BROKER__PREFIX=prefix)
    async with publisher(url, prefix) as backend, session(replica.ws_url, user) as client:
        replica.process.send_signal(signal.SIGSTOP)
        refused = await backend.send(b"refused")
        await backend.send_many(numbered(user, 10))
        await asyncio.to_thread(own_rabbitmq.block_by_memory)
        replica.process.send_signal(signal.SIGCONT)
        await eventually(lambda: _says(replica.log_path, "the broker takes no messages now"))
        await asyncio.to_thread(own_rabbitmq.unblock)

        assert await titles(client, 10) == numbers(10)
        assert reasons(await backend.dead_letters(1)) == {refused: "not_json"}
        assert await metric(replica, "notifier_queue_connections_lost") == 0


async def test_the_next_replica_takes_over_when_one_is_killed(
    start_replica: StartReplica, amqp_url: str, prefix: str, user: str
) -> None:
    """T-05: with a thousand messages in the queue, nothing is lost, repeated or out of order."""
    starting = [asyncio.to_thread(start_replica, JOURNAL__URL=amqp_url, BROKER__PREFIX=prefix) for _ in range(3)]
    replicas = [await each for each in starting]
    async with publisher(amqp_url, prefix) as backend:
        await backend.send(notification(user, title="first"))
        active = await _active(replicas)
        survivor = next(replica for replica in replicas if replica is not active)
        async with session(survivor.ws_url, user, position="earliest") as client:
            await client.notification()
            active.process.send_signal(signal.SIGSTOP)
            await backend.send_many(numbered(user, 1_000))
            active.process.send_signal(signal.SIGCONT)
            received = [await client.notification() for _ in range(100)]
            active.stop(signal.SIGKILL)
            killed_at = time.monotonic()
            while len({each["id"] for each in received}) < 1_000:
                received.append(await client.notification())
            took_over_seconds = time.monotonic() - killed_at
            received += [frame["notification"] for frame in await client.drained()]

    assert [each["title"] for each in {each["id"]: each for each in received}.values()] == numbers(1_000)
    assert took_over_seconds < TAKEOVER_SECONDS
    assert sum([await metric(replica, "notifier_queue_accepted") for replica in replicas if replica is not active]) > 0


async def _active(replicas: Sequence[Replica]) -> Replica:
    """The replica that has taken a message."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            for replica in replicas:
                if await metric(replica, "notifier_queue_accepted"):
                    return replica


async def _consumes(backend: Publisher) -> bool:
    return await backend.consumers(backend.names.requests) == 1


async def _says(log_path: Path, event: str) -> bool:
    return event in await asyncio.to_thread(log_path.read_text)
