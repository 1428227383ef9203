"""The machine that the figures come from: its cores, its limits, and how it is named beside a figure."""

import os
import platform
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.figure import Figure

SERVER_CORE, LOAD_CORE = 0, 1


@contextmanager
def pinned_to(core: int | None) -> Iterator[None]:
    """Keep what is started in here on one core, where the system can and the machine has two; None leaves it free."""
    if core is None or not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def can_pin() -> bool:
    """Tell whether server and load can have a core each."""
    return hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) >= 2


def raise_file_limit() -> int:
    """Allow as many open files as the system lets us, here and in what is started from here. Returns the number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def yardsticks() -> list[Figure]:
    """Fixed work on the server's core: between two runs it tells a slow machine from slow code."""
    with pinned_to(SERVER_CORE):
        began = time.process_time()
        _ = {str(number): [number] for number in range(200_000)}
        seconds = time.process_time() - began
        return [
            Figure("Yardstick: a fixed piece of Python", "CPU ms", seconds * 1000),
            Figure("Yardstick: 300 bytes through a loopback connection", "CPU µs", _send_seconds() * 1e6),
        ]


def _send_seconds(count: int = 30_000) -> float:
    """What most of a delivery is: a send by one socket, here with the receipt by another."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sender:
        receiver, _ = listener.accept()
        with receiver:
            began = time.process_time()
            for _ in range(count):
                sender.send(bytes(300))
                receiver.recv(4096)
            return (time.process_time() - began) / count


def describe() -> str:
    """Name what the figures depend on beside the code."""
    pinning = "server and load on one core each" if can_pin() else "not pinned"
    return (
        f"{os.cpu_count()} cores ({_processor()}), {pinning}; "
        f"{platform.python_implementation()} {platform.python_version()}; {platform.system()} {platform.release()}; "
        f"load average before {os.getloadavg()[0]:.1f}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
