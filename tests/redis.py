"""A Redis of the tests' own: a real server that may be killed, frozen, and started again, empty each time."""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from tests.rabbitmq import reserve_port

BOOT_SECONDS: Final = 20.0
PASSWORD: Final = "of-the-tests"
NO_REDIS: Final = "no Redis: set NOTIFIER_TEST_REDIS to a redis-server, or put redis-server on PATH"
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


def find_redis() -> Path | None:
    """The server of NOTIFIER_TEST_REDIS, else the one on PATH."""
    found = shutil.which(os.environ.get("NOTIFIER_TEST_REDIS") or "redis-server")
    return Path(found) if found else None


class RedisServer:
    """Runs one on a free port of loopback, with nothing on disk. It ends with this process, however that ends."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._directory = Path(tempfile.mkdtemp(prefix="notifier-redis-"))
        self._reserved = reserve_port()  # Held while it is down as well, so that nobody takes the port meanwhile.
        self.port: int = self._reserved.getsockname()[1]
        self.url = f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None  # None while it is down.

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._reserved.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start it, and return when it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        options += ["--dir", str(self._directory), "--requirepass", PASSWORD]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._server), *options],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=_end_with_us,  # noqa: PLW1509 - it calls the system and nothing else
            )
        deadline = time.monotonic() + BOOT_SECONDS
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"Redis did not start:\n{(self._directory / 'redis.log').read_text()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Cut it off as a crash does; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(BOOT_SECONDS)
            self._process = None

    def suspend(self) -> None:
        """Freeze it: its connections stay, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def heal(self) -> None:
        """Running and empty, whatever the test before did to it."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {PASSWORD}\r\n".encode())
                return connection.recv(3) == b"+OK"
        except OSError:
            return False


def _end_with_us() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
