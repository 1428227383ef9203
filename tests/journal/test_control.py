"""The control stream on a real broker: read from its start, past poison, and anew where the stream is another one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aio_pika import Message

from notifier.broker.connection import Broker
from notifier.broker.topology import Names, control_topology, prepare
from notifier.core.control import TICK, Control, ControlRecord
from notifier.core.errors import Unavailable
from notifier.journal.control import MAJOR, RabbitControl, decode, encode
from tests.journal.builders import until
from tests.rabbitmq import RabbitMQ

MAX_AGE_SECONDS = 3_600


class Replica:
    """What one replica hears."""

    def __init__(self, stream: RabbitControl) -> None:
        self.stream = stream
        self.control = Control(stream)
        self.heard: list[object] = []
        self.ticks = 0
        self.control.on("news", self._hear)
        self.control.on(TICK, self._note_tick)

    def _hear(self, fields: Any) -> None:
        self.heard.append(fields["number"])

    def _note_tick(self, _: object) -> None:
        self.ticks += 1

    async def tell(self, number: int) -> None:
        await self.control.tell(ControlRecord("news", {"number": number}))


@asynccontextmanager
async def replica(url: str, prefix: str, **changes: Any) -> AsyncIterator[Replica]:
    """One that has read everything that there is."""
    names = Names(prefix)
    topology = control_topology(names, max_age_seconds=MAX_AGE_SECONDS)
    stream = RabbitControl(
        Broker(url, name="notifier/test"),
        exchange=names.control,
        stream=names.control_stream,
        prepare=partial(prepare, topology=topology, declares=True),
        read_back_seconds=MAX_AGE_SECONDS,
        **changes,
    )
    one = Replica(stream)
    running = [asyncio.create_task(stream.run()), asyncio.create_task(one.control.follow_control())]
    try:
        await one.control.catch_up()
        yield one
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def publish(url: str, prefix: str, *bodies: bytes) -> None:
    async with Broker(url).connect("test") as connection:
        channel = await connection.open_channel()
        exchange = await channel.get_exchange(Names(prefix).control, ensure=False)
        for number, body in enumerate(bodies):
            await exchange.publish(Message(body, message_id=f"m{number}"), "")


async def test_every_replica_hears_it_and_one_that_starts_later_too(amqp_url: str, prefix: str) -> None:
    async with replica(amqp_url, prefix) as one, replica(amqp_url, prefix) as other:
        for number in range(5):
            await one.tell(number)
        await until(lambda: other.heard == [0, 1, 2, 3, 4])
        async with replica(amqp_url, prefix) as late:
            assert late.heard == [0, 1, 2, 3, 4]


async def test_poison_unknown_kinds_and_a_new_major_are_passed_over(amqp_url: str, prefix: str) -> None:
    async with replica(amqp_url, prefix) as one:
        later = encode([ControlRecord("of a later version", {"a": [1]}), ControlRecord("news", {"number": 7})])
        newer = later.replace(f'"major":{MAJOR}'.encode(), f'"major":{MAJOR + 1}'.encode())
        await publish(amqp_url, prefix, b"\xff", b"[" * 100_000, b"{}", newer, b'{"major":1,"records":[7]}', later)
        await until(lambda: one.heard == [7])
        async with replica(amqp_url, prefix) as late:
            assert late.heard == [7]

        assert (one.stream.broken_messages, one.control.skipped) == (5, 1)


async def test_a_stream_that_was_deleted_is_made_anew_and_heard_from_its_start(rabbitmq: RabbitMQ, prefix: str) -> None:
    """What a replica knew it knows still; who starts later has to be told again."""
    async with replica(rabbitmq.url(), prefix) as one, replica(rabbitmq.url(), prefix) as other:
        await one.tell(1)
        await until(lambda: other.heard == [1])
        await asyncio.to_thread(rabbitmq.delete_queue, Names(prefix).control_stream)
        await until(lambda: not other.stream.is_following)

        async def told() -> None:
            while True:
                try:
                    return await one.tell(2)
                except Unavailable:  # Until the stream is there again.
                    await asyncio.sleep(0.05)

        await asyncio.wait_for(told(), 20)
        await until(lambda: 2 in other.heard)
        await until(lambda: one.stream.is_following and other.stream.is_following)


async def test_one_replica_ticks_for_all_when_nothing_is_said(amqp_url: str, prefix: str) -> None:
    """Each tick is kept for a day, and read at every start."""
    often = {"idle_seconds": 0.5, "silence_seconds": 10.0}
    async with replica(amqp_url, prefix, **often) as one, replica(amqp_url, prefix, **often):
        before = one.ticks
        began = asyncio.get_running_loop().time()
        await until(lambda: one.ticks >= before + 4)
        took_seconds = asyncio.get_running_loop().time() - began

    assert took_seconds > 4 * 0.5 * 0.6  # Two that ticked for themselves alone would need half of 2 to 3 seconds.


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"major": 1}', b'{"major": 1, "records": [{"kind": "a"}]}'])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        decode(body)


def test_a_message_is_read_as_it_was_written() -> None:
    records = [ControlRecord("a", {"b": None, "c": 1.5}), ControlRecord(TICK)]

    assert decode(encode(records)) == records
