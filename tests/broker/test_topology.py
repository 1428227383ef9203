"""Declaring, checking and trying on a real broker: what is missing is said, and what is printed is enough."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from aio_pika import Message
from aiormq.exceptions import ChannelAccessRefused

from notifier.broker.connection import Broker, BrokerError, Connection
from notifier.broker.consumer import Consumer
from notifier.broker.permissions import Permission, exactly, service_permission
from notifier.broker.probes import try_consume, try_publish, try_stream
from notifier.broker.topology import Names, Topology, control_topology, journal_topology, prepare, request_topology
from notifier.cli import main
from notifier.engine import topologies
from notifier.settings import read_settings
from tests.rabbitmq import RabbitMQ, find_server
from tests.replica import Replica
from tests.service.client import session
from tests.tokens import bearer

PASSWORD = "a-password-that-nobody-prints"
DEADLINE_SECONDS = 20.0


def needed(prefix: str, *, is_ordered: bool = True, max_age_seconds: int = 3_600) -> Topology:
    journal = journal_topology(Names(prefix), max_age_seconds=max_age_seconds, max_bytes=64 * 1024**2)
    control = control_topology(Names(prefix), max_age_seconds=max_age_seconds)
    return journal + control + request_topology(Names(prefix), is_ordered=is_ordered)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    async with asyncio.timeout(DEADLINE_SECONDS), Broker(url).connect("test") as connection:
        yield connection


def admit(rabbitmq: RabbitMQ, permission: Permission) -> str:
    """Add a user who may do that and no more. Returns its URL."""
    rabbitmq.add_user(
        permission.user, PASSWORD, configure=permission.configure, write=permission.write, read=permission.read
    )
    return rabbitmq.url(permission.user, PASSWORD)


async def do_everything(url: str, topology: Topology, prefix: str, *, declares: bool) -> None:
    """What the service and `notifier dlq` need: raises BrokerError for what they may not."""
    names = Names(prefix)
    async with connected(url) as connection:
        await prepare(connection, topology, declares=declares)
        for exchange in (names.journal, names.control, names.dead_letters, names.ingest):
            await try_publish(connection, exchange)
        for queue in (names.requests, names.dead):
            await try_consume(connection, queue)
        for stream in (names.stream, names.control_stream):
            await try_stream(connection, stream)


# -- declared or given ------------------------------------------------------------------------------------------------


async def test_what_was_declared_is_there_and_can_be_declared_again(
    rabbitmq: RabbitMQ, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    for declares in (True, True, False):
        await do_everything(rabbitmq.url(), needed(prefix), prefix, declares=declares)

    assert [record.message for record in caplog.records if record.name.startswith("notifier")] == []


async def test_a_given_topology_needs_no_permission_to_be_checked(rabbitmq: RabbitMQ, prefix: str) -> None:
    """Up to RabbitMQ 4.2; from 4.3.1 on the permissions to use it are enough."""
    async with connected(rabbitmq.url()) as connection:
        await prepare(connection, needed(prefix), declares=True)

    async with connected(admit(rabbitmq, Permission(prefix, "", "", ""))) as connection:
        await prepare(connection, needed(prefix), declares=False)


async def test_a_given_exchange_that_is_missing_is_named(rabbitmq: RabbitMQ, prefix: str) -> None:
    async with connected(rabbitmq.url()) as connection:
        await prepare(connection, needed(prefix), declares=True)
        channel = await connection.open_channel()
        await channel.exchange_delete(f"{prefix}.dlx")

        with pytest.raises(BrokerError, match=f"^the exchange {prefix}.dlx is not there, in the virtual host /:"):
            await prepare(connection, needed(prefix), declares=False)


async def test_a_given_queue_that_is_missing_is_named(rabbitmq: RabbitMQ, prefix: str) -> None:
    async with connected(rabbitmq.url()) as connection:
        await prepare(connection, needed(prefix), declares=True)
        channel = await connection.open_channel()
        await channel.queue_delete(f"{prefix}.dead.v1")

        with pytest.raises(BrokerError, match=f"^the queue {prefix}.dead.v1 is not there, in the virtual host /:"):
            await prepare(connection, needed(prefix), declares=False)


async def test_a_queue_with_other_arguments_is_kept_with_one_warning(
    rabbitmq: RabbitMQ, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It names them all, though the broker names one at a time."""
    present, wanted = needed(prefix, max_age_seconds=3_600), needed(prefix, max_age_seconds=7_200)
    present = replace(present, queues=(present.queues[0].having("x-initial-cluster-size", None), *present.queues[1:]))
    await do_everything(rabbitmq.url(), present, prefix, declares=True)
    await do_everything(rabbitmq.url(), wanted, prefix, declares=True)

    warnings = [record.__dict__ for record in caplog.records if record.levelno == logging.WARNING]
    assert [(warning["object"], sorted(warning["differences"])) for warning in warnings] == [
        (
            f"queue {prefix}.journal.v1",
            [
                "x-initial-cluster-size is not there, and should be 3",
                "x-max-age is 3600s there, and should be 7200s",
            ],
        ),
        (f"queue {prefix}.control.v1", ["x-max-age is 3600s there, and should be 7200s"]),
    ]


