"""The parts that tests of RabbitMQ stand on do as they are told: the private node, and the proxy before a broker."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aio_pika import DeliveryMode, Message, connect
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import AMQPConnectionError
from aiormq.exceptions import ChannelAccessRefused

from tests.rabbitmq import RabbitMQ, reserve_port
from tests.tcp_proxy import Direction, TcpProxy

DEADLINE_SECONDS = 20.0
SILENCE_SECONDS = 0.2  # An answer over loopback, if it came, would come in a hundredth of it.
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
OWNER_OF_A_NODE = """
import signal
from tests.rabbitmq import RabbitMQ, reserve_port
with RabbitMQ() as node:
    print(node.port, flush=True)
    signal.pause()
"""


@asynccontextmanager
async def open_channel(url: str) -> AsyncIterator[AbstractChannel]:
    async with asyncio.timeout(DEADLINE_SECONDS), await connect(url) as connection:
        yield await connection.channel(on_return_raises=True)


async def publish(channel: AbstractChannel, queue: str, body: bytes, *, timeout: float = DEADLINE_SECONDS) -> None:
    """Publish a message that survives a crash, and wait for the broker to confirm it."""
    message = Message(body, delivery_mode=DeliveryMode.PERSISTENT)
    await channel.default_exchange.publish(message, queue, timeout=timeout)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():  # noqa: ASYNC110 - it is another process, or a socket, that decides
            await asyncio.sleep(0.01)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class TestNode:
    def test_programs_of_its_own_speak_to_it(self, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
        """What `make rabbitmq` puts before a reader of the docs."""
        rabbitmq.write_programs(tmp_path)

        done = subprocess.run([tmp_path / "rabbitmqctl", "eval", "node()."], capture_output=True, text=True, check=True)

        assert done.stdout == f"'notifier-{rabbitmq.port}@localhost'\n"

    async def test_a_confirmed_message_outlives_a_kill(self, own_rabbitmq: RabbitMQ, prefix: str) -> None:
        async with open_channel(own_rabbitmq.url()) as channel:
            await channel.declare_queue(prefix, durable=True)
            await publish(channel, prefix, b"kept")
            own_rabbitmq.sync_metadata()
            own_rabbitmq.kill()
        own_rabbitmq.start()

        async with open_channel(own_rabbitmq.url()) as channel:
            message = await (await channel.get_queue(prefix)).get()
            assert message is not None
            assert message.body == b"kept"

    @pytest.mark.parametrize("block", [RabbitMQ.block_by_memory, RabbitMQ.block_by_disk])
    async def test_an_alarm_blocks_publishers_until_it_is_cleared(
        self, own_rabbitmq: RabbitMQ, prefix: str, block: Callable[[RabbitMQ], None]
    ) -> None:
        async with open_channel(own_rabbitmq.url()) as channel:
            await channel.declare_queue(prefix, durable=True)
            block(own_rabbitmq)
            with pytest.raises(TimeoutError):
                await publish(channel, prefix, b"blocked", timeout=SILENCE_SECONDS)

            own_rabbitmq.unblock()
            await publish(channel, prefix, b"free again")

    async def test_a_suspended_node_holds_its_connections_and_is_silent(
        self, own_rabbitmq: RabbitMQ, prefix: str
    ) -> None:
        async with open_channel(own_rabbitmq.url()) as channel:
            await channel.declare_queue(prefix, durable=True)
            own_rabbitmq.suspend()
            with pytest.raises(TimeoutError):
                await publish(channel, prefix, b"unheard", timeout=SILENCE_SECONDS)

            own_rabbitmq.resume()
            await publish(channel, prefix, b"heard")

    async def test_a_stopped_application_refuses_connections_while_its_process_runs(
        self, own_rabbitmq: RabbitMQ
    ) -> None:
        own_rabbitmq.stop_app()
        with pytest.raises(AMQPConnectionError):
            await connect(own_rabbitmq.url())
        assert own_rabbitmq.is_running

        own_rabbitmq.start_app()
        async with open_channel(own_rabbitmq.url()):
            pass

    async def test_a_user_may_do_what_its_permissions_say(self, rabbitmq: RabbitMQ, prefix: str) -> None:
        rabbitmq.add_user(prefix, "först:/@", configure=f"^{prefix}", write="", read=f"^{prefix}")
        async with open_channel(rabbitmq.url(prefix, "först:/@")) as channel:
            await channel.declare_queue(prefix, durable=True)
            with pytest.raises(ChannelAccessRefused):
                await channel.declare_queue("somebody-elses", durable=True)

        rabbitmq.change_password(prefix, "second")
        with pytest.raises(AMQPConnectionError):
            await connect(rabbitmq.url(prefix, "först:/@"))

    async def test_queues_are_listed_and_deleted(self, rabbitmq: RabbitMQ, prefix: str) -> None:
        async with open_channel(rabbitmq.url()) as channel:
            await channel.declare_queue(f"{prefix}.classic", durable=True)
            await channel.declare_queue(f"{prefix}.stream", durable=True, arguments={"x-queue-type": "stream"})
            await publish(channel, f"{prefix}.classic", b"one")
            assert rabbitmq.list_queues()[f"{prefix}.classic"] == 1

            rabbitmq.delete_queue(f"{prefix}.stream")
            assert f"{prefix}.stream" not in rabbitmq.list_queues()

    def test_rabbitmqctl_reaches_the_node(self, rabbitmq: RabbitMQ) -> None:
        assert f"notifier-{rabbitmq.port}@localhost" in rabbitmq.control("eval", "node().")

    def test_an_expression_that_fails_is_an_error_with_its_reason(self, rabbitmq: RabbitMQ) -> None:
        with pytest.raises(RuntimeError, match="badmatch"):
            rabbitmq.evaluate("1 = 2")

    def test_a_port_that_a_node_holds_is_nobody_elses_while_the_node_is_down(self) -> None:
        """Two test processes draw their ports from one range."""
        with reserve_port() as held:
            port = held.getsockname()[1]

            with pytest.raises(OSError, match=f"no port from {port}"):
                reserve_port(range(port, port + 1))

            with socket.socket() as as_erlang_does:
                as_erlang_does.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                as_erlang_does.bind(("0.0.0.0", port))
                as_erlang_does.listen()

    async def test_a_node_ends_with_the_process_that_started_it(self, rabbitmq: RabbitMQ, tmp_path: Path) -> None:
        """Nobody cleans up after a test run that is killed."""
        owner = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", OWNER_OF_A_NODE),
            cwd=Path(__file__).parents[1],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=asyncio.subprocess.PIPE,
        )
        assert owner.stdout is not None
        port = int(await owner.stdout.readline())
        assert accepts(port)
        owner.kill()
        await owner.communicate()

        await until(lambda: not accepts(port))


class Client:
    """A connection that says hello to a broker, as raw as can be, to see how the network behaves."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def greet(self) -> None:
        """Send the protocol header, which a broker answers."""
        self._writer.write(PROTOCOL_HEADER)
        await self._writer.drain()

    async def hears(self) -> bool:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.read(1) != b""

    async def is_reset(self) -> None:
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._reader.read()

    async def hears_nothing(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._reader.read(1)


@asynccontextmanager
async def client_of(proxy: TcpProxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
async def proxy(amqp_url: str) -> AsyncIterator[TcpProxy]:
    """A proxy before a broker."""
    target = urlsplit(amqp_url)
    async with TcpProxy(target.hostname or "", target.port or 5672) as proxy:
        yield proxy


class TestProxy:
    async def test_everything_passes_until_something_is_broken(
        self, proxy: TcpProxy, amqp_url: str, prefix: str
    ) -> None:
        body = bytes(1_000_000)
        async with open_channel(proxy.url(amqp_url)) as channel:
            queue = await channel.declare_queue(prefix, exclusive=True)
            await publish(channel, prefix, body)
            message = await queue.get(no_ack=True)
            assert message is not None
            assert message.body == body
            assert proxy.connections == 1

        await until(lambda: proxy.connections == 0)

    async def test_a_cut_resets_what_is_connected_and_refuses_what_comes(self, proxy: TcpProxy) -> None:
        async with client_of(proxy) as client:
            await client.greet()
            assert await client.hears()
            proxy.cut()
            await client.is_reset()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)

        proxy.restore()
        async with client_of(proxy) as client:
            await client.greet()
            assert await client.hears()

    async def test_a_reset_spares_new_connections(self, proxy: TcpProxy) -> None:
        async with client_of(proxy) as client:
            await client.greet()
            assert await client.hears()
            proxy.reset_connections()
            await client.is_reset()

        async with client_of(proxy) as client:
            await client.greet()
            assert await client.hears()

    async def test_a_frozen_network_keeps_connections_and_is_silent(self, proxy: TcpProxy) -> None:
        async with client_of(proxy) as present:
            await until(lambda: proxy.connections == 1)
            proxy.freeze()
            async with client_of(proxy) as new:
                await present.greet()
                await new.greet()
                await present.hears_nothing()
                await new.hears_nothing()
                assert proxy.connections == 2

                proxy.restore()
                assert await present.hears()
                assert await new.hears()

    @pytest.mark.parametrize("direction", ["to_client", "to_server"])
    async def test_one_direction_is_lost_for_present_connections_only(
        self, proxy: TcpProxy, direction: Direction
    ) -> None:
        async with client_of(proxy) as present:
            await until(lambda: proxy.connections == 1)
            proxy.swallow(direction)
            async with client_of(proxy) as new:
                await present.greet()
                await new.greet()
                assert await new.hears()
                await present.hears_nothing()

    async def test_a_delay_comes_on_top_of_each_way(self, proxy: TcpProxy) -> None:
        async with client_of(proxy) as client:
            proxy.delay(0.1, jitter=0.01)
            began = time.monotonic()
            await client.greet()
            assert await client.hears()

        assert time.monotonic() - began >= 0.2

    async def test_a_target_that_is_down_resets_the_client(self) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            async with TcpProxy(*nobody.getsockname()) as proxy, client_of(proxy) as client:
                await client.is_reset()
