"""Runs one replica: uvicorn on listening sockets of our own, the operations port beside it, and an orderly drain."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from notifier.app import Service
from notifier.settings import Settings
from notifier.transports.descriptors import most_connections
from notifier.transports.http_protocol import HttpProtocol
from notifier.transports.proxies import also_mapped
from notifier.transports.socket_protocol import SocketProtocol

log: Final = logging.getLogger(__name__)
BACKLOG: Final = 4_096
FROZEN_SECONDS: Final = 2.0
GRACE_SECONDS: Final = 3


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us, and frozen clients behind."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def abandon_frozen(self) -> None:
        """Cut the connections that are closing and whose clients do not take the rest: they would hold up the end."""
        for connection in list(self.server_state.connections):
            if connection.transport.is_closing():
                connection.transport.abort()


@dataclass(frozen=True, slots=True)
class Listening:
    """The sockets of a replica; open before anything else starts, so that a taken port is told at once."""

    public: socket.socket
    operations: socket.socket


def listen(settings: Settings) -> Listening:
    """Open both sockets. Raises OSError that names the address."""
    return Listening(listen_in_public(settings), _listen(settings.operations.host, settings.operations.port))


def listen_in_public(settings: Settings) -> socket.socket:
    """Open the socket of the public port. Raises OSError that names the address."""
    http = settings.http
    public = _listen(http.host, http.port, reuse_port=http.reuse_port)
    # Accepted sockets inherit both. A frozen peer costs no more than this buffer, and is cut by the kernel: closing a
    # transport waits for its buffer to empty, which a zero window prevents for ever.
    public.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, http.send_buffer_bytes)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        public.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, http.tcp_user_timeout_milliseconds)
    return public


async def serve(
    settings: Settings, service: Service, listening: Listening, *, on_hang_up: Callable[[], None] | None = None
) -> int:
    """Serve until a signal or a failure, then drain. Returns the exit code. SIGHUP calls `on_hang_up`, if given."""
    ending = _Ending()
    loop = asyncio.get_running_loop()
    if on_hang_up is not None:
        loop.add_signal_handler(signal.SIGHUP, on_hang_up)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ending.ask, number)
    public = Server(public_config(settings, service.api))
    operations = Server(_config(service.operations, lifespan="off", ws_per_message_deflate=False))
    spare_the_collector()
    async with asyncio.TaskGroup() as servers:
        serving = servers.create_task(public.serve([listening.public]))
        servers.create_task(operations.serve([listening.operations]))
        watching = servers.create_task(_watch(service, ending))
        _say_where(listening)
        await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        if ending.asked.is_set():
            await _drain(settings, service, ending)
        watching.cancel()
        public.should_exit = True
        await asyncio.wait({serving}, timeout=FROZEN_SECONDS)
        public.abandon_frozen()
        await asyncio.wait({serving})
        operations.should_exit = True
    log.info("stopped", extra={"failed": service.failed.is_set()})
    gc.freeze()  # What is left need not be searched for cycles: with thousands of sessions that took seconds.
    return 1 if service.failed.is_set() else 0


def spare_the_collector() -> None:
    """Look for cycles seldom, and never among what lives as long as the process.

    Handshakes and requests make many objects and hardly a cycle; see `DECISIONS.md`, 13, for what it saves.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class _Ending:
    """What signals have asked for: the first one to end, another one to hurry."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurry = asyncio.Event()

    def ask(self, number: signal.Signals) -> None:
        # Ctrl-C is a person who waits; SIGTERM an orchestrator that still routes clients here for some seconds.
        if number == signal.SIGINT or self.asked.is_set():
            self.hurry.set()
        self.asked.set()


async def _watch(service: Service, ending: _Ending) -> None:
    """Return when the process must end."""
    waits = [asyncio.create_task(event.wait()) for event in (service.failed, ending.asked)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _drain(settings: Settings, service: Service, ending: _Ending) -> None:
    """Unready at once; serve on until routes have changed; then send the sessions away at a pace."""
    service.is_ending = True
    log.info("draining", extra={"sessions": len(service.hub)})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.http.drain_delay_seconds):
            await ending.hurry.wait()
    window_seconds = 0.0 if ending.hurry.is_set() else settings.http.drain_window_seconds
    closing = asyncio.create_task(service.close_sessions(over_seconds=window_seconds))
    hurry = asyncio.create_task(ending.hurry.wait())
    await asyncio.wait({closing, hurry}, return_when=asyncio.FIRST_COMPLETED)
    if not closing.done():
        closing.cancel()
        await service.close_sessions(over_seconds=0.0)
    hurry.cancel()


def public_config(settings: Settings, app: ASGIApp) -> uvicorn.Config:
    """How uvicorn serves the public port."""
    http, sessions = settings.http, settings.sessions
    config = _config(
        app,
        lifespan="on",
        ws_max_size=sessions.frame_limit_bytes,
        ws_per_message_deflate=sessions.deflate,
        ws_ping_interval=None,  # Sessions are detached, and their heartbeats bring a ping.
        proxy_headers=bool(http.trusted_proxies),
        forwarded_allow_ips=also_mapped(http.trusted_proxies),
        timeout_keep_alive=http.keep_alive_seconds,
    )
    config.http = partial(HttpProtocol, most_connections=most_connections())  # type: ignore[assignment]  # uvicorn calls it
    return config


def _config(app: ASGIApp, **options: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=HttpProtocol,
        ws=SocketProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        workers=1,
        timeout_graceful_shutdown=GRACE_SECONDS,
        **options,  # type: ignore[arg-type]  # each option is typed where it is given
    )


def _listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _say_where(listening: Listening) -> None:
    for name, listener in (("public", listening.public), ("operations", listening.operations)):
        host, port = listener.getsockname()[:2]
        log.info("listening", extra={"port_name": name, "host": host, "port": port})
