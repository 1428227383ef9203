"""A private RabbitMQ node, as real as any: started, stopped, killed, frozen and alarmed by the tests that own it."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote

SERVER_ENVIRONMENT = "NOTIFIER_TEST_RABBITMQ"
START_SECONDS = 60.0
CONTROL_SECONDS = 60.0
CONFIG = """
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.absolute = 4GB
log.file.level = info
"""


class RabbitMQ:
    """One node in a directory of its own, which goes with it. It keeps its data over `kill` and `start`."""

    def __init__(self, server: str | None = None) -> None:
        self._server = Path(server or os.environ.get(SERVER_ENVIRONMENT) or "/usr/lib/rabbitmq/bin/rabbitmq-server")
        self._directory = Path(tempfile.mkdtemp(prefix="notifier-rabbitmq-"))
        self.port, distribution, epmd = _free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._epmd_port = epmd
        (self._directory / "plugins").write_text("[].")
        (self._directory / "rabbitmq.conf").write_text(CONFIG.format(port=self.port))
        here = self._directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")},
            "HOME": str(here),
            "ERL_EPMD_PORT": str(epmd),
            "RABBITMQ_NODENAME": f"node{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(here / "mnesia"),
            "RABBITMQ_LOG_BASE": str(here / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(here / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(here / "rabbitmq"),
            # An idle scheduler that spins would cost the tests a core.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def url(self, user: str = "guest", password: str = "guest", vhost: str = "/") -> str:
        """Where to connect."""
        return f"amqp://{quote(user)}:{quote(password)}@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    @property
    def pid(self) -> int:
        """The process of the node."""
        assert self._process is not None
        return self._process.pid

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Return when the node answers AMQP. After `stop` or `kill` it goes on with its data."""
        if self._epmd is None:
            # Of our own, in the foreground: the one that Erlang would start outlives everything.
            self._epmd = subprocess.Popen(
                ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        with (self._directory / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [str(self._server)], env=self._environment, stdout=console, stderr=console, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"RabbitMQ did not start:\n{self.log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the node in good order."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it as a power cut would, but for the page cache."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        """Stop it in good order, if it runs, and start it again."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """Kill it, and take its directory away."""
        self.kill()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait(10)
            self._epmd = None
        shutil.rmtree(self._directory, ignore_errors=True)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Freeze the process: connections stay open, and nobody answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    # -- control -------------------------------------------------------------------------------------------------

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against this node: one or two seconds."""
        script = self._server.with_name("rabbitmqctl")
        done = subprocess.run(
            [str(script), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=CONTROL_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def stop_app(self) -> None:
        """End the broker, not the node, in good order."""
        self.control("stop_app")

    def start_app(self) -> None:
        """The broker is back."""
        self.control("start_app")

    @contextmanager
    def memory_alarm(self) -> Iterator[None]:
        """Block whoever publishes, for want of memory."""
        self.control("set_vm_memory_high_watermark", "absolute", "1")
        try:
            yield
        finally:
            self.control("set_vm_memory_high_watermark", "absolute", "4GB")

    @contextmanager
    def disk_alarm(self) -> Iterator[None]:
        """Block whoever publishes, for want of disk."""
        self.control("set_disk_free_limit", "1000TB")
        try:
            yield
        finally:
            self.control("set_disk_free_limit", "1MB")

    def add_user(self, name: str, password: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """A user with these permissions on the default virtual host."""
        self.control("add_user", name, password)
        self.set_permissions(name, configure=configure, write=write, read=read)

    def set_permissions(self, name: str, *, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Other permissions for a user."""
        self.control("set_permissions", name, configure, write, read)

    def change_password(self, name: str, password: str) -> None:
        """Another password for a user; open connections stay."""
        self.control("change_password", name, password)

    def delete_queue(self, name: str) -> None:
        """Take a queue or stream away, as an operator would by mistake."""
        self.control("delete_queue", name)

    def log_tail(self, lines: int = 30) -> str:
        """The end of what the node has said."""
        logs = [self._directory / "console.log", *(self._directory / "log").glob("*.log")]
        return "\n".join(
            "\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs if log.exists()
        )

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return bool(connection.recv(1))
        except OSError:
            return False


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, all different: the sockets are open at the same time."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
