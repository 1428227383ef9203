"""A bare relay to compare with: consume a queue, publish confirmed to a stream, consume the stream. Nothing else.

python -m tests.benchmarks.relay URL COUNT prints `ready`, and then the latency of each message in milliseconds.
"""

import asyncio
import json
import sys
import time

import aio_pika
import uvloop
from aio_pika.abc import AbstractIncomingMessage

from tests.benchmarks.broker import RELAY_QUEUE, RELAY_STREAM


async def relay(url: str, count: int) -> None:
    """Relay until so many messages came out of the stream."""
    milliseconds: list[float] = []
    done = asyncio.Event()
    async with await aio_pika.connect(url) as publishing, await aio_pika.connect(url) as consuming:
        out, into, back = await asyncio.gather(
            publishing.channel(on_return_raises=True), consuming.channel(), consuming.channel()
        )
        for channel in (into, back):
            await channel.set_qos(prefetch_count=200)
        requests = await into.declare_queue(RELAY_QUEUE, durable=True, arguments={"x-queue-type": "quorum"})
        stream = await back.declare_queue(RELAY_STREAM, durable=True, arguments={"x-queue-type": "stream"})

        async def on_request(message: AbstractIncomingMessage) -> None:
            await out.default_exchange.publish(aio_pika.Message(message.body), RELAY_STREAM, timeout=10)
            await message.ack()

        async def on_record(message: AbstractIncomingMessage) -> None:
            milliseconds.append((time.monotonic() - json.loads(message.body)["sent"]) * 1000)
            await message.ack()
            if len(milliseconds) == count:
                done.set()

        await stream.consume(on_record, arguments={"x-stream-offset": "next"})
        await requests.consume(on_request)
        print("ready", flush=True)
        await done.wait()
    print(json.dumps(milliseconds))


if __name__ == "__main__":
    uvloop.run(relay(sys.argv[1], int(sys.argv[2])))