async def test_an_exchange_of_another_type_is_refused(rabbitmq: RabbitMQ, prefix: str) -> None:
    async with connected(rabbitmq.url()) as connection:
        channel = await connection.open_channel()
        await channel.declare_exchange(f"{prefix}.journal", "direct", durable=True)

        with pytest.raises(BrokerError, match="is of another kind: type is direct there, and should be topic"):
            await prepare(connection, needed(prefix), declares=True)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [({}, "not there"), ({"x-queue-type": "quorum", "x-delivery-limit": 3, "x-max-length": 9}, "quorum there")],
    ids=["classic", "quorum"],
)
async def test_a_queue_of_another_type_is_refused(
    rabbitmq: RabbitMQ, prefix: str, arguments: dict[str, str | int], kind: str
) -> None:
    async with connected(rabbitmq.url()) as connection:
        channel = await connection.open_channel()
        await channel.declare_queue(f"{prefix}.journal.v1", durable=True, arguments=dict(arguments))

        with pytest.raises(BrokerError, match=f"of another kind: x-queue-type is {kind}, and should be stream"):
            await prepare(connection, needed(prefix), declares=True)


async def test_a_broker_that_is_too_old_is_told_so(rabbitmq: RabbitMQ, prefix: str) -> None:
    """No older one is at hand, so this one says that it is."""
    async with connected(rabbitmq.url()) as connection:
        assert connection.transport is not None
        connection.transport.connection.server_properties["version"] = "3.8.9"

        with pytest.raises(BrokerError, match=r"needs RabbitMQ 3\.(9|10) or newer, and this one is 3\.8\.9"):
            await prepare(connection, needed(prefix), declares=True)


# -- permissions ------------------------------------------------------------------------------------------------------

EXCHANGES = ("journal", "control", "ingest", "dlx")
QUEUES = ("journal.v1", "control.v1", "dead.v1", "ingest.v1")


def without(permission: Permission, kind: str, name: str) -> Permission:
    """The same with one name less in one of its patterns."""
    names = [each.replace("\\", "") for each in getattr(permission, kind).strip("^()$").split("|")]
    assert name in names
    return replace(permission, **{kind: exactly([each for each in names if each != name])})


async def test_the_permissions_are_enough_to_declare_and_enough_to_use(rabbitmq: RabbitMQ, prefix: str) -> None:
    for declares in (True, False):
        permission = service_permission(needed(prefix), user=f"{prefix}-{declares}", declares=declares, answers=False)

        await do_everything(admit(rabbitmq, permission), needed(prefix), prefix, declares=declares)


@pytest.mark.parametrize("kind", ["configure", "write", "read"])
@pytest.mark.parametrize("suffix", EXCHANGES + QUEUES)
async def test_each_permission_of_one_who_declares_is_needed_and_said(
    rabbitmq: RabbitMQ, prefix: str, kind: str, suffix: str
) -> None:
    name = f"{prefix}.{suffix}"
    enough = service_permission(needed(prefix), user=prefix, declares=True, answers=False)
    url = admit(rabbitmq, without(enough, kind, name))
    what = "exchange" if suffix in EXCHANGES else "queue"

    with pytest.raises(BrokerError, match=f"the user {prefix} has no {kind} permission on the {what} {name} in the "):
        await do_everything(url, needed(prefix), prefix, declares=True)


