"""Connections to RabbitMQ: opened within a time, named, watched, and given up without waiting for a dead peer.

It touches the inside of aio-pika, as `consumer.py` does for deliveries: whether the broker has blocked us, why a
connection was lost, and the transport, to cut it. Recovery is not its business: who uses a connection opens the next
one (`Backoff`).
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from aiormq.exceptions import AMQPError, ChannelInvalidStateError, InvalidFrameError
from yarl import URL

HEARTBEAT_SECONDS: Final = 10
CLOSE_SECONDS: Final = 2.0
_Result = TypeVar("_Result")


class BrokerError(Exception):
    """A connection could not be opened, was lost, or was refused something. The text never holds a password.

    `is_undecodable`: it was lost over a frame that cannot be decoded, and would be lost over it again.
    """

    def __init__(self, reason: str, *, is_undecodable: bool = False) -> None:
        super().__init__(reason)
        self.is_undecodable = is_undecodable

    @classmethod
    def because(cls, error: BaseException) -> "BrokerError":
        """Put any failure of a connection into words."""
        is_undecodable = isinstance(error, InvalidFrameError | UnicodeDecodeError | RecursionError | OverflowError)
        if isinstance(error, TimeoutError):
            return cls("the broker did not answer in time")
        if isinstance(error, asyncio.CancelledError):  # How aiormq ends what waits for a broker without heartbeats.
            return cls("the broker fell silent")
        said = ", ".join(str(argument) for argument in error.args if argument)
        return cls(f"{type(error).__name__}: {said}" if said else type(error).__name__, is_undecodable=is_undecodable)


class Backoff:
    """Pauses between attempts: full jitter under a ceiling that doubles, so that replicas do not come back together."""

    def __init__(self, *, first_seconds: float = 0.2, most_seconds: float = 2.0) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._failures = 0

    def reset(self) -> None:
        """Begin anew: what is tried has worked."""
        self._failures = 0

    async def pause(self) -> None:
        """Wait before the next attempt."""
        ceiling = min(self._most_seconds, self._first_seconds * 2.0 ** min(self._failures, 16))
        self._failures += 1
        await asyncio.sleep(random.uniform(0, ceiling))  # noqa: S311 - spreads reconnects


class _Transports(TransportFactory):
    """Opens what aiormq would open, and keeps the transport so that it can be cut."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None  # None until connected.

    async def create(self, url: URL, **kwargs: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        factory = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, self.writer = await factory.create(url, **kwargs)
        return reader, self.writer


class Connection(aio_pika.Connection):
    """An open connection, for one user of it."""

    def __init__(self, url: URL, *, name: str) -> None:
        super().__init__(url, client_properties={"connection_name": name})
        self._transports = _Transports()
        self.kwargs["transport_factory"] = self._transports

    @property
    def is_lost(self) -> bool:
        """Whether it is of no use any more, or not yet."""
        return self.transport is None or self.transport.connection.is_closed

    async def is_blocked(self) -> bool:
        """Tell whether the broker has said that it takes no messages now: an alarm over memory or disk."""
        try:
            async with asyncio.timeout(0):
                await self.unblocked()
        except TimeoutError:
            return True
        return False

    async def unblocked(self) -> None:
        """Wait until the broker takes messages: at once, but for an alarm."""
        if self.transport is not None:
            await self.transport.connection.ready()

    async def open_channel(self, *, prefetch: int | None = None) -> AbstractChannel:
        """Open a channel with confirms, on which what cannot be routed is an error; `prefetch` is for consumers."""
        channel = self.channel(on_return_raises=True)
        await channel.initialize()
        if prefetch is not None:
            await channel.set_qos(prefetch_count=prefetch)
        return channel

    async def close_channel(self, channel: AbstractChannel) -> None:
        """Close a channel; a broker that answers that has read all that was written on it. Raises BrokerError."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await channel.close()
        except TimeoutError:
            raise BrokerError("the broker does not answer") from None

    async def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do the work, unless the connection is lost first. Raises BrokerError then."""
        task = asyncio.ensure_future(work)
        lost = self._lost()
        try:
            await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not task.cancelled():
                return task.result()
            raise self.loss()
        finally:
            for each in (task, lost):
                each.cancel()
            await asyncio.gather(task, lost, return_exceptions=True)

    def _lost(self) -> asyncio.Future[Any]:
        if self.transport is not None:
            return self.transport.connection.closing  # `closed` is told only of an end that we asked for.
        gone = asyncio.get_running_loop().create_future()
        gone.set_result(None)
        return gone

    def loss(self, error: BaseException | None = None) -> BrokerError:
        """Say why it is lost; the connection's own reason comes before `error`, which is often only its consequence."""
        closing = self.transport.connection.closing if self.transport and self.is_lost else None
        if closing is not None and not closing.cancelled() and (cause := closing.exception()):
            return BrokerError.because(cause)
        return BrokerError.because(error) if error else BrokerError("the connection was closed")

    def cut(self) -> None:
        """Drop it without a word to the broker; whoever uses it gets a BrokerError."""
        if self._transports.writer is not None:
            self._transports.writer.transport.abort()

    async def end(self) -> None:
        """Close in good manners, within a time; then cut."""
        closing = asyncio.ensure_future(self.close())
        try:
            await asyncio.wait([closing], timeout=CLOSE_SECONDS)
        finally:
            closing.cancel()
            self.cut()
            await asyncio.gather(closing, return_exceptions=True)


class Broker:
    """One RabbitMQ, as one replica reaches it.

    Args:
        url: `amqp://` or `amqps://`, never shown; or how to learn it, asked for each connection: passwords are changed.
        name: what the broker shows as the name of each connection, before its role.
        timeout_seconds: the most that opening a connection may take.
    """

    connection_class: type[Connection] = Connection

    def __init__(self, url: str | Callable[[], str], *, name: str = "notifier", timeout_seconds: float = 5.0) -> None:
        self._url = url
        self._name = name
        self._timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        return str(URL(self._url_now()).with_password(None).with_query(None))

    def _url_now(self) -> str:
        return self._url if isinstance(self._url, str) else self._url()

    @asynccontextmanager
    async def connect(self, role: str) -> AsyncGenerator[Connection, None]:
        """Open a connection for this role and close it at the end. Raises BrokerError for its failures, and inside."""
        url = URL(self._url_now()).update_query(heartbeat=HEARTBEAT_SECONDS)
        connection = self.connection_class(url, name=f"{self._name}/{role}")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await _open(connection, url)
            yield connection
        except (AMQPError, OSError, TimeoutError, ChannelInvalidStateError) as error:
            raise connection.loss(error) from error
        except (Exception, asyncio.CancelledError) as error:
            if connection.is_lost and _is_thrown_by_aiormq(error):
                raise connection.loss(error) from error
            raise
        finally:
            await connection.end()


async def _open(connection: Connection, url: URL) -> None:
    try:
        await connection.connect()
    except InvalidFrameError as error:
        # aiormq takes the refusal for a frame out of place, and drops what the broker said in it.
        user, host = url.user or "guest", url.path[1:].replace("%2F", "/") or "/"
        raise BrokerError(f"the virtual host {host} is not there, or the user {user} may not enter it") from error


def _is_thrown_by_aiormq(error: BaseException) -> bool:
    """Tell what aiormq throws into whoever waits when a connection ends, and whoever uses it afterwards.

    That is an Exception of no kind where the broker just hung up, and where it fell silent a cancellation that nobody
    has asked for: passed on, it would end the task of whoever uses the connection without a word.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and not task.cancelling()
    return type(error) is Exception or isinstance(error, RuntimeError)
