"""Runs a peer: an ordinary child process in the foreground, with its files in a directory that goes with it."""

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks.load import LoadFailed
from tests.benchmarks.machine import SERVER_CORE, pinned_to

BOOT_SECONDS: Final = 10.0
STOP_SECONDS: Final = 5.0
PORTS: Final = range(20_000, 32_000)
CONNECTIONS: Final = 18_000
"""What peers are configured for: 15,000 sessions, and more than the sixteenth that nginx wants to keep free."""


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A directory for one peer's configuration and log."""
    with TemporaryDirectory(prefix="notifier-bench-") as name:
        yield Path(name)


@contextmanager
def running(command: Sequence[str | Path], log_path: Path, ports: Sequence[int]) -> Iterator[int]:
    """Start the command, wait until it listens, and stop it in the end. Gives its process id."""
    with pinned_to(SERVER_CORE), log_path.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        await_true(
            lambda: process.poll() is not None or all(map(_accepts, ports)), f"{command[0]} listens on {list(ports)}"
        )
        if process.poll() is not None:
            raise LoadFailed(f"{command[0]} did not start:\n{log_path.read_text(errors='replace')[-2000:]}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def program(name: str) -> str:
    """The path of an installed server. Raises LoadFailed when there is none."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise LoadFailed(f"there is no {name}: scripts/install_peers.sh installs Debian's, as root")
    return path


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, outside of the range from which connections get theirs meanwhile."""
    ports: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
        if len(ports) == count:
            return ports
    raise LoadFailed(f"there are no {count} free ports between {PORTS.start} and {PORTS.stop}")


def is_root() -> bool:
    """Some servers become another user when root starts them, who could not read their files here."""
    return os.geteuid() == 0


def await_true(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition. Raises LoadFailed when it does not come true."""
    deadline = time.monotonic() + BOOT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise LoadFailed(f"waited in vain until {what}")
        time.sleep(0.02)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