@pytest.mark.parametrize(
    ("kind", "suffix"), [("write", suffix) for suffix in EXCHANGES] + [("read", suffix) for suffix in QUEUES]
)
async def test_each_permission_of_one_who_only_uses_is_needed_and_said(
    rabbitmq: RabbitMQ, prefix: str, kind: str, suffix: str
) -> None:
    name = f"{prefix}.{suffix}"
    enough = service_permission(needed(prefix), user=prefix, declares=False, answers=False)
    async with connected(rabbitmq.url()) as connection:
        await prepare(connection, needed(prefix), declares=True)
    url = admit(rabbitmq, without(enough, kind, name))

    with pytest.raises(BrokerError, match=f"the user {prefix} has no {kind} permission on the .* {name} in the "):
        await do_everything(url, needed(prefix), prefix, declares=False)


# -- tries that leave nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_ordered", [True, False])
async def test_trying_to_consume_takes_no_message(rabbitmq: RabbitMQ, prefix: str, is_ordered: bool) -> None:
    names = Names(prefix)
    async with connected(rabbitmq.url()) as connection, connected(rabbitmq.url()) as trying:
        await prepare(connection, needed(prefix, is_ordered=is_ordered), declares=True)
        channel = await connection.open_channel()
        ingest = await channel.get_exchange(names.ingest)
        for number in range(2):
            await ingest.publish(Message(b"%d" % number), "shop.send")

        await try_consume(trying, names.requests)
        consumer = await Consumer.open(connection, names.requests, prefetch=10)
        await try_consume(trying, names.requests)
        await ingest.publish(Message(b"2"), "shop.send")
        messages = [await consumer.get() for _ in range(3)]

    assert [message.body for message in messages] == [b"0", b"1", b"2"]
    assert [(message.redelivered, message.headers.get("x-delivery-count")) for message in messages] == [
        (False, None)
    ] * 3


async def test_trying_to_publish_leaves_nothing(rabbitmq: RabbitMQ, prefix: str) -> None:
    names = Names(prefix)
    async with connected(rabbitmq.url()) as connection:
        await prepare(connection, needed(prefix), declares=True)

        await try_publish(connection, names.journal)
        await try_publish(connection, names.dead_letters)

        channel = await connection.open_channel()
        journal, dlx = [await channel.get_exchange(name) for name in (names.journal, names.dead_letters)]
        await journal.publish(Message(b"first"), "")
        await dlx.publish(Message(b"first"), "")
        stream = await Consumer.open(connection, names.stream, prefetch=1, arguments={"x-stream-offset": "first"})
        dead = await Consumer.open(connection, names.dead, prefetch=1)
        assert [(await consumer.get()).body for consumer in (stream, dead)] == [b"first", b"first"]


# -- the commands -----------------------------------------------------------------------------------------------------


def notifier(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a command with these settings, without the NOTIFIER_ prefix."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NOTIFIER_")}
    given = {"NOTIFIER_INSECURE": "true"} | {f"NOTIFIER_{name}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "notifier", *arguments],
        env=inherited | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def given(rabbitmq: RabbitMQ, prefix: str) -> Mapping[str, str]:
    """The settings of a service that declares nothing, whose user and whose publisher may do nothing so far."""
    admit(rabbitmq, Permission(f"{prefix}-shop", "", "", ""))
    url = admit(rabbitmq, Permission(f"{prefix}-service", "", "", ""))
    return {"JOURNAL__URL": url, "BROKER__PREFIX": prefix, "BROKER__DECLARE": "false"}


async def test_definitions_are_all_that_service_and_publisher_need(
    rabbitmq: RabbitMQ, prefix: str, given: Mapping[str, str], tmp_path: Path
) -> None:
    printed = notifier("topology", "--publisher", f"{prefix}-shop", "--tenant", "shop", **given)
    (tmp_path / "notifier.json").write_text(printed.stdout)
    rabbitmq.control("import_definitions", str(tmp_path / "notifier.json"))
    tried = notifier("check", "--connect", **given)

    assert (printed.returncode, tried.returncode) == (0, 0), printed.stderr + tried.stdout
    assert {line.partition(":")[0] for line in tried.stdout.splitlines()[1:]} == {"ok", "unknown", "without"}
    assert PASSWORD not in "".join(run.stdout + run.stderr for run in (printed, tried))
    replica = Replica(tmp_path / "replica.log", {f"NOTIFIER_{name}": value for name, value in given.items()})
    try:
        await send_and_receive(replica, rabbitmq.url(f"{prefix}-shop", PASSWORD), Names(prefix))
    finally:
        replica.stop()


async def send_and_receive(replica: Replica, publisher_url: str, names: Names) -> None:
    """By HTTP and by a message."""
    to_alice = {"to": {"users": ["alice"]}, "type": "order.shipped"}
    async with session(replica.ws_url, "alice", tenant="shop") as client:
        async with httpx.AsyncClient(base_url=replica.url, headers=bearer(tenant="shop")) as backend:
            assert (await backend.post("/notify", json={**to_alice, "title": "by HTTP"})).status_code == 202
        assert (await client.notification())["title"] == "by HTTP"
        await publish_as(publisher_url, names, json.dumps({**to_alice, "title": "by message"}).encode())
        assert (await client.notification())["title"] == "by message"


async def publish_as(publisher_url: str, names: Names, body: bytes) -> None:
    """Publish as the publisher of one tenant, and find that nothing else may be published."""
    async with connected(publisher_url) as connection:
        for exchange, key in (
            (names.ingest, "till.send"),
            (names.ingest, "shop.broadcast"),
            (names.journal, ""),
            (names.dead_letters, "shop.send"),
        ):
            channel = await connection.open_channel()
            with pytest.raises(ChannelAccessRefused):
                await (await channel.get_exchange(exchange, ensure=False)).publish(Message(body), key)
        channel = await connection.open_channel()
        ingest = await channel.get_exchange(names.ingest, ensure=False)
        await ingest.publish(Message(body, message_id="1"), "shop.send", mandatory=True)


async def test_the_script_creates_what_notifier_would_declare(
    rabbitmq: RabbitMQ,
    prefix: str,
    given: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in {"INSECURE": "true", **given}.items():
        monkeypatch.setenv(f"NOTIFIER_{name}", value)
    assert main(["topology", "--format", "rabbitmqctl", "--publisher", f"{prefix}-shop", "--tenant", "shop"]) == 0
    script, topology = capsys.readouterr().out, topologies(read_settings())[0][1]

    run_script(rabbitmq, script)

    await do_everything(rabbitmq.url(f"{prefix}-service", PASSWORD), topology, prefix, declares=False)
    await publish_as(rabbitmq.url(f"{prefix}-shop", PASSWORD), Names(prefix), b"{}")
    await do_everything(rabbitmq.url(), topology, prefix, declares=True)
    assert [record.message for record in caplog.records if record.name.startswith("notifier")] == []


def run_script(rabbitmq: RabbitMQ, script: str) -> None:
    server = find_server()
    assert server is not None
    environment = {**rabbitmq._environment, "RABBITMQCTL": str(server.with_name("rabbitmqctl"))}
    done = subprocess.run(
        ["sh"], input=script, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_check_says_what_each_refusal_is_about_and_no_password(rabbitmq: RabbitMQ, prefix: str) -> None:
    given = {"BROKER__PREFIX": prefix, "JOURNAL__URL": admit(rabbitmq, Permission(prefix, "", "", ""))}

    tried = notifier("check", "--connect", **given)
    wrong = notifier("check", "--connect", **given | {"JOURNAL__URL": rabbitmq.url(prefix, PASSWORD + "x")})

    first, *lines = tried.stdout.splitlines()
    assert first.startswith(f"amqp://{prefix}@127.0.0.1:{rabbitmq.port}/%2F: RabbitMQ ")
    assert " ms, a round trip in " in first
    assert {line.partition(":")[0] for line in lines} == {"missing", "without"}
    assert len([line for line in lines if f"the user {prefix} has no " in line]) == len(lines) == 21
    assert wrong.stdout.startswith(f"missing: amqp://{prefix}@127.0.0.1:{rabbitmq.port}/%2F: ")
    assert "ACCESS_REFUSED" in wrong.stdout
    assert (tried.returncode, wrong.returncode, tried.stderr, wrong.stderr) == (1, 1, "", "")
    assert PASSWORD not in tried.stdout + wrong.stdout


def test_check_declares_what_the_service_would(rabbitmq: RabbitMQ, prefix: str) -> None:
    tried = notifier("check", "--connect", BROKER__PREFIX=prefix, JOURNAL__URL=rabbitmq.url())

    assert (tried.returncode, tried.stderr) == (0, "")
    assert {line.partition(":")[0] for line in tried.stdout.splitlines()[1:]} == {"ok"}
    assert f"ok: binding from {prefix}.journal to {prefix}.journal.v1" in tried.stdout


def test_check_without_a_broker_has_nothing_to_try() -> None:
    tried = notifier("check", "--connect")

    assert (tried.returncode, tried.stdout.startswith("no broker")) == (0, True)
