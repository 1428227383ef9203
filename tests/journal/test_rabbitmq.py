"""The journal on a real broker, over a network that breaks: what is lost, what comes late, and how it goes on."""

import asyncio
import gc
import os
import random
import struct
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import aiormq
import pytest
from pamqp.commands import Basic

from notifier.broker import connection as broker_connection
from notifier.broker.connection import CLOSE_SECONDS, Broker, BrokerError
from notifier.broker.topology import Names
from notifier.core.errors import Unavailable
from notifier.core.ports import Marker
from notifier.journal.rabbitmq import RabbitJournal
from notifier.journal.record import Stamp, encode
from tests.journal.builders import Follower, caught_up, envelope, following, running_journal, until
from tests.rabbitmq import RabbitMQ
from tests.tcp_proxy import TcpProxy

REFUSAL_SECONDS = 4.0
RESETS = 20


@asynccontextmanager
async def proxy_before(url: str) -> AsyncIterator[TcpProxy]:
    parts = urlsplit(url)
    async with TcpProxy(parts.hostname or "", parts.port or 5672) as proxy:
        yield proxy


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[TcpProxy]:
    """A network between a journal and the shared broker."""
    async with proxy_before(amqp_url) as proxy:
        yield proxy


@pytest.fixture
def url(proxy: TcpProxy, amqp_url: str) -> str:
    """The shared broker by way of the proxy."""
    return proxy.url(amqp_url)


class Sender:
    """Appends notifications one after the other, and keeps the books."""

    def __init__(self, journal: RabbitJournal, name: str = "n") -> None:
        self._journal = journal
        self._name = name
        self.count = 0
        self.confirmed: list[str] = []
        self.refused: list[str] = []
        self.codes: set[str] = set()
        self.slowest_seconds = 0.0

    async def run(self) -> None:
        while True:
            await self.send()
            await asyncio.sleep(0.002)

    async def send(self) -> str:
        """Send the next, for as long as the pipeline would wait. Returns its name."""
        self.count += 1
        name = f"{self._name}{self.count}"
        began = time.monotonic()
        try:
            async with asyncio.timeout(3.0):
                await self._journal.append([envelope(name)])
        except Unavailable as error:
            self.refused.append(name)
            self.codes.add(error.code)
        except TimeoutError:
            self.refused.append(name)
            self.codes.add("timeout")
        else:
            self.confirmed.append(name)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        return name

    async def is_heard(self) -> None:
        """Wait until another one is confirmed."""
        heard = len(self.confirmed)
        await until(lambda: len(self.confirmed) > heard)

    def assert_nothing_lost(self, follower: Follower) -> None:
        """All that was confirmed arrived, once and in order; and of the refused, some may have, in their places."""
        mine = [name for name in follower.names if name.startswith(self._name)]
        assert [name for name in mine if name in set(self.confirmed)] == self.confirmed
        numbers = [int(name.removeprefix(self._name)) for name in mine]
        assert numbers == sorted(set(numbers))


def late_records(follower: Follower, *senders: Sender) -> int:
    """How many records came though the senders of what is in them were told that they would not."""
    refused = {name for sender in senders for name in sender.refused}
    return sum(any(getattr(item, "id", "") in refused for item in record.items) for record in follower.records)


