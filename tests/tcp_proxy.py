"""A network that breaks on demand: a TCP proxy on the test's event loop, between a client and the real server."""

import asyncio
import random
import socket
import struct
from collections import deque
from typing import Final, Literal, Self, cast
from urllib.parse import urlsplit

CONNECT_SECONDS: Final = 5.0
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: closing sends a reset and drops what was not sent

Direction = Literal["to_client", "to_server"]


class TcpProxy:
    """Passes connections on to a target, from a port of its own, until it is told to misbehave.

    Nothing waits: what a method asks for has happened when the event loop comes round again.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.is_frozen = False
        self._delay_seconds = 0.0
        self._jitter_seconds = 0.0
        self._bytes_per_second: float | None = None  # Of each connection, in each direction; None for no limit.
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None  # None while connections are refused
        # Bound and never listening, so that nobody takes the port meanwhile; Linux allows both if both reuse addresses.
        self._reserved = _bind(0)
        self.port: int = self._reserved.getsockname()[1]

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut()
        await asyncio.gather(*(link.task for link in self._links))
        self._reserved.close()

    def url(self, amqp_url: str) -> str:
        """The same URL by way of the proxy."""
        parts = urlsplit(amqp_url)
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return sum(link.client.is_open for link in self._links)

    def cut(self) -> None:
        """Refuse new connections, and reset the present ones."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        self.reset_connections()

    def reset_connections(self) -> None:
        """Reset the present connections on both sides; new ones are let in."""
        for link in self._links:
            link.reset()

    def freeze(self) -> None:
        """Pass nothing on: connections stay, new ones are taken, and all of them are silent."""
        self.is_frozen = True
        self._pump()

    def swallow(self, direction: Direction) -> None:
        """Lose what goes in one direction, its end included, on the present connections for as long as they last."""
        for link in self._links:
            (link.server if direction == "to_client" else link.client).swallow()

    def delay(self, seconds: float, jitter: float = 0.0) -> None:
        """Pass each piece on `seconds` later and up to `jitter` more; their order stays."""
        self._delay_seconds, self._jitter_seconds = seconds, jitter

    def throttle(self, bytes_per_second: float | None) -> None:
        """Pass on no more than so much a second, on each connection and in each direction."""
        self._bytes_per_second = bytes_per_second

    def restore(self) -> None:
        """Take new connections, and pass on what was held back. A connection that lost something stays as it is."""
        self.is_frozen = False
        self.delay(0.0)
        self.throttle(None)
        if self._listener is None:
            self._listen()
        self._pump()

    def latency(self) -> float:
        """How long the next piece takes, in seconds."""
        return self._delay_seconds + random.uniform(0.0, self._jitter_seconds)

    def transmission(self, size: int) -> float:
        """How long so many bytes take to be put on the wire, in seconds."""
        return 0.0 if self._bytes_per_second is None else size / self._bytes_per_second

    def forget(self, link: "_Link") -> None:
        self._links.discard(link)

    def _pump(self) -> None:
        for link in self._links:
            link.client.pump()
            link.server.pump()

    def _listen(self) -> None:
        self._listener = _bind(self.port)
        self._listener.listen()
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # The client has left already.
            return
        accepted.setblocking(False)
        self._links.add(_Link(self, accepted))


class _Link:
    """A client's connection to the proxy, and the proxy's to the target for it."""

    def __init__(self, proxy: TcpProxy, accepted: socket.socket) -> None:
        self.proxy = proxy
        self.is_reset = False
        self.client = _End(self)
        self.server = _End(self)
        self.client.peer, self.server.peer = self.server, self.client
        self.task = asyncio.create_task(self._run(accepted))

    def reset(self) -> None:
        self.is_reset = True
        self.client.reset()
        self.server.reset()

    async def _run(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: self.client, accepted)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: self.server, *self.proxy.target)
        except OSError:
            self.reset()
        else:
            await self.server.lost.wait()
        await self.client.lost.wait()
        self.proxy.forget(self)


class _End(asyncio.Protocol):
    """One end of a link: passes what it receives on to its peer."""

    peer: "_End"

    def __init__(self, link: _Link) -> None:
        self.lost = asyncio.Event()
        self._link = link
        self._transport: asyncio.Transport | None = None  # None until connected
        self._is_full = False
        self._is_swallowing = False
        self._held: deque[tuple[float, bytes]] = deque()  # when it is due, and what
        self._sent_at = 0.0  # When the wire is free for the next piece.
        self._last_due = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self.lost.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._link.is_reset:
            self.reset()
        self.pump()
        self.peer.pump()

    def data_received(self, data: bytes) -> None:
        if not self._is_swallowing:
            proxy, now = self._link.proxy, asyncio.get_running_loop().time()
            self._sent_at = max(self._sent_at, now) + proxy.transmission(len(data))
            self._last_due = max(self._last_due, self._sent_at + proxy.latency())
            self._held.append((self._last_due, data))
            self.pump()

    def pause_writing(self) -> None:
        self._is_full = True
        self.peer.pump()

    def resume_writing(self) -> None:
        self._is_full = False
        self.peer.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.pump()

    def swallow(self) -> None:
        self._is_swallowing = True
        self._held.clear()

    def reset(self) -> None:
        if self._transport is not None and self.is_open:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self._transport.abort()

    def pump(self) -> None:
        """Pass on what is due, and receive only what can be passed on."""
        passes = self.peer.is_open and not self._link.proxy.is_frozen
        if passes:
            self._pass_on()
        if self._transport is not None and not self._transport.is_closing():
            if passes and not self.peer._is_full:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        target = self.peer._transport
        assert target is not None
        if target.is_closing():
            self._held.clear()
        while self._held and self._held[0][0] <= loop.time():
            target.write(self._held.popleft()[1])
        if self._held:
            loop.call_at(self._held[0][0], self.pump)
        elif self.lost.is_set() and not self._is_swallowing:
            target.close()


def _bind(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound
