"""What sessions over SSE cost, detached and left in ASGI, beside sockets under the same load.

The load is this process: one notification in flight, so that its pace is nobody's cost. Memory is Private_Dirty, as in
`sessions.py`.
"""

import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.figure import Figure
from tests.benchmarks.load import Load, LoadFailed
from tests.benchmarks.machine import LOAD_CORE, pinned_to
from tests.benchmarks.requests import one_notification, session_tokens
from tests.benchmarks.server import fresh_server

WARM_SESSIONS: Final = 100
WARM_BROADCASTS: Final = 2
BROADCAST_SECONDS: Final = 1.5  # Of the server's CPU, about.
DEADLINE_SECONDS: Final = 30.0
STREAM: Final = "GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
SOCKET: Final = (
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: notifier.v1, bearer.{token}\r\n\r\n"
)
KINDS: Final = (
    ("SSE, detached", "notifier", STREAM),
    ("SSE in ASGI", "tests.ordinary", STREAM),
    ("WebSocket, detached", "notifier", SOCKET),
)


def streams(count: int) -> list[Figure]:
    """Open so many sessions of each kind, look at the memory, and send to all of them."""
    figures: list[Figure] = []
    for name, module, request in KINDS:
        with fresh_server(module=module) as load, pinned_to(LOAD_CORE):
            figures += _measured(name, load, request, session_tokens(count))
    return figures


def _measured(name: str, load: Load, request: str, tokens: Sequence[str]) -> list[Figure]:
    port, pid = load.target.ports[0], load.target.pids[0]
    clients = [_opened(port, request.format(token=token)) for token in tokens[:WARM_SESSIONS]]
    try:
        cpu, memory, before = _cpu_seconds(pid), _memory_bytes(pid), len(clients)
        clients += [_opened(port, request.format(token=token)) for token in tokens[WARM_SESSIONS:]]
        opened = len(clients) - before
        handshake = (_cpu_seconds(pid) - cpu) / opened
        idle = (_memory_bytes(pid) - memory) / opened
        return [
            Figure(f"{name}: handshake", "CPU µs", handshake * 1e6),
            Figure(f"{name}: user memory, {len(clients):,} sessions", "KiB / session", idle / 1024),
            Figure(
                f"{name}: broadcast to {len(clients):,}", "CPU µs / delivery", _delivery_seconds(load, clients) * 1e6
            ),
        ]
    finally:
        for client in clients:
            client.close()


def _opened(port: int, request: str) -> socket.socket:
    """A client past its welcome."""
    client = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS)
    client.sendall(request.encode())
    received = b""
    while b'"features":[]}' not in received:
        part = client.recv(65_536)
        if not part:
            raise LoadFailed(f"a session was refused: {received[:200]!r}")
        received += part
    return client


def _delivery_seconds(load: Load, clients: Sequence[socket.socket]) -> float:
    pid, deliveries, began = load.target.pids[0], 0, 0.0
    post = one_notification({"everyone": True})
    with socket.create_connection(("127.0.0.1", load.target.ports[0])) as sender, select.epoll() as poll:
        for client in clients:
            poll.register(client, select.EPOLLIN)
        for number in range(10_000):
            if number == WARM_BROADCASTS:
                began = _cpu_seconds(pid)
            sender.sendall(post)
            _receive_each_once(poll, {client.fileno(): client for client in clients})
            if b" 202 " not in sender.recv(65_536):
                raise LoadFailed("a notification was not accepted")
            deliveries += len(clients) if number >= WARM_BROADCASTS else 0
            if deliveries and _cpu_seconds(pid) - began > BROADCAST_SECONDS:
                break
    return (_cpu_seconds(pid) - began) / deliveries


def _receive_each_once(poll: select.epoll, waiting: dict[int, socket.socket]) -> None:
    """A notification is one write, and comes as one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while waiting:
        if time.monotonic() > deadline:
            raise LoadFailed(f"{len(waiting)} sessions heard nothing")
        for file, _ in poll.poll(1):
            if b'"notification"' in waiting.pop(file).recv(65_536):
                continue
            raise LoadFailed("something else than a notification came")


def _cpu_seconds(pid: int) -> float:
    return time.clock_gettime(_clock_of(pid))


def _clock_of(pid: int) -> int:
    """The CPU clock of another process, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def _memory_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise LoadFailed("the system does not tell the memory of a process")