@asynccontextmanager
async def sending(sender: Sender) -> AsyncIterator[None]:
    task = asyncio.create_task(sender.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def is_whole(journal: RabbitJournal) -> None:
    """Wait until it can be written and read."""
    await until(lambda: journal.is_writable and journal.is_following)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a listing of names, and of nothing on disk


# -- connections ---------------------------------------------------------------------------------------------------


async def test_a_lost_connection_is_noticed_before_anything_is_appended(proxy: TcpProxy, url: str, prefix: str) -> None:
    async with running_journal(url, prefix) as journal, following(journal):
        proxy.cut()
        await until(lambda: not journal.is_writable and not journal.is_following, seconds=1.0)
        with pytest.raises(Unavailable):
            await journal.check()

        proxy.restore()
        await is_whole(journal)
        await journal.check()


async def test_connections_reset_under_load_lose_nothing_and_leave_nothing_behind(
    proxy: TcpProxy, url: str, prefix: str
) -> None:
    async with running_journal(url, prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        tasks, files = len(asyncio.all_tasks()), open_files()
        async with sending(sender):
            for _ in range(RESETS):
                await asyncio.sleep(random.uniform(0, 0.2))
                proxy.reset_connections()
            await sender.is_heard()
        await caught_up(journal, follower)

        sender.assert_nothing_lost(follower)
        assert (follower.gaps, len(follower.epochs)) == (0, 1)
        assert sender.slowest_seconds < REFUSAL_SECONDS
        await until(lambda: len(asyncio.all_tasks()) <= tasks and open_files() <= files)


async def test_a_killed_broker_has_what_it_confirmed_when_it_is_back(own_rabbitmq: RabbitMQ, prefix: str) -> None:
    async with running_journal(own_rabbitmq.url(), prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        async with sending(sender):
            await asyncio.sleep(2.0)  # A node that is killed right after it made its first stream ever loses that.
            await sender.is_heard()
            await asyncio.to_thread(own_rabbitmq.kill)
            await until(lambda: not journal.is_writable and not journal.is_following)
            await asyncio.to_thread(own_rabbitmq.start)
            await sender.is_heard()
        await caught_up(journal, follower)

        sender.assert_nothing_lost(follower)
        assert (follower.gaps, len(follower.epochs)) == (0, 1)
        assert sender.slowest_seconds < REFUSAL_SECONDS


async def test_a_broker_that_is_down_at_boot_is_waited_for(proxy: TcpProxy, url: str, prefix: str) -> None:
    proxy.cut()
    async with running_journal(url, prefix) as journal:
        with pytest.raises(Unavailable) as refused:
            await journal.check()
        proxy.restore()
        async with following(journal):
            await is_whole(journal)

    assert refused.value.code == "journal_unavailable"


async def test_a_wrong_password_is_waited_out_and_never_logged(
    rabbitmq: RabbitMQ, proxy: TcpProxy, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    rabbitmq.add_user(prefix, "correct-horse")
    url = proxy.url(rabbitmq.url(prefix, "correct-horse"))
    async with running_journal(url, prefix) as journal, following(journal):
        await asyncio.to_thread(rabbitmq.change_password, prefix, "another")
        proxy.reset_connections()
        lost = journal.connections_lost
        await until(lambda: journal.connections_lost > lost + 3)
        was_whole = journal.is_writable or journal.is_following
        await asyncio.to_thread(rabbitmq.change_password, prefix, "correct-horse")
        await is_whole(journal)

    assert not was_whole
    assert "no connection to the broker" in caplog.text
    assert "correct-horse" not in caplog.text


async def test_a_permission_that_was_lost_is_waited_for(rabbitmq: RabbitMQ, proxy: TcpProxy, prefix: str) -> None:
    rabbitmq.add_user(prefix, "password")
    url = proxy.url(rabbitmq.url(prefix, "password"))
    async with running_journal(url, prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        await asyncio.to_thread(rabbitmq.set_permissions, prefix, write="^$", configure="^$", read="^$")
        proxy.reset_connections()
        await until(lambda: not journal.is_writable and not journal.is_following)
        await sender.send()
        await asyncio.to_thread(rabbitmq.set_permissions, prefix)
        await is_whole(journal)
        name = await sender.send()
        await follower.has(name)

    assert (sender.refused, sender.confirmed, follower.gaps) == (["n1"], ["n2"], 0)


async def test_what_an_operator_deleted_is_made_anew_for_the_next_record(amqp_url: str, url: str, prefix: str) -> None:
    async with running_journal(url, prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        async with raw_channel(amqp_url) as channel:
            await channel.exchange_delete(Names(prefix).journal)
        await sender.send()
        await is_whole(journal)
        await follower.has(await sender.send())

    assert (sender.refused, sender.confirmed) == (["n1"], ["n2"])


@asynccontextmanager
async def raw_channel(url: str) -> AsyncIterator[aiormq.abc.AbstractChannel]:
    async with aiormq.connect(url) as connection:
        yield await connection.channel()


# -- brokers that do not answer ------------------------------------------------------------------------------------


async def test_an_alarm_refuses_at_once_and_nothing_stale_comes_after_it(own_rabbitmq: RabbitMQ, prefix: str) -> None:
    async with running_journal(own_rabbitmq.url(), prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        await sender.send()
        await asyncio.to_thread(own_rabbitmq.block_by_memory)
        async with sending(sender):
            await until(lambda: len(sender.refused) > 3)
            with pytest.raises(Unavailable) as refused:
                await journal.check()
            await asyncio.sleep(4.0)  # So long the alarm lasts: over the time that a record in flight has.
        await asyncio.to_thread(own_rabbitmq.unblock)
        await is_whole(journal)
        await sender.send()
        await caught_up(journal, follower)

        assert refused.value.code == "journal_blocked"
        assert len(traceback.extract_tb(refused.value.__traceback__)) < 10  # It holds no frames of others.
        assert sender.codes == {"journal_blocked"}
        assert sender.slowest_seconds < 1.0
        assert len(sender.confirmed) == 2
        assert late_records(follower, sender) <= 1
        sender.assert_nothing_lost(follower)


async def test_a_freeze_is_unavailable_in_time_and_at_most_one_record_comes_late(
    proxy: TcpProxy, url: str, prefix: str
) -> None:
    async with running_journal(url, prefix) as journal, following(journal) as follower:
        senders = [Sender(journal, name) for name in "abcdef"]
        async with AsyncExitStack() as stack:
            for sender in senders:
                await stack.enter_async_context(sending(sender))
            await senders[0].is_heard()
            proxy.freeze()
            await until(lambda: all(len(sender.refused) > 20 for sender in senders))  # The later ones at once.
            proxy.restore()
            await asyncio.gather(*(sender.is_heard() for sender in senders))
        await caught_up(journal, follower)

        for sender in senders:
            sender.assert_nothing_lost(follower)
            assert sender.slowest_seconds < REFUSAL_SECONDS
        assert late_records(follower, *senders) <= 1
        assert (follower.gaps, len(follower.epochs)) == (0, 1)


async def test_a_silent_connection_is_built_anew_and_nothing_comes_twice(url: str, prefix: str) -> None:
    async with (
        running_journal(url, prefix, silence_seconds=0.3) as journal,
        following(journal) as follower,
    ):
        sender = Sender(journal)
        await sender.send()
        lost = journal.connections_lost
        await until(lambda: journal.connections_lost > lost + 1)
        await sender.send()
        await caught_up(journal, follower)

    assert follower.names == sender.confirmed == ["n1", "n2"]
    assert (follower.gaps, len(follower.epochs)) == (0, 1)


async def test_the_stream_is_read_anew_when_asked_and_nothing_is_lost_or_comes_twice(url: str, prefix: str) -> None:
    """As canaries do that are missed, which may be no fault of the connection at all."""
    async with running_journal(url, prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        async with sending(sender):
            for number in (1, 2, 3):
                await sender.is_heard()
                journal.read_anew()
                journal.read_anew()  # While it is under way, another one is not needed.
                await until(lambda: journal.connections_lost == number and journal.is_following)  # noqa: B023 - awaited here
        await caught_up(journal, follower)

    assert sender.refused == []
    assert journal.connections_lost == 3
    sender.assert_nothing_lost(follower)


async def test_a_network_that_swallows_everything_without_a_word_is_noticed(
    proxy: TcpProxy, url: str, prefix: str
) -> None:
    async with (
        running_journal(url, prefix, tick_seconds=0.2, silence_seconds=1.0) as journal,
        following(journal) as follower,
    ):
        sender = Sender(journal)
        async with sending(sender):
            await sender.is_heard()
            proxy.swallow("to_client")
            await until(lambda: not journal.is_writable and not journal.is_following)
            await sender.is_heard()
        await caught_up(journal, follower)

        sender.assert_nothing_lost(follower)
        assert late_records(follower, sender) <= 1
        assert (follower.gaps, len(follower.epochs)) == (0, 1)


async def test_a_connection_without_heartbeats_ends_in_an_error_and_not_in_a_cancellation(
    proxy: TcpProxy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiormq cancels whoever waits. Taken for a cancellation of ours, it would end the publisher without a word."""
    monkeypatch.setattr(broker_connection, "HEARTBEAT_SECONDS", 1)

    async def use() -> None:
        async with Broker(url).connect("test") as connection:
            proxy.freeze()
            _ = await connection.open_channel()

    with pytest.raises(BrokerError):
        await use()


# -- streams that are deleted --------------------------------------------------------------------------------------


async def test_a_stream_deleted_under_its_followers_is_made_anew_and_followed_behind_a_gap(
    rabbitmq: RabbitMQ, prefix: str
) -> None:
    async with (
        running_journal(rabbitmq.url(), prefix) as journal,
        running_journal(rabbitmq.url(), prefix) as other,
        following(journal) as follower,
        following(other) as other_follower,
    ):
        sender = Sender(journal)
        for _ in range(20):
            await sender.send()
        await follower.has("n20")
        await asyncio.to_thread(rabbitmq.delete_queue, Names(prefix).stream)
        async with sending(sender):
            await until(lambda: follower.gaps > 0 and other_follower.gaps > 0)
            await sender.is_heard()
        last = sender.confirmed[-1]
        await follower.has(last)
        await other_follower.has(last)
        await caught_up(journal, follower)
        await caught_up(other, other_follower)

        for each in (follower, other_follower):
            assert each.gaps == 1
            assert each.epochs[0] != each.epochs[-1]
            assert each.names.count(last) == 1
        assert follower.epochs[-1] == other_follower.epochs[-1]


async def test_a_stream_that_is_deleted_while_nothing_is_sent_is_noticed_too(rabbitmq: RabbitMQ, prefix: str) -> None:
    """What is beyond the end of the new stream stays silent: it has to be asked for its end, and given a record."""
    async with running_journal(rabbitmq.url(), prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        for _ in range(5):
            await sender.send()
        await follower.has("n5")
        await asyncio.to_thread(rabbitmq.delete_queue, Names(prefix).stream)
        await until(lambda: follower.gaps == 1)
        await follower.has(await sender.send())

    assert sender.refused == []
    assert follower.epochs[0] != follower.epochs[-1]


async def test_a_follower_that_was_away_while_the_stream_was_made_anew_and_outgrew_the_old_notices(
    rabbitmq: RabbitMQ, proxy: TcpProxy, url: str, prefix: str
) -> None:
    """The offsets of the new stream are good ones in the old, and only the message at the last of them tells."""
    async with (
        running_journal(url, prefix) as journal,
        following(journal) as follower,
        running_journal(rabbitmq.url(), prefix) as other,
    ):
        sender, other_sender = Sender(journal), Sender(other, "o")
        for _ in range(3):
            await sender.send()
        await follower.has("n3")
        (old_epoch,) = follower.epochs
        proxy.cut()
        await asyncio.to_thread(rabbitmq.delete_queue, Names(prefix).stream)
        async with following(other):
            for _ in range(20):
                await other_sender.send()
            proxy.restore()
            await is_whole(journal)
            await follower.has("o20")
            await caught_up(journal, follower)

    assert follower.gaps == 1
    assert follower.names == [*sender.confirmed, *other_sender.confirmed]
    assert {record.epoch for record in follower.records if record.offset > 20} == {follower.epochs[-1]} != {old_epoch}


# -- messages that are no records ----------------------------------------------------------------------------------


class RawProperties(Basic.Properties):
    """Properties as they go over the wire, whatever they are."""

    def __init__(self, name: str, value: bytes) -> None:
        super().__init__(message_id="raw")  # For aiormq; it is not sent.
        self._raw = struct.pack(">H", Basic.Properties.flags[name]) + value

    def marshal(self) -> bytes:
        return self._raw


UNDECODABLE = {
    "microseconds": RawProperties("timestamp", struct.pack(">Q", 1_800_000_000_000_000)),
    "the largest timestamp": RawProperties("timestamp", b"\xff" * 8),
    "no UTF-8": RawProperties("content_type", b"\x03\xff\xfe\xfd"),
    "an id that is no UTF-8": RawProperties("message_id", b"\x03\xff\xfe\xfd"),
}


async def publish_raw(url: str, prefix: str, body: bytes, properties: Basic.Properties | None = None) -> None:
    async with raw_channel(url) as channel:
        await channel.basic_publish(body, exchange=Names(prefix).journal, properties=properties, mandatory=True)


async def test_garbage_in_the_stream_is_skipped_and_counted(amqp_url: str, prefix: str) -> None:
    record = encode([Marker("cut off")], Stamp("a", -1))
    garbage = [b"", b"garbage", b"NTFY", record[:-1], record + b"x", b"NTFY\xff" + record[5:], bytes(1_000_000)]
    async with running_journal(amqp_url, prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        await sender.send()
        for body in garbage:
            await publish_raw(amqp_url, prefix, body)
        await follower.has(await sender.send())

        assert follower.names == ["n1", "n2"]
        assert (journal.broken_records, journal.connections_lost, follower.gaps) == (len(garbage), 0, 0)


@pytest.mark.parametrize("properties", UNDECODABLE.values(), ids=UNDECODABLE.keys())
async def test_a_message_that_connections_die_of_is_left_out_and_delivery_goes_on(
    amqp_url: str, prefix: str, properties: Basic.Properties
) -> None:
    async with running_journal(amqp_url, prefix) as journal, following(journal) as follower:
        sender = Sender(journal)
        async with sending(sender):
            await sender.is_heard()
            await publish_raw(amqp_url, prefix, b"", properties)
            await until(lambda: journal.skipped_messages > 0)
            await publish_raw(amqp_url, prefix, b"", properties)
            await publish_raw(amqp_url, prefix, b"", properties)
            await until(lambda: journal.skipped_messages == 3)
            await sender.is_heard()
        await caught_up(journal, follower)

        sender.assert_nothing_lost(follower)
        assert sender.refused == []
        assert (follower.gaps, len(follower.epochs), journal.skipped_messages) == (0, 1, 3)


async def test_a_stream_that_begins_with_such_a_message_can_be_followed(amqp_url: str, prefix: str) -> None:
    async with running_journal(amqp_url, prefix) as writer:
        await until(lambda: writer.is_writable)
        await publish_raw(amqp_url, prefix, b"", UNDECODABLE["microseconds"])
    async with running_journal(amqp_url, prefix) as journal, following(journal) as follower:
        await journal.append([envelope("a")])
        await follower.has("a")

        assert journal.skipped_messages == 1


# -- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_frozen", [False, True], ids=["in good order", "while the network is frozen"])
async def test_closing_down_is_quick_and_leaves_nothing_behind(
    proxy: TcpProxy, url: str, prefix: str, is_frozen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = len(asyncio.all_tasks())
    async with running_journal(url, prefix, tick_seconds=0.05) as journal, following(journal):
        await Sender(journal).send()
        if is_frozen:
            proxy.freeze()
        began = time.monotonic()

    took_seconds = time.monotonic() - began
    proxy.cut()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    gc.collect()  # What was never awaited or closed complains now, and a warning fails the test.
    assert took_seconds < 2 * CLOSE_SECONDS + 1.0
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []
